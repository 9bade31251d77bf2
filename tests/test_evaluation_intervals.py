"""Bootstrap intervals: reproducible, of the width that theory gives, and aware of captions of one photo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmodal.evaluation.metrics import ROUNDS, bootstrap, intervals, summarize


def ranks(*firsts: int) -> list[np.ndarray]:
    return [np.array([first], np.int64) for first in firsts]


def test_the_width_is_that_of_a_share_of_independent_queries() -> None:
    # hit@1 of 400 photos of which 30% are found: a standard error of sqrt(.3 * .7 / 400) = .0229.
    found = ranks(*[1] * 120, *[50] * 280)
    low, high = intervals(bootstrap(found, [str(number) for number in range(400)]))["hit@1"]
    assert low == pytest.approx(0.3 - 1.96 * math.sqrt(0.3 * 0.7 / 400), abs=0.006)
    assert high == pytest.approx(0.3 + 1.96 * math.sqrt(0.3 * 0.7 / 400), abs=0.006)


def test_captions_of_one_photo_are_drawn_together() -> None:
    # 80 photos with five captions that are found or missed together tell no more than 80 captions.
    firsts = [1 if number % 2 else 50 for number in range(80) for _ in range(5)]
    photos = [str(number) for number in range(80) for _ in range(5)]
    together = intervals(bootstrap(ranks(*firsts), photos))["hit@1"]
    one_each = intervals(bootstrap(ranks(*firsts[::5]), photos[::5]))["hit@1"]
    apart = intervals(bootstrap(ranks(*firsts), [str(number) for number in range(400)]))["hit@1"]
    assert together == one_each
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_the_same_seed_gives_the_same_samples_and_another_does_not() -> None:
    found, photos = ranks(1, 2, 3, 40, 5, 6), list("abcdef")
    first, again, other = (bootstrap(found, photos, seed=seed) for seed in (0, 0, 1))
    assert all(len(column) == ROUNDS for column in first.values())
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["mrr"] != other["mrr"]).any()


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=30))
@settings(max_examples=20, deadline=None)
def test_every_sample_is_the_summary_of_some_resampled_queries(rows: list[tuple[int, int]]) -> None:
    found, photos = ranks(*[first for first, _ in rows]), [str(photo) for _, photo in rows]
    samples = bootstrap(found, photos)
    assert set(samples) == set(summarize(found))
    # The first round again, by repeating each drawn photo's queries.
    names = sorted(set(photos))
    drawn = np.random.default_rng(0).integers(0, len(names), (50, len(names)))[0]
    repeated = [
        row for place in drawn for row, photo in zip(found, photos, strict=True) if photo == names[place]
    ]
    for name, value in summarize(repeated).items():
        assert samples[name][0] == pytest.approx(value), name


def test_an_interval_holds_its_metric_on_skewed_ranks() -> None:
    rng = np.random.default_rng(3)
    found = ranks(*np.ceil(rng.pareto(1.0, 300) * 3 + 0.01).astype(int))
    summary = summarize(found)
    for name, (low, high) in intervals(bootstrap(found, [str(number) for number in range(300)])).items():
        assert low <= summary[name] <= high, name
