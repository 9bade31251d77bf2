"""How large the machine is for this process: cores and memory, by affinity and by the limits of cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cores", "available_memory"]

_ROOT = Path("/")

# Where nothing says how much memory there is.
_ASSUMED_MEMORY = 4 << 30


def available_cores(root: Path = _ROOT) -> int:
    """How many cores this process may use: its affinity, or less where a cgroup has a quota, rounded up.

    ``root`` is the folder that holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroup_folders(root, "cpu"):
        quota = _quota_of(folder)
        if quota is not None:
            cores = min(cores, quota)
    return max(cores, 1)


def available_memory(root: Path = _ROOT) -> int:
    """How many bytes of memory this process may use: the machine's, or less where a cgroup has a limit."""
    memory = _total_memory(root)
    for folder in _cgroup_folders(root, "memory"):
        # Version 2 has the first two; beyond memory.high a process is slowed down until it stands still.
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if limit is not None and limit > 0:
                memory = min(memory, limit)
    return memory


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders with the limits of ``controller``: of this process's cgroup and of all that it lies in."""
    own = _cgroup_paths(root)
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, system = line.partition(" - ")
        _, _, _, mounted, at, *_ = [*fields.split(), *[""] * 5]
        kind, *_, options = system.split() or [""]
        if kind == "cgroup2":
            path = own.get("")
        elif kind == "cgroup" and controller in options.split(","):
            path = own.get(controller)
        else:
            continue
        if path is None:
            continue
        mount = root / at.lstrip("/")
        # In a container the path may be the host's, of which nothing but the container's own part is mounted.
        inside = path.removeprefix(mounted.rstrip("/")).strip("/")
        folder = mount / inside
        yield from (part for part in (folder, *folder.parents) if part == mount or mount in part.parents)


def _cgroup_paths(root: Path) -> dict[str, str]:
    """The path of this process's cgroup by controller; that of version 2 under an empty name."""
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _quota_of(folder: Path) -> int | None:
    """The quota of a cgroup in cores, rounded up; None where it has none."""
    both = "".join(_lines(folder / "cpu.max")).split()
    if len(both) == 2 and both[0].isdigit():
        quota, period = int(both[0]), int(both[1])
    else:
        quota, period = _number(folder / "cpu.cfs_quota_us") or 0, _number(folder / "cpu.cfs_period_us") or 0
    return -(-quota // period) if quota > 0 and period > 0 else None


def _total_memory(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return _ASSUMED_MEMORY


def _number(path: Path) -> int | None:
    """The whole number in a file; None where there is no such file, or no number (``max``) in it."""
    try:
        return int("".join(_lines(path)))
    except ValueError:
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
