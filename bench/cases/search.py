"""``search``: the best ten of many vectors, on one thread, beside faiss's exact index and its graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.harness import (
    Contender,
    Options,
    Result,
    Rounds,
    at_least,
    at_most,
    compared,
    in_turns,
    latency,
    repeated,
    timed,
)
from bench.vectors import (
    Collection,
    forget_derived,
    numbers_of,
    opened,
    real,
    settled,
    synthetic,
    vector_store,
)

__all__ = ["run"]

_TOP_K = 10
_QUERIES = 200
_SINGLE = 50
_BATCH = 64

_GRAPH_SIZE = 100_000
_MILLION = 1_000_000
_LINKS = 16
# No graph needs to look at more than so many candidates here; one that misses more is reported as it is.
_LARGEST_EFFORT = 4096

_RECALL_EXACT, _RECALL_GRAPH = 0.998, 0.98
_TIMES_FASTER_THAN_FLAT = 10.0
_OF_GRAPH = 0.3
_GRAPH_BUILD = 5.0
_MILLISECONDS_AT_A_MILLION = 6.0


def run(options: Options) -> list[Result]:
    """One query's p50, batch queries/s and recall@10, against faiss's exact index and its graph."""
    faiss.omp_set_num_threads(1)
    sizes = (10_000, 40_000) if options.quick else (10_000, _GRAPH_SIZE, _MILLION)
    graph_size = sizes[0] if options.quick else _GRAPH_SIZE
    results: list[Result] = []
    seconds_a_vector = 0.0
    for size in sizes:
        collection = synthetic(size, _QUERIES)
        graph = _Graph.built(collection) if size == graph_size else None
        seconds_a_vector = graph.seconds_a_vector if graph else seconds_a_vector
        results += _measure(collection, graph, seconds_a_vector, options)
        if size == _MILLION:
            results.append(_within_limit(collection, options))
    if not options.quick and (genuine := real(options, _GRAPH_SIZE, _QUERIES)) is not None:
        results += _measure(genuine, _Graph.built(genuine), seconds_a_vector, options)
    return results


@dataclass(frozen=True)
class _Graph:
    """faiss's HNSW over a collection, and the seconds that adding one vector took on average."""

    index: Any
    seconds_a_vector: float

    @classmethod
    def built(cls, collection: Collection) -> _Graph:
        """With 16 links and faiss's usual effort of building."""
        index = faiss.IndexHNSWFlat(collection.queries.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
        vectors = collection.all()
        return cls(index, timed(lambda: index.add(vectors)) / collection.count)

    def search(self, queries: NDArray[np.float32], effort: int) -> NDArray[np.int64]:
        """The rows found with ``efSearch`` = ``effort``: (n, 10)."""
        # faiss's annotations don't know the classes that its Python layer makes.
        library: Any = faiss
        parameters = library.SearchParametersHNSW(efSearch=effort)
        found: NDArray[np.int64] = self.index.search(queries, _TOP_K, params=parameters)[1]
        return found

    def effort_for(
        self, recall: float, queries: NDArray[np.float32], truth: NDArray[np.int64], *, least: int
    ) -> tuple[int, float]:
        """The least efSearch from ``least`` on that reaches ``recall``, within a quarter, and its recall."""
        effort = least
        while True:
            reached = _recall(self.search(queries, effort), truth)
            if reached >= recall or effort >= _LARGEST_EFFORT:
                return effort, reached
            effort += max(effort // 4, 1)


def _measure(
    collection: Collection, graph: _Graph | None, seconds_a_vector: float, options: Options
) -> list[Result]:
    label = f"search, {collection.count:,} {collection.name}"
    large = collection.count >= _GRAPH_SIZE
    queries = collection.queries
    flat = _flat(collection)
    truth = flat.search(queries, _TOP_K)[1]
    path = vector_store(collection, options)
    forget_derived(path)
    efforts: dict[str, tuple[int, float]] = {}
    # At a million, users get a tier that finds less in half the time: see below.
    with opened(path, "scan" if collection.count == _MILLION else "auto") as index:
        build = timed(lambda: settled(index))
        ask = partial(index.search, top_k=_TOP_K)
        recall = _recall(numbers_of(ask(queries), collection), truth)
        contenders = {
            "ours": _single(ask, queries),
            "flat": _single(lambda query: flat.search(query, _TOP_K), queries),
            "ours, batch": repeated(lambda: ask(queries[:_BATCH]), _BATCH),
            "flat, batch": repeated(lambda: flat.search(queries[:_BATCH], _TOP_K), _BATCH),
        }
        if graph is not None:
            # How hard the graph has to look to find what we find, and to find enough.
            least = _TOP_K
            for wanted, name in sorted(
                [(recall, "equal recall"), (_RECALL_GRAPH, f"recall {_RECALL_GRAPH}")]
            ):
                efforts[name] = graph.effort_for(wanted, queries, truth, least=least)
                least = efforts[name][0]
                contenders[name] = _single(partial(graph.search, effort=least), queries)
        rounds = in_turns(contenders, until=options.until(0.5))
        tier = settled(index)
    results = [
        Result(f"{label}, recall@{_TOP_K}", recall, "recall", "faiss IndexFlatIP", recall, note=tier),
        compared(
            f"{label}, one query",
            "ms",
            rounds["ours"].times(1e3),
            "faiss IndexFlatIP",
            rounds["flat"].times(1e3),
            inverted=True,
            goal=at_least(_TIMES_FASTER_THAN_FLAT) if large else None,
            also=recall >= _RECALL_EXACT,
            note=f"at a recall of at least {_RECALL_EXACT}" if large else "",
        ),
        compared(
            f"{label}, {_BATCH} queries at once",
            "queries/s",
            rounds["ours, batch"].rate(),
            "faiss IndexFlatIP",
            rounds["flat, batch"].rate(),
        ),
    ]
    results += [
        compared(
            f"{label}, one query, of a graph's at {wanted}",
            "ms",
            rounds["ours"].times(1e3),
            f"faiss HNSW{_LINKS}, efSearch {effort}, recall {reached:.4f}",
            rounds[wanted].times(1e3),
            goal=at_most(_OF_GRAPH, judged=large) if wanted == "equal recall" else None,
            also=recall >= _RECALL_GRAPH,
        )
        for wanted, (effort, reached) in efforts.items()
    ]
    if large:
        results.append(
            compared(
                f"{label}, building",
                "s",
                Rounds((build,)),
                f"faiss HNSW{_LINKS} at the pace of its first {_GRAPH_SIZE:,} vectors",
                seconds_a_vector * collection.count,
                inverted=True,
                goal=at_least(_GRAPH_BUILD) if collection.count == _MILLION else None,
                rounds_wanted=1,
                note="measured once; a graph gets slower to add to as it grows",
            )
        )
    return results


def _within_limit(collection: Collection, options: Options) -> Result:
    """One query's p50 in the tier that users get."""
    queries = collection.queries
    truth = _flat(collection).search(queries, _TOP_K)[1]
    with opened(vector_store(collection, options)) as index:
        tier = settled(index)
        ask = partial(index.search, top_k=_TOP_K)
        recall = _recall(numbers_of(ask(queries), collection), truth)
        (each,) = in_turns({"ours": _single(ask, queries)}, until=options.until()).values()
    return compared(
        f"search, {collection.count:,} {collection.name}, one query within the limit",
        "ms",
        each.times(1e3),
        f"{_MILLISECONDS_AT_A_MILLION:g} ms",
        _MILLISECONDS_AT_A_MILLION,
        goal=at_most(1.0),
        also=recall >= _RECALL_GRAPH,
        note=f"{tier}, with a recall of {recall:.4f}; at least {_RECALL_GRAPH} is asked for",
    )


def _flat(collection: Collection) -> Any:
    """faiss's exact index, IndexFlatIP, over a collection."""
    flat = faiss.IndexFlatIP(collection.queries.shape[1])
    for block in collection.blocks():
        flat.add(block)
    return flat


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """recall@k: the share of ``truth`` (n, k) that is in the same row of ``found``."""
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size


def _single(search: Any, queries: NDArray[np.float32]) -> Contender:
    return latency(search, [query[None] for query in queries], _SINGLE)
