"""A container's limits count as the machine's size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossmodal.machine import available_cores, available_memory

GIGABYTE = 1 << 30
CORES = len(os.sched_getaffinity(0))


def machine(root: Path, files: dict[str, str]) -> Path:
    """A made /proc and /sys: 16 GB of memory, and ``files`` by their path."""
    for name, text in {"proc/meminfo": f"MemTotal: {16 << 20} kB\nMemFree: 1 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def mount_v2(at: str = "/sys/fs/cgroup") -> str:
    return f"30 23 0:26 / {at} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def mount_v1(controllers: str, mounted: str = "/") -> str:
    return f"31 23 0:27 {mounted} /sys/fs/cgroup/{controllers} rw - cgroup cgroup rw,{controllers}\n"


def test_without_cgroups_it_is_the_machine(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    assert available_cores(root) == CORES
    assert available_memory(root) == 16 * GIGABYTE
    # Not even /proc.
    assert available_memory(tmp_path / "nothing") > 0


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("100001 100000", 2), ("max 100000", 64)])
def test_a_quota_of_version_2_is_rounded_up(tmp_path: Path, quota: str, cores: int) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/mountinfo": mount_v2(),
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": f"{quota}\n",
            "sys/fs/cgroup/memory.max": f"{3 * GIGABYTE}\n",
        },
    )
    assert available_cores(root) == min(cores, CORES)
    assert available_memory(root) == 3 * GIGABYTE


def test_the_narrowest_of_all_groups_above_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/mountinfo": mount_v2(),
            "proc/self/cgroup": "0::/user.slice/search.service\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{2 * GIGABYTE}\n",
            "sys/fs/cgroup/user.slice/cpu.max": "20000 100000\n",
            "sys/fs/cgroup/user.slice/search.service/memory.max": "max\n",
            "sys/fs/cgroup/user.slice/search.service/cpu.max": "max 100000\n",
            # Of others, which don't count.
            "sys/fs/cgroup/other.slice/memory.max": "1000\n",
        },
    )
    assert available_cores(root) == 1
    assert available_memory(root) == 2 * GIGABYTE


def test_memory_high_counts_as_a_limit(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/mountinfo": mount_v2(),
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.high": f"{GIGABYTE}\n",
        },
    )
    assert available_memory(root) == GIGABYTE


def test_version_1_has_a_mount_for_each_controller(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/mountinfo": mount_v1("cpu,cpuacct") + mount_v1("memory"),
            "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "90000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            # No limit is a number that is larger than any memory.
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{5 * GIGABYTE}\n",
        },
    )
    assert available_cores(root) == 1
    assert available_memory(root) == 5 * GIGABYTE


def test_a_container_sees_its_own_part_of_version_1_under_the_hosts_path(tmp_path: Path) -> None:
    path = "/docker/0123abc"
    root = machine(
        tmp_path,
        {
            "proc/self/mountinfo": mount_v1("cpu", path) + mount_v1("memory", path),
            "proc/self/cgroup": f"4:memory:{path}\n3:cpu:{path}\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIGABYTE}\n",
        },
    )
    assert available_cores(root) == 1
    assert available_memory(root) == GIGABYTE


def test_torch_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from crossmodal.models.runtimes import forms

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(forms, "available_cores", lambda: 1)
        forms.set_torch_threads(None)
        assert torch.get_num_threads() == 1
        forms.set_torch_threads(2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
