"""More searches than a server can answer, for a while: ``python -m tests.load [SECONDS] [WORKSPACE]``.

First the sustainable rate, by clients that each wait for their answer. Then three times that rate, whether
answers come or not (an open loop, so that a slow server is not spared), and at last one client again, until
its latency is what it was. Ten minutes unless SECONDS says otherwise.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

TIMES = 3.0
WARM_SECONDS = 5.0
CLIENTS = 32

# Goals of the issue: memory, goodput to the sustainable rate, seconds until normal, seconds to a refusal.
MEMORY_GROWTH, GOODPUT, NORMAL_SECONDS, REFUSAL_SECONDS = 0.05, 0.9, 5.0, 0.05

_numbers = count()


@dataclass
class Seen:
    """What came back in ``seconds``: latencies in seconds by status, 0 for a lost connection."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)

    def note(self, status: int, latency: float) -> None:
        self.latencies.setdefault(status, []).append(latency)

    def rate(self, status: int = 200) -> float:
        return len(self.latencies.get(status, ())) / self.seconds

    def percentile(self, share: float, status: int = 200) -> float:
        ordered = sorted(self.latencies.get(status, ())) or [0.0]
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def counts(self) -> Counter[int]:
        return Counter({status: len(found) for status, found in self.latencies.items()})


@dataclass(frozen=True)
class Report:
    """The figures of one run; latencies in seconds, memory in bytes."""

    sustainable: float
    offered: float
    overload: Seen
    before: int
    after: int
    normal_after: float
    # Searches answered for each CPU second of the server, at the sustainable rate and beyond it.
    by_cpu: tuple[float, float]

    @property
    def growth(self) -> float:
        return self.after / self.before - 1

    @property
    def goodput(self) -> float:
        return self.overload.rate() / self.sustainable

    def lines(self) -> Iterable[str]:
        seen = self.overload
        yield f"sustainable: {self.sustainable:.0f} searches/s; offered: {self.offered:.0f}/s"
        yield f"for {seen.seconds:.0f} s: {dict(seen.counts())}"
        yield f"goodput: {self.goodput:.2f} of the sustainable rate (goal {GOODPUT})"
        alone, beyond = self.by_cpu
        yield f"answered in a CPU second of the server: {alone:.0f}, then {beyond:.0f} ({beyond / alone:.2f})"
        for name, status in (("accepted", 200), ("refused", 429)):
            p50, p99 = (seen.percentile(share, status) * 1000 for share in (0.5, 0.99))
            yield f"{name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        grown = f"{self.growth:+.1%} (goal +{MEMORY_GROWTH:.0%})"
        yield f"memory: {self.before >> 20} to {self.after >> 20} MiB, {grown}"
        yield f"latency normal again after {self.normal_after:.1f} s (goal {NORMAL_SECONDS:.0f} s)"


class _Connections:
    """Connections to one server that are used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def search(self) -> int:
        """Asks for a sentence that was never asked; the status, 0 where the connection was lost."""
        body = b'{"text": "a dog number %d on the beach", "top_k": 5}' % next(_numbers)
        try:
            reader, writer = self._free.pop() if self._free else await self._connect()
            writer.write(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            return 0
        self._free.append((reader, writer))
        return int(head.split(b" ", 2)[1])

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._free), return_exceptions=True)


async def _one(connections: _Connections, seen: Seen) -> None:
    started = time.perf_counter()
    seen.note(await connections.search(), time.perf_counter() - started)


async def _closed_loop(connections: _Connections, seconds: float, clients: int) -> Seen:
    seen = Seen(seconds)
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            await _one(connections, seen)

    await asyncio.gather(*(client() for _ in range(clients)))
    return seen


async def _open_loop(connections: _Connections, seconds: float, rate: float) -> Seen:
    seen = Seen(seconds)
    under_way: set[asyncio.Task[None]] = set()
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        if (ahead := started + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(_one(connections, seen))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    # Where this program is the slower one, what it really offered counts.
    seen.seconds = time.perf_counter() - started
    await asyncio.gather(*under_way)
    return seen


async def _until_normal(connections: _Connections, normal: float) -> float:
    """Seconds until five searches in a row take no longer than ``normal`` each."""
    started, in_a_row = time.perf_counter(), 0
    while in_a_row < 5 and time.perf_counter() - started < 60:
        asked = time.perf_counter()
        good = await connections.search() == 200 and time.perf_counter() - asked <= normal
        in_a_row = in_a_row + 1 if good else 0
        if in_a_row == 1:
            first = asked
    return first - started if in_a_row >= 5 else float("inf")


def cpu_of(pids: Iterable[int]) -> float:
    """The CPU seconds that processes have used (proc(5), utime and stime)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of(pids: Iterable[int]) -> int:
    """The bytes that processes hold themselves (proc(5), RssAnon)."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
    return total


async def measure(port: int, pids: Iterable[int], seconds: float) -> Report:
    """Loads the server at ``port``, whose processes are ``pids``, for ``seconds``."""
    connections = _Connections(port)
    try:
        await _closed_loop(connections, WARM_SECONDS, CLIENTS)
        alone = await _closed_loop(connections, 2.0, 1)
        started = cpu_of(pids)
        sustained = await _closed_loop(connections, WARM_SECONDS, CLIENTS)
        alone_cpu = sustained.counts()[200] / max(cpu_of(pids) - started, 0.01)
        sustainable = sustained.rate()
        # The queue and its connections have been full once before memory is compared.
        await _open_loop(connections, 3.0, TIMES * sustainable)
        before = memory_of(pids)
        started = cpu_of(pids)
        overload = await _open_loop(connections, seconds, TIMES * sustainable)
        by_cpu = alone_cpu, overload.counts()[200] / max(cpu_of(pids) - started, 0.01)
        normal_after = await _until_normal(connections, 2 * max(alone.percentile(0.99), 0.02))
        offered = sum(overload.counts().values()) / overload.seconds
        after = memory_of(pids)
        return Report(sustainable, offered, overload, before, after, normal_after, by_cpu)
    finally:
        await connections.close()


def main(arguments: list[str]) -> int:
    """Starts a server over a workspace, by default the toy photos', and prints the figures."""
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import children_of, run_app, start_server

    seconds = float(arguments[0]) if arguments else 600.0
    workspace = Path(arguments[1]) if len(arguments) > 1 else Path("workspace")
    if not (workspace / "index.sqlite").exists():
        run_app("index", "toy-data", "--workspace", workspace, timeout=300)
    server = start_server("query_restful", "--workspace", workspace)
    try:
        port = int(server.url.rpartition(":")[2])
        report = asyncio.run(measure(port, children_of(server.process.pid), seconds))
    finally:
        server.stop()
    print("\n".join(report.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
