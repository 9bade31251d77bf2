"""More searches than a server can answer, for a while: ``python -m tests.load [SECONDS] [WORKSPACE]``.

First the sustainable rate, by clients that each wait for their answer. Then three times that rate, whether
answers come or not (an open loop, so that a slow server is not spared), then one client again, until its
latency is what it was, and at last the sustainable rate once more. Ten minutes unless SECONDS says otherwise.

The clients run on the server's machine, so they are to cost little: callbacks on connections that are used
again, and nothing parsed but the status and the length.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import uvloop

TIMES = 3.0
WARM_SECONDS = 5.0
WARM_OVERLOAD_SECONDS = 10.0
SUSTAINED_SECONDS = 10.0
CLIENTS = 32

# More than the server remembers sentences and latencies of, so that memory is compared with both full.
WARM_SEARCHES = 2500

# Goals of the issue: memory, goodput to the sustainable rate, seconds until normal, seconds to a refusal.
MEMORY_GROWTH, GOODPUT, NORMAL_SECONDS, REFUSAL_SECONDS = 0.05, 0.9, 5.0, 0.05

# The open loop asks for what is due so often.
_TICK_SECONDS = 0.002

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)

_numbers = count()


@dataclass
class Seen:
    """What came back in ``seconds``: latencies in seconds by status, 0 for a lost connection.

    ``cpu`` are the seconds of CPU that the server took for it.
    """

    seconds: float = 0.0
    cpu: float = 0.0
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

    def by_cpu(self) -> float:
        """How many searches were answered for each CPU second of the server."""
        return self.counts()[200] / max(self.cpu, 0.01)


@dataclass(frozen=True)
class Report:
    """The figures of one run: the sustainable rate before and after, and beyond it; memory in bytes."""

    sustained: tuple[Seen, Seen]
    overload: Seen
    before: int
    after: int
    normal_after: float
    # CPU seconds of the clients for each request under overload.
    client_cpu: float = 0.0

    @property
    def growth(self) -> float:
        return self.after / self.before - 1

    @property
    def sustainable(self) -> float:
        return sum(seen.rate() for seen in self.sustained) / len(self.sustained)

    @property
    def goodput(self) -> float:
        return self.overload.rate() / self.sustainable

    @property
    def goodput_by_cpu(self) -> float:
        """As ``goodput``, of answers a CPU second: what else runs on the machine hardly touches it."""
        return self.overload.by_cpu() / self._sustained_by_cpu

    @property
    def refusal_cpu(self) -> float:
        """The CPU seconds of a refusal, where an answer takes as long as at the sustainable rate."""
        counts = self.overload.counts()
        return (self.overload.cpu - counts[200] / self._sustained_by_cpu) / max(counts[429], 1)

    @property
    def _sustained_by_cpu(self) -> float:
        return sum(seen.by_cpu() for seen in self.sustained) / len(self.sustained)

    def lines(self) -> Iterable[str]:
        seen = self.overload
        offered = sum(seen.counts().values()) / seen.seconds
        before, after = (kept.rate() for kept in self.sustained)
        yield f"sustainable: {before:.0f} searches/s, {after:.0f} afterwards; offered: {offered:.0f}/s"
        yield f"for {seen.seconds:.0f} s: {dict(seen.counts())}"
        yield f"goodput: {self.goodput:.2f} of the sustainable rate (goal {GOODPUT})"
        alone = ", ".join(f"{kept.by_cpu():.0f}" for kept in self.sustained)
        yield (
            f"answers for a CPU second of the server: {alone} at the sustainable rate, {seen.by_cpu():.0f} "
            f"beyond it ({self.goodput_by_cpu:.2f})"
        )
        yield f"CPU of a refusal: {self.refusal_cpu * 1000:.2f} ms; of the client for a request: " + (
            f"{self.client_cpu * 1000:.2f} ms"
        )
        for name, status in (("accepted", 200), ("refused", 429)):
            p50, p99 = (seen.percentile(share, status) * 1000 for share in (0.5, 0.99))
            yield f"{name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        grown = f"{self.growth:+.1%} (goal +{MEMORY_GROWTH:.0%})"
        yield f"memory: {self.before / 2**20:.1f} to {self.after / 2**20:.1f} MiB, {grown}"
        yield f"latency normal again after {self.normal_after:.1f} s (goal {NORMAL_SECONDS:.0f} s)"


class _Connection(asyncio.Protocol):
    """One connection, with at most one search under way."""

    def __init__(self, clients: _Clients) -> None:
        self._clients = clients
        self._came = b""
        self._whole: int | None = None
        self.answered: Callable[[int], None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        if self._whole is None:
            end = self._came.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._came, 0, end)
            assert length is not None, self._came
            self._whole = end + 4 + int(length[1])
        if len(self._came) >= self._whole:
            status = int(self._came[9:12])
            self._came, self._whole = b"", None
            self._end(status)
            self._clients.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._clients.free:
            self._clients.free.remove(self)
        self._end(0)

    def _end(self, status: int) -> None:
        answered, self.answered = self.answered, None
        if answered is not None:
            answered(status)


class _Clients:
    """Clients of one server, on connections that are used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connecting: set[asyncio.Task[None]] = set()
        self.free: list[_Connection] = []

    def ask(self, answered: Callable[[int], None]) -> None:
        """Searches for a sentence that was never asked; ``answered`` gets the status, 0 without an answer."""
        if self.free:
            _send(self.free.pop(), answered)
        else:
            task = asyncio.create_task(self._connect(answered))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def search(self) -> int:
        """As ``ask``; returns the status."""
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ask(status.set_result)
        return await status

    async def _connect(self, answered: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            answered(0)
        else:
            _send(connection, answered)

    def close(self) -> None:
        for connection in self.free:
            connection.transport.close()


def _send(connection: _Connection, answered: Callable[[int], None]) -> None:
    connection.answered = answered
    body = b'{"text": "a dog number %d on the beach", "top_k": 5}' % next(_numbers)
    connection.transport.write(
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


async def _closed_loop(
    clients: _Clients, pids: Iterable[int], seconds: float, number: int, least: int = 0
) -> Seen:
    """``number`` clients that each wait for their answer, for ``seconds`` and ``least`` searches."""
    seen = Seen(seconds)
    cpu = cpu_of(pids)
    end = time.perf_counter() + seconds
    left = least

    async def client() -> None:
        nonlocal left
        while (asked := time.perf_counter()) < end or left > 0:
            left -= 1
            seen.note(await clients.search(), time.perf_counter() - asked)

    await asyncio.gather(*(client() for _ in range(number)))
    seen.cpu = cpu_of(pids) - cpu
    return seen


async def _open_loop(clients: _Clients, pids: Iterable[int], seconds: float, rate: float) -> Seen:
    """``rate`` searches a second for ``seconds``, and then until all have an answer."""
    seen = Seen()
    cpu = cpu_of(pids)
    total, asked, left = int(rate * seconds), 0, int(rate * seconds)
    done = asyncio.Event()

    def ask() -> None:
        at = time.perf_counter()

        def answered(status: int) -> None:
            nonlocal left
            seen.note(status, time.perf_counter() - at)
            left -= 1
            if not left:
                done.set()

        clients.ask(answered)

    started = time.perf_counter()
    while asked < total:
        due = min(int((time.perf_counter() - started) * rate) + 1, total)
        for _ in range(due - asked):
            ask()
        asked = due
        await asyncio.sleep(_TICK_SECONDS)
    # Where this program is the slower one, what it really offered counts.
    seen.seconds = time.perf_counter() - started
    async with asyncio.timeout(120):
        await done.wait()
    seen.cpu = cpu_of(pids) - cpu
    return seen


async def _until_normal(clients: _Clients, normal: float) -> float:
    """Seconds until five searches in a row take no longer than ``normal`` each."""
    started, in_a_row = time.perf_counter(), 0
    while in_a_row < 5 and time.perf_counter() - started < 60:
        asked = time.perf_counter()
        good = await clients.search() == 200 and time.perf_counter() - asked <= normal
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


def measure(port: int, pids: Iterable[int], seconds: float) -> Report:
    """Loads the server at ``port``, whose processes are ``pids``, for ``seconds``."""
    return uvloop.run(_measure(_Clients(port), list(pids), seconds))


async def _measure(clients: _Clients, pids: list[int], seconds: float) -> Report:
    try:
        await _closed_loop(clients, pids, WARM_SECONDS, CLIENTS, WARM_SEARCHES)
        alone = await _closed_loop(clients, pids, 2.0, 1)
        sustained = await _closed_loop(clients, pids, SUSTAINED_SECONDS, CLIENTS)
        # The queue and its connections have been full once before memory is compared.
        await _open_loop(clients, pids, WARM_OVERLOAD_SECONDS, TIMES * sustained.rate())
        before = memory_of(pids)
        client_cpu = cpu_of([os.getpid()])
        overload = await _open_loop(clients, pids, seconds, TIMES * sustained.rate())
        client_cpu = (cpu_of([os.getpid()]) - client_cpu) / sum(overload.counts().values())
        normal_after = await _until_normal(clients, 2 * max(alone.percentile(0.99), 0.02))
        after = memory_of(pids)
        again = await _closed_loop(clients, pids, SUSTAINED_SECONDS, CLIENTS)
        return Report((sustained, again), overload, before, after, normal_after, client_cpu)
    finally:
        clients.close()


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
        report = measure(port, children_of(server.process.pid), seconds)
    finally:
        server.stop()
    print("\n".join(report.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
