"""``query``: a sentence over HTTP to a running server."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from itertools import count, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import inputs, processes
from bench.harness import (
    Contender,
    Options,
    Result,
    Rounds,
    at_least,
    at_most,
    compared,
    count_calls,
    in_turns,
    measured,
    timed,
)
from crossmodal import PhotoIndex
from crossmodal.models import DEFAULT_MODEL, load_text_encoder

__all__ = ["run"]

_TOP_K = 10
_CLIENTS = (1, 8, 32)
# More at once make no sentence quicker.
_BATCH = 128

_MORE_SECONDS = 0.003
_OF_ENCODER = 0.32

_BODIES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "/v1/search": lambda sentence: {"text": sentence, "top_k": _TOP_K},
    "/search": lambda sentence: {"data": [sentence], "top_k": _TOP_K, "mode": "search"},
}


def run(options: Options) -> list[Result]:
    """p50 and p99 of one client and queries/s of several, each sentence asked once.

    The clients are threads of this process, so what they need of the cores is missing to the server.
    """
    photos, asked, seconds = (64, 60, 0.5) if options.quick else (2_000, 200, 2.0)
    sentences = _Distinct(options)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        workspace = Path(name) / "workspace"
        processes.index(
            inputs.photo_set(Path(name) / "photos", inputs.small_photos(options), photos), workspace
        )
        with processes.serving(workspace) as server, PhotoIndex(workspace) as index:
            calls = measured(
                "query, calls of our own code",
                "calls",
                count_calls(lambda: index.search_text(next(sentences), 3)),
            )
            results = _latencies(server, index, sentences, asked, options)
            return [calls, *results, *_throughput(server, sentences, seconds, options)]


def _latencies(
    server: processes.Server,
    index: PhotoIndex,
    sentences: Iterator[str],
    asked: int,
    options: Options,
) -> list[Result]:
    tails: dict[str, list[float]] = {}

    def asking(name: str, ask: Callable[[str], object]) -> Contender:
        tails[name] = []

        def measure() -> float:
            taken = [timed(lambda: ask(next(sentences))) for _ in range(asked)]
            tails[name].append(quantiles(taken, n=100)[-1])
            return median(taken)

        return measure

    connection = server.connect()
    contenders = {path: asking(path, partial(_ask, connection, path)) for path in _BODIES}
    contenders["in process"] = asking("in process", lambda sentence: index.search_text(sentence, _TOP_K))
    rounds = in_turns(contenders, until=options.until(0.4))
    connection.close()
    inside = rounds.pop("in process")
    allowed = inside.plus(_MORE_SECONDS).times(1e3)
    results = [
        compared(
            f"query, {path}, p50",
            "ms",
            each.times(1e3),
            f"encode, search and fetch in one process, and {_MORE_SECONDS * 1e3:g} ms",
            allowed,
            goal=at_most(1.0),
            note=f"in one process {inside.median * 1e3:.2f} ms",
        )
        for path, each in rounds.items()
    ]
    return results + [
        compared(
            f"query, {path}, p99",
            "ms",
            Rounds(tuple(tails[path][-len(inside.values) :])).times(1e3),
            "encode, search and fetch in one process, p99",
            Rounds(tuple(tails["in process"][-len(inside.values) :])).times(1e3),
        )
        for path in rounds
    ]


def _throughput(
    server: processes.Server, sentences: Iterator[str], seconds: float, options: Options
) -> list[Result]:
    encoder = load_text_encoder(DEFAULT_MODEL)

    def encode() -> float:
        batches = [list(islice(sentences, _BATCH)) for _ in range(4)]
        with ThreadPoolExecutor(encoder.concurrency) as pool:
            return timed(lambda: list(pool.map(encoder.encode, batches))) / (len(batches) * _BATCH)

    contenders: dict[str, Contender] = {
        f"{clients}": partial(_seconds_a_query, server, sentences, clients, seconds) for clients in _CLIENTS
    }
    rounds = {
        name: each.rate()
        for name, each in in_turns({**contenders, "encoder": encode}, until=options.until()).items()
    }
    return [
        compared(
            f"query, {clients} client{'s' if clients > 1 else ''}",
            "queries/s",
            rounds[f"{clients}"],
            "the encoder alone, in batches",
            rounds["encoder"],
            goal=at_least(_OF_ENCODER) if clients == max(_CLIENTS) else None,
        )
        for clients in _CLIENTS
    ]


def _seconds_a_query(
    server: processes.Server, sentences: Iterator[str], clients: int, seconds: float
) -> float:
    """The seconds for one query while ``clients`` ask one after the other, each on its own connection."""
    ready = threading.Barrier(clients)

    def work() -> tuple[int, float, float]:
        connection = server.connect()
        connection.connect()
        ready.wait()
        started = time.perf_counter()
        answers = 0
        while time.perf_counter() - started < seconds:
            _ask(connection, "/v1/search", next(sentences))
            answers += 1
        connection.close()
        return answers, started, time.perf_counter()

    with ThreadPoolExecutor(clients) as pool:
        done = [future.result() for future in [pool.submit(work) for _ in range(clients)]]
    whole = max(end for _, _, end in done) - min(begin for _, begin, _ in done)
    return whole / sum(answers for answers, _, _ in done)


def _ask(connection: HTTPConnection, path: str, sentence: str) -> None:
    processes.ask(connection, path, _BODIES[path](sentence))


class _Distinct:
    """Sentences that never come twice, so that no cache of recent queries helps; safe in several threads."""

    def __init__(self, options: Options) -> None:
        self._known = inputs.captions(options, 100_000)
        self._numbers = count()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        again, position = divmod(next(self._numbers), len(self._known))
        return f"{self._known[position]} {again}" if again else self._known[position]
