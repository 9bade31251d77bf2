"""What a figure depends on beside the code: the processor, threads, versions, and what else was running."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crossmodal.models.runtimes.forms import available_cores

__all__ = ["facts", "one_line"]

_LIBRARIES = (
    "torch",
    "open_clip_torch",
    "openvino",
    "onnxruntime",
    "faiss-cpu",
    "numpy",
    "lmdb",
    "jina",
    "pillow",
)

# What decides how quickly small numbers are multiplied.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def facts(threads: int | None) -> dict[str, Any]:
    """The machine as it is now; ``threads`` is what a benchmark was limited to, None for one a core.

    ``load_average`` is that of the last minute, on ``cores`` cores.
    """
    cpu = _processor()
    return {
        "processor": cpu.get("model name", platform.processor() or platform.machine()),
        "instructions": [name for name in _INSTRUCTIONS if name in cpu.get("flags", "").split()],
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "threads": threads or available_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def one_line(machine: Mapping[str, Any]) -> str:
    """The facts as a person reads them, without versions."""
    threads = machine["threads"]
    load = machine["load_average"]
    before, after = load if isinstance(load, list) else (load, load)
    instructions = ", ".join(machine["instructions"]) or "no AVX2"
    return (
        f"{machine['processor']}, {machine['cores']} cores ({instructions}), {machine['memory_gb']} GB; "
        f"{threads} thread{'' if threads == 1 else 's'}; load average {before} before, {after} after"
    )


def _processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"^([^\t\n]+)\t*: (.*)$", text.split("\n\n")[0], re.MULTILINE))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
