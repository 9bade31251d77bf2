"""``scaling``: what the model of ``bench/scaling.py`` predicts, beside what is measured."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import faiss
import numpy as np

from bench import processes
from bench.harness import Options, Result, in_turns, latency, timed
from bench.scaling import Machine, Shard, vector_row_bytes
from bench.vectors import (
    DIMENSION,
    Collection,
    made_source,
    numbers_of,
    settled,
    synthetic,
    vector_store,
)
from crossmodal.index.embedded.codes import UNKNOWN_RECALL, CodesFile, search_parameters, train_codes
from crossmodal.index.embedded.compared import asking, compared
from crossmodal.index.embedded.derived_file import CODES, VECTORS, derived_path
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.options import EXACT, SearchOptions
from crossmodal.index.embedded.schema import INDEX_FILE
from crossmodal.index.embedded.search_file import save_vectors
from crossmodal.index.embedded.vector_index import VectorIndex
from crossmodal.index.embedded.vector_source import VectorSource

__all__ = ["calibrated", "run"]

_TOP_K = 10
_QUERIES = 200
_SINGLE, _FEW = 50, 5

# Calibrated with: so many vectors in the caches, so many beyond them, to code, and to code in cells.
_SMALL, _COMPARED, _CODED, _CELLS = 10_000, 131_072, 1_572_864, 98_304
_BLOCK = 16_384

# Up to the first there is an ``index.sqlite`` too; beyond the second there are codes alone.
_MOST_STORED, _MOST_KEPT = 100_000, 2_000_000

_RERANK, _WIDE = 16, 64

_COARSE = SearchOptions.of("coarse")
# With enough of a block for each cell.
_IN_CELLS = SearchOptions.of("ivf", {"cells": 256})

# Time of this thread's processor: other programs delay it less than they delay the clock.
_clock = process_time
_WITHIN = 0.2


def run(options: Options) -> list[Result]:
    """Predictions by constants that are measured first, and what they are of, on one thread."""
    faiss.omp_set_num_threads(1)
    machine = calibrated()
    sizes = options.vectors or ((_SMALL,) if options.quick else (_SMALL, 100_000, 1_000_000, 10_000_000))
    constants = ", ".join(f"{name} {value:.3g}" for name, value in asdict(machine).items())
    results = [Result("scaling, constants of this machine", None, "", note=constants)]
    for size in sizes:
        if size > _MOST_KEPT:
            results += _codes_only(size, machine)
            continue
        if size <= _MOST_STORED:
            results += _stored(size, options)
        results += _searched(synthetic(size, _QUERIES), machine, options)
    return results


def calibrated() -> Machine:
    """The constants of this machine, from two small indexes and from many vectors compared and coded."""
    block = _rows(_BLOCK)
    many = np.tile(block, (_COMPARED // _BLOCK, 1))
    queries = asking(synthetic(_BLOCK, _QUERIES).queries)
    one, checked = (
        partial(faiss.knn, queries[:n], many, _TOP_K, faiss.METRIC_INNER_PRODUCT) for n in (1, 64)
    )
    trained: list[Any] = []
    training = timed(lambda: trained.append(_train(block, _BLOCK)), clock=_clock)
    rows = np.arange(_BLOCK, _CODED, dtype=np.uint64)
    more = (block for _ in range(len(rows) // _BLOCK))
    coding = timed(lambda: trained.append(trained[0].extended(rows, _CODED, more)), clock=_clock)
    coded = Shard(_BLOCK, DIMENSION, _COARSE)
    rate = _CODED * coded.code_bytes / _scan_seconds(trained[1], coded, queries) / 1e9
    cells = Shard(_CELLS, DIMENSION, _IN_CELLS)
    looked_at = cells.count * cells.code_bytes * cells.probes / cells.cells
    in_cells = looked_at / _scan_seconds(_train(block, _CELLS, _IN_CELLS), cells, queries) / 1e9
    product = _median(lambda: block @ block[:512].T, _FEW)
    few = Shard(_SMALL, DIMENSION, _COARSE).candidates
    more_candidates = few * _WIDE // _RERANK - few
    narrow, wide, _ = _index_of(_SMALL)
    cached = (wide - narrow) / more_candidates * 1e6
    narrow_beyond, wide_beyond, grown = _index_of(_COMPARED)
    scanned = _SMALL * coded.code_bytes / rate / 1e6
    return Machine(
        opened_mb=(grown - Shard(_COMPARED, DIMENSION, _COARSE).codes_disk) / 1e6,
        query_ms=narrow * 1e3 - few * cached / 1e3 - scanned,
        cached_us=cached,
        candidate_us=(wide_beyond - narrow_beyond) / more_candidates * 1e6,
        codes_gb_s=rate,
        cells_gb_s=in_cells,
        vectors_gb_s=many.nbytes / _median(one) / 1e9,
        coded_ns=coding / len(rows) / coded.components * 1e9,
        training_s=training,
        product_gflops=2 * block.size * 512 / product / 1e9,
        checked_gflops=2 * 64 * many.size / _median(checked, _FEW) / 1e9,
    )


def _searched(collection: Collection, machine: Machine, options: Options) -> list[Result]:
    """Files, memory, building and one query of what ``--index auto`` chooses; exact search in turns."""
    source = made_source(collection, options.workspace / "scaling" / f"{collection.name}-{collection.count}")
    vectors, codes = (derived_path(source, kind) for kind in (VECTORS, CODES))
    codes.unlink(missing_ok=True)
    if not vectors.is_file():
        save_vectors(source)
    chosen = _chosen(source, codes)
    shard = Shard(collection.count, DIMENSION, chosen)
    codes.unlink(missing_ok=True)
    exact = ExactIndex(source, search_file=vectors)
    index = VectorIndex(source, options=chosen)
    try:
        build = timed(lambda: settled(index), clock=_clock)
        truth = numbers_of(exact.search(collection.queries, _TOP_K), collection)
        found = numbers_of(index.search(collection.queries, _TOP_K), collection)
        singles = [query[None] for query in collection.queries]
        rounds = in_turns(
            {
                name: latency(partial(each.search, top_k=_TOP_K), singles, count, clock=_clock)
                for name, each, count in (("ours", index, _SINGLE), ("exact", exact, _FEW))
            },
            until=options.until(),
        )
    finally:
        index.close()
    label = f"scaling, {collection.count:,} {collection.name}"
    recall = float(np.mean([len({*a} & {*b}) / _TOP_K for a, b in zip(found, truth, strict=True)]))
    effort = f"{shard.tier}, rerank {chosen.rerank}" + (f", {shard.probes} cells" if shard.cells else "")
    ours, theirs = (rounds[name].times(1e3).median for name in ("ours", "exact"))
    note = f"{effort}, recall@{_TOP_K} {recall:.4f}, {theirs / ours:.0f} times as fast as exact"
    results = [
        _held(f"{label}, vectors' file", vectors.stat().st_size / 1e6, "MB", shard.vectors_disk / 1e6),
        _held(f"{label}, one query", ours, "ms", shard.query_ms(machine), note),
    ]
    if shard.tier == EXACT:
        return results
    grown = _grown_elsewhere(source.folder, shard.count, chosen)
    return [
        *results,
        _held(f"{label}, file of codes", codes.stat().st_size / 1e6, "MB", shard.codes_disk / 1e6),
        _held(f"{label}, memory", grown / 1e6, "MB", shard.memory(machine) / 1e6),
        _held(f"{label}, training, coding and the self-check", build, "s", shard.build_s(machine)),
    ]


def _stored(size: int, options: Options) -> list[Result]:
    """``index.sqlite`` of small documents, of which a tenth says what a record takes beside its vector."""
    tenth, whole = (
        (vector_store(synthetic(count, _QUERIES), options) / INDEX_FILE).stat().st_size
        for count in (size // 10, size)
    )
    vectors, few = (count * vector_row_bytes(DIMENSION) for count in (size, size // 10))
    predicted = vectors + 10 * (tenth - few)
    note = f"{vectors / whole:.0%} of it vectors"
    return [_held(f"scaling, {size:,} stored, index.sqlite", whole / 1e6, "MB", predicted / 1e6, note)]


def _codes_only(size: int, machine: Machine) -> list[Result]:
    """Codes that fit where their vectors don't: those of the same few vectors, over and over."""
    shard = Shard(size, DIMENSION, _COARSE)
    block = _rows(_BLOCK)
    before = processes.anonymous_bytes("self")
    trained: list[Any] = []
    build = timed(lambda: trained.append(_train(block, size)), clock=_clock)
    grown = processes.anonymous_bytes("self") - before
    scan = _scan_seconds(trained[0], shard, asking(synthetic(_BLOCK, _QUERIES).queries))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        file = CodesFile(Path(name) / "codes")
        file.write("made", 1, trained[0], UNKNOWN_RECALL, _RERANK, 0)
        stored = file.path.stat().st_size
    label = f"scaling, {size:,} codes alone"
    return [
        _held(f"{label}, file of codes", stored / 1e6, "MB", shard.codes_disk / 1e6),
        _held(f"{label}, memory", grown / 1e6, "MB", shard.codes_disk / 1e6),
        _held(f"{label}, one scan", scan * 1e3, "ms", shard.scan_ms(machine)),
        _held(f"{label}, training and coding", build, "s", shard.build_s(machine) - shard.check_s(machine)),
    ]


