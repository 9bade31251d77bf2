"""Codes of principal directions find enough where vectors differ in few of them, and are left otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_samples import caption

from crossmodal.index.embedded.compared import EXTRA, asking, compared
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.projection import PROJECTED_EXTRA, projection
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex

Vectors = NDArray[np.float32]

COUNT, DIMENSION, INTRINSIC = 6000, 256, 6


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def in_few_directions(count: int, seed: int) -> Vectors:
    """As a model makes them: a few directions that all vectors share, what they have in common, and noise."""
    shared = np.random.default_rng(5)
    basis, common = shared.normal(size=(INTRINSIC, DIMENSION)), shared.normal(size=DIMENSION)
    chance = np.random.default_rng(seed)
    noise = chance.normal(size=(count, DIMENSION))
    return unit(chance.normal(size=(count, INTRINSIC)) @ basis + common + 0.2 * noise)


def in_all_directions(count: int, seed: int) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, DIMENSION)))


@settings(max_examples=20, deadline=None)
@given(
    dimension=st.integers(3, 40),
    share=st.floats(0.1, 1),
    rank=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_projection_keeps_inner_products_with_vectors_of_its_directions_and_hubness(
    dimension: int, share: float, rank: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    directions = max(1, round(share * dimension))
    rank = min(rank, directions)
    vectors = unit(chance.normal(size=(500, rank)) @ chance.normal(size=(rank, dimension)))
    hubness = chance.normal(size=500).astype(np.float32)
    rows = compared(vectors, hubness)
    queries = asking(unit(chance.normal(size=(4, dimension))), np.array([True, False, True, False]))
    transform = projection(rows, directions)
    kept = transform.apply(rows)
    assert kept.shape == (500, directions + PROJECTED_EXTRA)
    np.testing.assert_allclose(transform.apply(queries) @ kept.T, queries @ rows.T, atol=2e-5)
    np.testing.assert_allclose(transform.reverse_transform(kept), rows, atol=2e-5)
    assert rows.shape[1] == dimension + EXTRA


def measured(index: VectorIndex, store: EmbeddedStore, queries: Vectors) -> float:
    best = ExactIndex(store.vector_source("text")).search(queries, 10)
    found = index.search(queries, 10)
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, best, strict=True)]))


@pytest.mark.parametrize(
    ("made", "expected", "steps"),
    [(in_few_directions, "ivf", []), (in_all_directions, "scan", ["ivf", "coarse"])],
)
def test_auto_takes_cells_early_and_steps_back_in_one_run_where_they_find_too_little(
    tmp_path: Path,
    made: Callable[[int, int], Vectors],
    expected: str,
    steps: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = replace(SearchOptions(), latency_ms=0.03)
    with EmbeddedStore.open_writer(tmp_path) as store:
        store.put([caption(f"c{n:05d}", "text") for n in range(COUNT)], made(COUNT, 1))
        index = VectorIndex(store.vector_source("text"), options=options)
        index.build()
        status = index.status()
        assert status["tier"] == expected
        assert status["recall"] >= options.recall
        assert [line.split()[2] for line in caplog.messages if "takes its place" in line] == steps
        queries = unit(made(50, 2) + made(50, 3) + in_all_directions(50, 4))
        assert measured(index, store, queries) >= 0.97
        index.close()
        again = VectorIndex(store.vector_source("text"), options=options)
        assert again.status()["tier"] == expected, "the codes that were kept are those that were found good"
        assert again.search(queries, 10) == index.search(queries, 10)
        again.close()
