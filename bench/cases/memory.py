"""``memory``: what a server occupies, and what a vector does in a process that searches."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from bench import inputs, processes
from bench.harness import Rounds, in_turns
from bench.options import Options
from bench.results import Result, at_most, compared
from bench.vectors import DIMENSION, synthetic, vector_store

__all__ = ["run"]

_FLOAT32_BYTES = 4 * DIMENSION
_LIMIT = 300
_SERVER_MB = 450.0

_SEARCHES = 100
_TOP_K = 10


def run(options: Options) -> list[Result]:
    """The resident memory of a server, and the bytes a vector after a hundred searches.

    Each round is a new process. Of vectors, anonymous memory only: pages of mapped files are the system's
    cache, and go when another program needs the room.
    """
    count = 20_000 if options.quick else 1_000_000
    path = vector_store(synthetic(count, _SEARCHES), options)
    # The warming up builds what is derived, which every later process finds.
    ours = in_turns({"ours": lambda: _occupied(path, count)}, until=options.until())["ours"]
    return [
        _server(options),
        compared(
            f"memory, {count:,} vectors",
            "bytes",
            ours,
            "float32",
            Rounds((float(_FLOAT32_BYTES),) * len(ours.values)),
            goal=at_most(_LIMIT / _FLOAT32_BYTES, judged=not options.quick),
        ),
    ]


def _server(options: Options) -> Result:
    """All processes of a server with the default model, after a sentence and a photo."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        workspace = Path(name) / "workspace"
        photos = inputs.photo_files(options)
        processes.index(inputs.photo_set(Path(name) / "photos", photos, 16), workspace)

        def resident() -> float:
            with processes.serving(workspace) as server:
                return float(processes.resident_bytes(server.pid))

        rounds = in_turns({"server": resident}, warm_up=0, until=options.until(0.4))["server"]
    allowed = Rounds((_SERVER_MB,) * len(rounds.values))
    return compared(
        "memory, a server",
        "MB",
        rounds.times(1e-6),
        f"{_SERVER_MB:g} MB",
        allowed,
        goal=at_most(1.0),
    )


def _occupied(path: Path, count: int) -> float:
    occupied: float = processes.python(__name__, path, str(count))
    return occupied


def _main(path: Path, count: int) -> None:
    """Opens the index, searches, and prints the bytes a vector by which the process grew."""
    from bench.tiers import opened, settled

    queries = synthetic(count, _SEARCHES).queries
    # Loads what searching imports, so that it isn't counted.
    before = processes.anonymous_bytes("self")
    with opened(path) as index:
        settled(index)
        for query in queries:
            index.search(query[None], _TOP_K)
        grown = processes.anonymous_bytes("self") - before
    print(json.dumps(grown / count))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