def _held(name: str, value: float, unit: str, predicted: float, note: str = "") -> Result:
    """A figure beside its prediction."""
    ratio = value / predicted
    low, high = 1 - _WITHIN, 1 + _WITHIN
    ok = low <= ratio <= high
    goal = f"{low:g} to {high:g}"
    return Result(name, value, unit, "the model", ratio, goal, ok, predicted, note=note)


def _chosen(source: VectorSource, codes: Path) -> SearchOptions:
    """The tier that ``auto`` takes for ``source`` by its self-check, and how far it is widened."""
    index = VectorIndex(source)
    try:
        tier = settled(index)
    finally:
        index.close()
    if tier == EXACT:
        return SearchOptions.of(tier)
    with source.snapshot() as snapshot:
        _, _, rerank, probes = CodesFile(codes).read(snapshot.store_id, snapshot.sequence)
    return SearchOptions.of(tier, {"rerank": rerank, "probes": probes})


def _grown_elsewhere(folder: Path, count: int, options: SearchOptions) -> int:
    words = options.index, f"{options.rerank}", f"{options.probes}"
    return int(processes.python(__name__, folder, f"{count}", *words))


def _rows(count: int) -> Any:
    vectors = next(synthetic(count, 1).blocks())
    return compared(vectors, np.zeros(len(vectors), np.float32))


