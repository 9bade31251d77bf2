"""``memory`` and ``index-memory``: what a server, a vector and indexing occupy."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from bench import inputs, processes
from bench.harness import Options, Result, Rounds, at_most, compared, in_turns
from bench.vectors import DIMENSION, opened, settled, synthetic, vector_store

__all__ = ["run", "run_index"]

_FLOAT32_BYTES = 4 * DIMENSION
_LIMIT = 300
_SERVER_MB = 450.0

_SEARCHES = 100
_TOP_K = 10

_GROWTH = 1.10


def run(options: Options) -> list[Result]:
    """The resident memory of a server, and the bytes a vector after a hundred searches.

    Each round is a new process. Of vectors, anonymous memory only: pages of mapped files are the system's
    cache, and go when another program needs the room.
    """
    vectors = 20_000 if options.quick else 1_000_000
    path = vector_store(synthetic(vectors, _SEARCHES), options)
    # The warming up builds what is derived, which every later process finds.
    occupy = {"vectors": lambda: float(processes.python(__name__, path, str(vectors)))}
    grown = in_turns(occupy, until=options.until(0.6))["vectors"]
    with processes.small_workspace(options) as workspace:

        def resident() -> float:
            with processes.serving(workspace) as server:
                return float(processes.resident_bytes(server.pid))

        server = in_turns({"server": resident}, warm_up=0, until=options.until())["server"]
    return [
        compared(
            "memory, a server", "MB", server.times(1e-6), f"{_SERVER_MB:g} MB", _SERVER_MB, goal=at_most(1.0)
        ),
        compared(
            f"memory, {vectors:,} vectors",
            "bytes",
            grown,
            "float32",
            _FLOAT32_BYTES,
            goal=at_most(_LIMIT / _FLOAT32_BYTES, judged=not options.quick),
        ),
    ]


def run_index(options: Options) -> list[Result]:
    """The peak for 7,000 photos against that for 1,000, of anonymous memory: mapped files can be dropped.

    The two runs of a round go at once: memory, unlike time, doesn't suffer from that.
    """
    few, many = (20, 60) if options.quick else (1_000, 7_000)
    photos = inputs.small_photos(options)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        sets = [inputs.photo_set(folder / f"{items}", photos, items) for items in (few, many)]
        numbers = count()
        smaller: list[float] = []

        def peak(data: Path) -> int:
            workspace = folder / f"workspace-{next(numbers)}"
            try:
                return processes.run_peak("-t", "index", "-d", data, "--workspace", workspace, "--ocr", "off")
            finally:
                shutil.rmtree(workspace, ignore_errors=True)

        def both() -> float:
            small, large = pool.map(peak, sets)
            smaller.append(float(small))
            return float(large)

        larger = in_turns({"larger": both}, warm_up=0, until=options.until())["larger"]
    return [
        compared(
            f"index-memory, {many:,} photos",
            "MB",
            larger.times(1e-6),
            f"{few:,} photos",
            Rounds(tuple(smaller)).times(1e-6),
            goal=at_most(_GROWTH, judged=not options.quick),
            note="too few to see growth" if options.quick else "",
        )
    ]


def _bytes_a_vector(path: Path, vectors: int) -> float:
    """Opens the index and searches; the bytes a vector by which this process grew."""
    queries = synthetic(vectors, _SEARCHES).queries
    # This module has imported what searching needs, so that it isn't counted.
    before = processes.anonymous_bytes("self")
    with opened(path) as index:
        settled(index)
        for query in queries:
            index.search(query[None], _TOP_K)
        return (processes.anonymous_bytes("self") - before) / vectors


if __name__ == "__main__":
    print(json.dumps(_bytes_a_vector(Path(sys.argv[1]), int(sys.argv[2]))))
