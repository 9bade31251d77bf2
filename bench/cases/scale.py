"""``scale``: writing and searching as the index grows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from math import sqrt
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.harness import Contender, Options, Result, at_least, at_most, compared, in_turns, latency, timed
from bench.vectors import documents, opened, settled, synthetic, vector_store
from crossmodal.index.embedded.schema import INDEX_FILE
from crossmodal.index.embedded.store import EmbeddedStore

__all__ = ["run"]

_QUERIES = 200
_SINGLE = 50
_TOP_K = 10

# What the index Flow commits at once, and commits in a round.
_BATCH = 64
_COMMITS = 40

_SHARE = 0.9
_MILLION = 1_000_000


def run(options: Options) -> list[Result]:
    """Documents/s into stores of several sizes, and one query's p50 over them."""
    faiss.omp_set_num_threads(1)
    sizes = (2_000, 20_000) if options.quick else (10_000, 100_000, _MILLION)
    judged = not options.quick
    stores = {size: vector_store(synthetic(size, _QUERIES), options) for size in sizes}
    return [*_writing(stores, options, judged=judged), *_searching(stores, options, judged=judged)]


def _writing(stores: dict[int, Path], options: Options, *, judged: bool) -> list[Result]:
    vectors = next(synthetic(_BATCH, 1).blocks())
    with ExitStack() as held:
        # Beside the stores, so that all lie on the same disk.
        folder = held.enter_context(tempfile.TemporaryDirectory(dir=next(iter(stores.values())).parent))
        contenders: dict[str, Contender] = {}
        for size, path in stores.items():
            copy = Path(folder) / f"{size}"
            copy.mkdir()
            shutil.copyfile(path / INDEX_FILE, copy / INDEX_FILE)
            store = held.enter_context(EmbeddedStore.open_writer(copy))
            contenders[f"{size}"] = _growing(store, vectors, count(size, _BATCH))
        rounds = in_turns(contenders, until=options.until(0.5))
    smallest = rounds[f"{min(stores)}"].rate()
    return [
        compared(
            f"scale, writing at {size:,}",
            "documents/s",
            rounds[f"{size}"].rate(),
            f"at {min(stores):,}",
            smallest,
            goal=at_least(_SHARE, judged=judged) if size == max(stores) else None,
        )
        for size in stores
        if size > min(stores)
    ]


def _growing(store: EmbeddedStore, vectors: NDArray[np.float32], numbers: Iterator[int]) -> Contender:
    """Seconds for one more document, by commits of 64."""

    def measure() -> float:
        batches = [documents(next(numbers), _BATCH) for _ in range(_COMMITS)]
        return timed(lambda: [store.put(batch, vectors) for batch in batches]) / (_COMMITS * _BATCH)

    return measure


def _searching(stores: dict[int, Path], options: Options, *, judged: bool) -> list[Result]:
    queries = [query[None] for query in synthetic(_MILLION, _QUERIES).queries]
    with ExitStack() as held:
        contenders: dict[str, Contender] = {}
        for size, path in stores.items():
            index = held.enter_context(opened(path))
            settled(index)
            contenders[f"{size}"] = latency(partial(index.search, top_k=_TOP_K), queries, _SINGLE)
        rounds = {name: each.times(1e3) for name, each in in_turns(contenders, until=options.until()).items()}
    return [
        compared(
            f"scale, one query at {size:,}",
            "ms",
            rounds[f"{size}"],
            f"at {min(stores):,}",
            rounds[f"{min(stores)}"],
            goal=at_most(sqrt(size / min(stores)), judged=judged),
        )
        for size in stores
        if size > min(stores)
    ]
