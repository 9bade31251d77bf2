"""What computes a tower, and how it wants to be called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.models.runtimes.forms import Form
from crossmodal.models.runtimes.machine import torch_concurrency
from crossmodal.models.runtimes.network import Network

__all__ = ["Runner", "graph_runner", "sent", "torch_runner", "torch_type"]

# Rows of one run. On a CPU more of them make none quicker; few can be shared out between the cores.
_GRAPH = 8
_TORCH_CPU = 32
_TORCH_GPU = 256


@dataclass(frozen=True, slots=True)
class Runner:
    """``run`` makes vectors of any length, float32 (N, dimension), of up to ``batch`` photos or sentences;
    ``concurrency`` threads can usefully call it at once."""

    runtime: str
    concurrency: int
    batch: int
    run: Callable[[Any], npt.NDArray[np.float32]]


def torch_runner(form: Form, run: Callable[[Any], Tensor]) -> Runner:
    """``run`` of torch. On a CPU each call uses as many threads as torch has."""

    def computed(rows: Any) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(run(rows).float().cpu().numpy())

    on_cpu = form.device == "cpu"
    return Runner(
        str(form),
        torch_concurrency() if on_cpu else 1,
        _TORCH_CPU if on_cpu else _TORCH_GPU,
        computed,
    )


def graph_runner(
    form: Form, network: Network, prepare: Callable[[Any], tuple[npt.NDArray[Any], ...]]
) -> Runner:
    """A graph, whose inputs ``prepare`` makes of photos or sentences."""
    return Runner(str(form), network.concurrency, _GRAPH, lambda rows: network.run(*prepare(rows)))


def sent(tensor: Tensor, device: str) -> Tensor:
    """The tensor on ``device``; to a GPU through pinned memory, which is copied while the CPU goes on."""
    if device == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def torch_type(form: Form) -> torch.dtype:
    """torch's name of what ``form`` computes in."""
    return torch.bfloat16 if form.precision == "bf16" else torch.float32