def _train(block: Any, count: int, options: SearchOptions = _COARSE) -> Any:
    """Codes of ``count`` rows, those of one block over and over."""
    parts = (block[: count - start] for start in range(0, count, _BLOCK))
    return train_codes(options.index, options, block, np.arange(count, dtype=np.uint64), count, parts)


def _scan_seconds(codes: Any, shard: Shard, queries: Any) -> float:
    parameters = search_parameters(codes, shard.options, 0)
    singles = [query[None] for query in queries]
    return latency(lambda query: codes.candidates(query, 2, parameters), singles, _SINGLE, clock=_clock)()


def _median(call: Callable[[], object], count: int = _SINGLE) -> float:
    return median(timed(call, clock=_clock) for _ in range(count))


def _index_of(count: int) -> tuple[float, float, int]:
    """Of so many vectors: seconds of a query with few candidates and with many, in turns; memory."""
    collection = synthetic(count, _QUERIES)
    singles = [query[None] for query in collection.queries]
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as held:
        source = made_source(collection, Path(name))
        save_vectors(source)
        contenders = {}
        for rerank in (_RERANK, _WIDE):
            index = VectorIndex(source, options=SearchOptions.of("coarse", {"rerank": rerank}))
            held.callback(index.close)
            settled(index)
            contenders[f"{rerank}"] = latency(
                partial(index.search, top_k=_TOP_K), singles, _SINGLE, clock=_clock
            )
        rounds = in_turns(contenders)
        grown = _grown_elsewhere(Path(name), count, _COARSE)
    return rounds[f"{_RERANK}"].median, rounds[f"{_WIDE}"].median, grown


def _grown(folder: Path, count: int, tier: str, rerank: int, probes: int) -> int:
    """Opens the index with its codes and searches; the anonymous bytes by which this process grew."""
    collection = synthetic(count, _QUERIES)
    source = made_source(collection, folder)
    before = processes.anonymous_bytes("self")
    index = VectorIndex(source, options=SearchOptions.of(tier, {"rerank": rerank, "probes": probes}))
    for query in collection.queries:
        index.search(query[None], _TOP_K)
    grown = processes.anonymous_bytes("self") - before
    index.close()
    return grown


if __name__ == "__main__":
    print(
        json.dumps(
            _grown(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        )
    )
