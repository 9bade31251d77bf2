"""``open``: how soon a server answers after its start, and an index after a crash."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from bench import inputs, processes
from bench.harness import Rounds, in_turns, timed
from bench.options import Options
from bench.results import Result, at_most, compared
from bench.tiers import forget_derived, opened
from bench.vectors import synthetic, vector_store
from crossmodal.stores import Store

__all__ = ["run"]

_OF_BARE_MODEL = 1.5
_MORE_SECONDS = 2.0
_TOP_K = 10


def run(options: Options) -> list[Result]:
    """Seconds until the first answer, each time in new processes."""
    return [_after_start(options), _after_crash(options)]


def _after_start(options: Options) -> Result:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        workspace = Path(name) / "workspace"
        processes.index(inputs.photo_set(Path(name) / "photos", inputs.photo_files(options), 16), workspace)

        def start() -> float:
            with processes.serving(workspace) as server:
                return server.seconds

        # Files are in the system's cache once the index has been made.
        rounds = in_turns(
            {"server": start, "model": processes.start_bare_model}, warm_up=0, until=options.until(0.6)
        )
    return compared(
        "open, the query server",
        "s",
        rounds["server"],
        "importing the runtime and reading the model",
        rounds["model"],
        goal=at_most(_OF_BARE_MODEL),
    )


def _after_crash(options: Options) -> Result:
    count = 20_000 if options.quick else 1_000_000
    path = vector_store(synthetic(count, 1), options)

    def answer() -> float:
        forget_derived(path)
        return float(processes.python(__name__, "answer", path))

    rounds = in_turns(
        {"answer": answer, "read": lambda: float(processes.python(__name__, "read", path))},
        warm_up=0,
        until=options.until(),
    )
    return _compared(
        f"open, {count:,} vectors after a crash",
        rounds["answer"],
        "reading the vectors once",
        rounds["read"],
        judged=not options.quick,
    )


def _compared(name: str, ours: Rounds, reference: str, theirs: Rounds, *, judged: bool) -> Result:
    allowed = Rounds(tuple(value + _MORE_SECONDS for value in theirs.values))
    return compared(
        name,
        "s",
        ours,
        f"{reference}, and {_MORE_SECONDS:g} s",
        allowed,
        goal=at_most(1.0, judged=judged),
        note=f"{reference}: {theirs.median:.2f} s",
    )


def _answer(path: Path) -> float:
    """The seconds until the index has answered its first query."""
    query = synthetic(1, 1).queries
    started = time.perf_counter()
    with opened(path) as index:
        index.search(query, _TOP_K)
        return time.perf_counter() - started


def _read(path: Path) -> float:
    """The seconds that reading each vector from the store takes."""
    with Store.open_reader(path) as store, store.vector_snapshot() as snapshot:
        return timed(lambda: [block.vectors.sum() for block in snapshot.blocks()])


if __name__ == "__main__":
    print(json.dumps({"answer": _answer, "read": _read}[sys.argv[1]](Path(sys.argv[2]))))
