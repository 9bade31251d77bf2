"""The ways in which a network can be computed on this machine: a library, a precision and a device."""

from __future__ import annotations

import copy
import logging
import platform
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from crossmodal.extras import EXTRAS
from crossmodal.machine import available_cores

__all__ = [
    "ONNX_F32",
    "OPENVINO_BF16",
    "OPENVINO_F32",
    "TORCH_BF16",
    "TORCH_BF16_CUDA",
    "TORCH_F32",
    "Form",
    "in_form",
    "instruction_sets",
    "openvino_core",
    "set_torch_threads",
    "torch_concurrency",
]

_log = logging.getLogger(__name__)

Library = Literal["openvino", "onnx", "torch"]

_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}

# The CPU instructions that runtimes choose their kernels by.
_DECISIVE = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"),
    *("asimddp", "bf16", "i8mm", "sve"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """``library`` computing in ``precision`` on ``device``; inputs and outputs don't depend on it."""

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

    def unusable(self) -> str | None:
        """Why it cannot be used on this machine, or None: the package is missing or cannot be imported, there
        is no such device, or the CPU emulates bfloat16 in float32."""
        if reason := _missing(self.package):
            return reason
        if self.device == "cuda":
            import torch

            return None if torch.cuda.is_available() else "there is no CUDA device"
        if self.precision == "f32":
            return None
        if self.library == "openvino":
            able = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        else:
            able = "bf16" in instruction_sets()
        return None if able else "the CPU has no bfloat16"


OPENVINO_BF16 = Form("openvino", "bf16")
OPENVINO_F32 = Form("openvino", "f32")
ONNX_F32 = Form("onnx", "f32")
TORCH_BF16 = Form("torch", "bf16")
TORCH_BF16_CUDA = Form("torch", "bf16", "cuda")
TORCH_F32 = Form("torch", "f32")


def in_form(network: Any, form: Form) -> Any:
    """The torch module ``network`` in the precision of ``form``; the given one is left unchanged."""
    return copy.deepcopy(network).bfloat16() if form.precision == "bf16" else network


def torch_concurrency() -> int:
    """How many threads can usefully call torch at once: each call takes all of torch's threads."""
    import torch

    return max(1, available_cores() // torch.get_num_threads())


def set_torch_threads(threads: int | None) -> None:
    """Lets each call of torch take ``threads``; None: as many as it takes by itself, which knows nothing of a
    container's quota, but no more than there are cores."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), available_cores()) if threads is None else threads)


@cache
def openvino_core() -> Any:
    """OpenVINO's ``Core`` of this process."""
    # The runtime itself sends no telemetry; only OpenVINO's converters do, and none is used.
    import openvino

    return openvino.Core()


@cache
def instruction_sets() -> str:
    """The CPU's architecture and those of its instructions that change a network's embeddings, as one line;
    where they cannot be read, the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return " ".join([platform.machine(), *(name for name in _DECISIVE if name in flags)])


def _missing(package: str) -> str | None:
    if find_spec(package):
        return _import_failure(package)
    extra = f': pip install "crossmodal-search[{EXTRAS[package][0]}]"' if package in EXTRAS else ""
    return f"{package} is not installed{extra}"


@cache
def _import_failure(package: str) -> str | None:
    """Why ``package``, which is installed, cannot be imported, for example for lack of a system library."""
    try:
        import_module(package)
    except (ImportError, OSError) as error:
        reason = f"{package} is installed and cannot be imported ({' '.join(str(error).split())[:300]})"
        _log.warning("%s.", reason)
        return reason
    return None
