"""What of this machine decides how a network is computed."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

__all__ = ["available_cores", "instruction_sets", "torch_concurrency"]

# The CPU instructions that runtimes choose their kernels by.
_DECISIVE = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def torch_concurrency() -> int:
    """How many threads can usefully call torch at once: each call takes as many cores as it was told to."""
    import torch

    return max(1, available_cores() // torch.get_num_threads())


@cache
def instruction_sets() -> str:
    """The CPU's architecture and those of its instructions that change what a network's vectors are, as one
    line; where they cannot be read, the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return " ".join([platform.machine(), *(name for name in _DECISIVE if name in flags)])
