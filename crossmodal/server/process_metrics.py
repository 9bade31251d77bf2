"""Memory, time and open files of all the processes of one server, for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["ProcessTree"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessTree(Collector):
    """The process ``root`` and all below it, each by its name and number; read from /proc at each scrape.

    Memory is what is resident, so what processes share counts in each of them.
    """

    def __init__(self, root: int) -> None:
        self._root = root

    def collect(self) -> Iterator[Metric]:
        """The three families."""
        labels = ["name", "pid"]
        memory = GaugeMetricFamily(
            "crossmodal_process_resident_bytes", "Resident memory of a process", labels=labels
        )
        files = GaugeMetricFamily("crossmodal_process_open_files", "Open files of a process", labels=labels)
        seconds = CounterMetricFamily(
            "crossmodal_process_cpu_seconds", "Processor time that a process has used", labels=labels
        )
        for pid in _tree(self._root):
            # It may end while it is looked at.
            with suppress(OSError):
                folder = Path(f"/proc/{pid}")
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                opened = len(list((folder / "fd").iterdir()))
                memory.add_metric([name, str(pid)], int(fields[21]) * _PAGE)
                files.add_metric([name, str(pid)], opened)
                seconds.add_metric([name, str(pid)], (int(fields[11]) + int(fields[12])) / _TICKS)
        yield from (memory, files, seconds)


def _tree(root: int) -> Iterator[int]:
    yield root
    children: list[str] = []
    with suppress(OSError):
        for thread in list(Path(f"/proc/{root}/task").iterdir()):
            with suppress(OSError):
                children += (thread / "children").read_text().split()
    for child in children:
        yield from _tree(int(child))
