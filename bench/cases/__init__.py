"""The benchmarks, one module each with a function ``run(options)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from bench.harness import Options, Result

__all__ = ["CASES", "Case"]


@dataclass(frozen=True, slots=True)
class Case:
    """A benchmark: the function ``run`` of ``module`` in this package, and what it ``measures``.

    ``threads`` is how many a library may use, None for one a core: set before it is loaded.
    """

    module: str
    measures: str
    threads: int | None = None
    run: str = "run"

    def measure(self, options: Options) -> list[Result]:
        """Runs the benchmark; imports what it needs only now."""
        results: list[Result] = getattr(import_module(f"bench.cases.{self.module}"), self.run)(options)
        return results


CASES: Mapping[str, Case] = {
    "encode-image": Case(
        "encode", "images/s by batch, model and runtime, and the share of the GEMM peak", 1, "run_images"
    ),
    "encode-text": Case(
        "encode", "one caption's latency and captions/s, by model and runtime", 1, "run_texts"
    ),
    "preprocess": Case("preprocess", "images/s from a file's bytes to what the network takes", 1),
    "index": Case("index", "documents/s from files on disk to the durable index through the whole Flow"),
    "unchanged": Case("unchanged", "seconds to index a folder again in which nothing has changed"),
    "index-memory": Case("memory", "peak memory of indexing as the data set grows", run="run_index"),
    "query": Case("query", "p50 and p99 of a sentence over HTTP, and queries/s with 1, 8 and 32 clients"),
    "search": Case("search", "one query's p50, batch queries/s and recall by number of vectors", 1),
    "ingest": Case("ingest", "durable documents/s of 50 KB and a vector each", 1),
    "open": Case("open", "ready to answer after a start, and after a crash"),
    "scale": Case("scale", "documents/s and p50 as the index grows", 1),
    "scaling": Case(
        "scaling", "bytes, memory and milliseconds by number of vectors, beside a model of them", 1
    ),
    "memory": Case("memory", "resident bytes a vector", 1),
    "profile": Case("profile", "where a millisecond of a query and of an indexed document goes"),
    "peers": Case("peers", "other projects' encoders in environments of their own", 1),
}
