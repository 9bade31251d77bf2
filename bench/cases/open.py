"""``open``: how soon a server answers after its start, and an index after a crash."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench import processes
from bench.harness import Options, Result, at_most, compared, in_turns, timed
from bench.vectors import forget_derived, opened, synthetic, vector_store
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE

__all__ = ["run"]

_OF_BARE_MODEL = 1.5
_MORE_SECONDS = 2.0
_TOP_K = 10


def run(options: Options) -> list[Result]:
    """Seconds until the first answer, each time in new processes."""
    return [_after_start(options), _after_crash(options)]


def _after_start(options: Options) -> Result:
    with processes.small_workspace(options) as workspace:

        def start() -> float:
            with processes.serving(workspace) as server:
                return server.seconds

        # Files are in the system's cache once the index has been made.
        contenders = {"server": start, "model": processes.start_bare_model}
        rounds = in_turns(contenders, warm_up=0, until=options.until(0.6))
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

    contenders = {"answer": answer, "read": lambda: float(processes.python(__name__, "read", path))}
    rounds = in_turns(contenders, warm_up=0, until=options.until())
    return compared(
        f"open, {count:,} vectors after a crash",
        "s",
        rounds["answer"],
        f"reading the vectors once, and {_MORE_SECONDS:g} s",
        rounds["read"].plus(_MORE_SECONDS),
        goal=at_most(1.0, judged=not options.quick),
        note=f"reading the vectors once: {rounds['read'].median:.2f} s",
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
    with EmbeddedStore.open_reader(path) as store, store.vector_source(IMAGE).snapshot() as snapshot:
        return timed(lambda: [block.vectors.sum() for block in snapshot.blocks()])


if __name__ == "__main__":
    print(json.dumps({"answer": _answer, "read": _read}[sys.argv[1]](Path(sys.argv[2]))))
