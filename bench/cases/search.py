"""``search``: the best ten of many vectors, on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.harness import Contender, Rounds, in_turns, latency, repeated, timed
from bench.options import Options
from bench.references import LINKS, Graph, exact, overlap
from bench.results import Result, at_least, at_most, compared
from bench.tiers import forget_derived, opened, settled
from bench.vectors import Collection, numbers_of, real, synthetic, vector_store

__all__ = ["run"]

_TOP_K = 10
_QUERIES = 200
_SINGLE = 50
_BATCH = 64

_GRAPH_SIZE = 100_000
_MILLION = 1_000_000

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
        graph = Graph.built(collection) if size == graph_size else None
        seconds_a_vector = graph.seconds_a_vector if graph else seconds_a_vector
        results += _measure(collection, graph, seconds_a_vector, options)
        if size == _MILLION:
            results.append(_within_limit(collection, options))
    if not options.quick and (genuine := real(options, _GRAPH_SIZE, _QUERIES)) is not None:
        results += _measure(genuine, Graph.built(genuine), seconds_a_vector, options)
    return results


def _measure(
    collection: Collection, graph: Graph | None, seconds_a_vector: float, options: Options
) -> list[Result]:
    label = f"search, {collection.count:,} {collection.name}"
    large = collection.count >= _GRAPH_SIZE
    queries = collection.queries
    flat = exact(collection)
    truth = flat.search(queries, _TOP_K)[1]
    path = vector_store(collection, options)
    forget_derived(path)
    # At a million, users get a tier that finds less in half the time: see below.
    with opened(path, "scan" if collection.count == _MILLION else "auto") as index:
        build = timed(lambda: settled(index))
        ask = partial(index.search, top_k=_TOP_K)
        recall = overlap(numbers_of(ask(queries), collection), truth)
        contenders = {
            "ours": _single(ask, queries),
            "flat": _single(lambda query: flat.search(query, _TOP_K), queries),
            "ours, batch": repeated(lambda: ask(queries[:_BATCH]), _BATCH),
            "flat, batch": repeated(lambda: flat.search(queries[:_BATCH], _TOP_K), _BATCH),
        }
        efforts: dict[str, tuple[int, float]] = {}
        if graph is not None:
            efforts = _efforts(graph, recall, queries, truth)
            for wanted, (effort, _) in efforts.items():
                contenders[wanted] = _single(partial(graph.search, top_k=_TOP_K, effort=effort), queries)
        rounds = in_turns(contenders, until=options.until(0.5))
        tier = settled(index)
    results = [
        Result(f"{label}, recall@{_TOP_K}", recall, "recall", "faiss IndexFlatIP", recall, note=tier),
        *_against_flat(label, rounds, recall, large=large),
        *_against_graph(label, rounds, efforts, recall, large=large),
    ]
    if large:
        results.append(_building(label, build, seconds_a_vector * collection.count, collection.count))
    return results


def _against_flat(label: str, rounds: Mapping[str, Rounds], recall: float, *, large: bool) -> list[Result]:
    return [
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


def _against_graph(
    label: str,
    rounds: Mapping[str, Rounds],
    efforts: Mapping[str, tuple[int, float]],
    recall: float,
    *,
    large: bool,
) -> list[Result]:
    """One query against a graph that looks as hard as each of ``efforts`` says (``_efforts``)."""
    return [
        compared(
            f"{label}, one query, of a graph's at {wanted}",
            "ms",
            rounds["ours"].times(1e3),
            f"faiss HNSW{LINKS}, efSearch {effort}, recall {reached:.4f}",
            rounds[wanted].times(1e3),
            goal=at_most(_OF_GRAPH, judged=large) if wanted == "equal recall" else None,
            also=recall >= _RECALL_GRAPH,
        )
        for wanted, (effort, reached) in efforts.items()
    ]


def _building(label: str, seconds: float, graph_seconds: float, count: int) -> Result:
    return compared(
        f"{label}, building",
        "s",
        Rounds((seconds,)),
        f"faiss HNSW{LINKS} at the pace of its first {_GRAPH_SIZE:,} vectors",
        Rounds((graph_seconds,)),
        inverted=True,
        goal=at_least(_GRAPH_BUILD) if count == _MILLION else None,
        rounds_wanted=1,
        note="measured once; a graph gets slower to add to as it grows",
    )


def _within_limit(collection: Collection, options: Options) -> Result:
    """One query's p50 in the tier that users get."""
    queries = collection.queries
    truth = exact(collection).search(queries, _TOP_K)[1]
    path = vector_store(collection, options)
    with opened(path) as index:
        tier = settled(index)
        ask = partial(index.search, top_k=_TOP_K)
        recall = overlap(numbers_of(ask(queries), collection), truth)
        (each,) = in_turns({"ours": _single(ask, queries)}, until=options.until()).values()
    return compared(
        f"search, {collection.count:,} {collection.name}, one query within the limit",
        "ms",
        each.times(1e3),
        f"{_MILLISECONDS_AT_A_MILLION:g} ms",
        Rounds((_MILLISECONDS_AT_A_MILLION,) * len(each.values)),
        goal=at_most(1.0),
        also=recall >= _RECALL_GRAPH,
        note=f"{tier}, with a recall of {recall:.4f}; at least {_RECALL_GRAPH} is asked for",
    )


def _single(search: Any, queries: NDArray[np.float32]) -> Contender:
    return latency(search, [query[None] for query in queries], _SINGLE)


def _efforts(
    graph: Graph, recall: float, queries: NDArray[np.float32], truth: NDArray[np.int64]
) -> dict[str, tuple[int, float]]:
    """How hard the graph has to look, and its recall, to find what we find, and to find enough."""
    equal, enough = "equal recall", f"recall {_RECALL_GRAPH}"
    efforts: dict[str, tuple[int, float]] = {}
    least = _TOP_K
    for wanted, name in sorted([(recall, equal), (_RECALL_GRAPH, enough)]):
        efforts[name] = graph.effort_for(wanted, queries, truth, least=least)
        least = efforts[name][0]
    return efforts
