"""The ways in which a network can be computed: a library, and the numbers it computes with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

from crossmodal.extras import EXTRAS
from crossmodal.models.runtimes.machine import instruction_sets

__all__ = [
    "NUMPY_F32",
    "ONNX_F32",
    "OPENVINO_BF16",
    "OPENVINO_F32",
    "TORCH_BF16",
    "TORCH_BF16_CUDA",
    "TORCH_F32",
    "Form",
]

_log = logging.getLogger(__name__)

Library = Literal["openvino", "onnx", "torch", "numpy"]

_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch", "numpy": "numpy"}


@dataclass(frozen=True, slots=True)
class Form:
    """``library`` computing in ``precision``, whatever its inputs and outputs are, on ``device``."""

    library: Library
    precision: Literal["f32", "bf16"]
    device: Literal["cpu", "cuda"] = "cpu"

    def __str__(self) -> str:
        name = f"{self.library} {self.precision}"
        return name if self.device == "cpu" else f"{name} {self.device}"

    @property
    def package(self) -> str:
        """The Python package that it needs."""
        return _PACKAGES[self.library]

    def belongs_to(self, runtime: str) -> bool:
        """Whether ``--runtime`` ``runtime``, other than auto, may take it.

        For sentences of the project's own models, ``torch`` is numpy, which computes the same.
        """
        return runtime == ("torch" if self.library == "numpy" else self.library)

    def unusable(self) -> str | None:
        """Why it cannot be used on this machine, or None: the package is missing or cannot be imported, there
        is no such device, or the CPU computes in bfloat16 only by way of float32."""
        if reason := _missing(self.package):
            return reason
        if self.device == "cuda":
            import torch

            return None if torch.cuda.is_available() else "there is no CUDA device"
        if self.precision == "bf16" and self.library == "openvino":
            from crossmodal.models.runtimes.openvino_network import computes_in

            return None if computes_in("BF16") else "the CPU has no bfloat16"
        if self.precision == "bf16" and "bf16" not in instruction_sets():
            return "the CPU has no bfloat16"
        return None


def _missing(package: str) -> str | None:
    if find_spec(package):
        return _import_failure(package)
    extra = f': pip install "crossmodal-search[{EXTRAS[package][0]}]"' if package in EXTRAS else ""
    return f"{package} is not installed{extra}"


@cache
def _import_failure(package: str) -> str | None:
    """Why ``package``, which is installed, cannot be imported, for example for want of a system library."""
    try:
        import_module(package)
    except (ImportError, OSError) as error:
        reason = f"{package} is installed and cannot be imported ({' '.join(str(error).split())[:300]})"
        _log.warning("%s.", reason)
        return reason
    return None


OPENVINO_BF16 = Form("openvino", "bf16")
OPENVINO_F32 = Form("openvino", "f32")
ONNX_F32 = Form("onnx", "f32")
TORCH_BF16 = Form("torch", "bf16")
TORCH_BF16_CUDA = Form("torch", "bf16", "cuda")
TORCH_F32 = Form("torch", "f32")
NUMPY_F32 = Form("numpy", "f32")
