"""How far the metrics of another sample of photos might lie: percentile intervals of a cluster bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from crossmodal.evaluation.metrics import Ranks, Values, per_query

__all__ = ["LEVEL", "ROUNDS", "SEED", "bootstrap", "intervals"]

ROUNDS = 1000
SEED = 0
LEVEL = 0.95

# Rounds that are computed at once: 50 x 25,000 queries are 10 MB.
_AT_ONCE = 50


def bootstrap(ranks: Sequence[Ranks], photos: Sequence[str], *, seed: int = SEED) -> dict[str, Values]:
    """The metrics of ``summarize`` in each of 1,000 resampled sets of queries: float64 (1000,) by name.

    ``photos`` names the photo that each query belongs to. Photos are drawn with replacement, each with all
    its queries, and not single queries: the captions of one photo are found or missed together, and drawn
    one by one they would make the intervals too narrow (Field and Welsh, "Bootstrapping clustered data",
    2007). Every query needs a relevant item.
    """
    _, cluster = np.unique(np.array(photos), return_inverse=True)
    clusters = int(cluster.max()) + 1
    values = per_query(ranks)
    first = values.pop("rank")
    by_rank = np.argsort(first, kind="stable")
    sizes = np.bincount(cluster, minlength=clusters).astype(np.float64)
    sums = {
        name: np.bincount(cluster, column, clusters) for name, column in {**values, "rank": first}.items()
    }
    drawn: dict[str, list[Values]] = {name: [] for name in (*values, "median_rank", "mean_rank")}
    rng = np.random.default_rng(seed)
    for start in range(0, ROUNDS, _AT_ONCE):
        times = _times_drawn(rng, clusters, min(_AT_ONCE, ROUNDS - start))
        queries = times @ sizes
        for name in values:
            drawn[name].append(times @ sums[name] / queries)
        drawn["mean_rank"].append(times @ sums["rank"] / queries)
        drawn["median_rank"].append(_medians(first[by_rank], times[:, cluster[by_rank]]))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def intervals(samples: Mapping[str, Values]) -> dict[str, list[float]]:
    """The 2.5th and the 97.5th percentile of each metric's samples."""
    outside = 100 * (1 - LEVEL) / 2
    return {
        name: [float(bound) for bound in np.percentile(column, [outside, 100 - outside])]
        for name, column in samples.items()
    }


def _times_drawn(rng: np.random.Generator, clusters: int, rounds: int) -> npt.NDArray[np.float64]:
    """How often each cluster was drawn in each round, (rounds, clusters): as many draws as clusters."""
    draws = rng.integers(0, clusters, (rounds, clusters))
    draws += np.arange(rounds)[:, None] * clusters
    counts = np.bincount(draws.ravel(), minlength=rounds * clusters)
    return counts.reshape(rounds, clusters).astype(np.float64)


def _medians(ordered: Values, times: npt.NDArray[np.float64]) -> Values:
    """The median of ``ordered`` (ascending) with each value repeated ``times`` (rounds, values)."""
    reached = np.cumsum(times, axis=1)
    total = reached[:, -1]
    medians = np.empty(len(times))
    for row, below in enumerate(reached):
        # The two in the middle; they are the same one where the number is odd.
        middle = [(total[row] + 1) // 2, total[row] // 2 + 1]
        medians[row] = ordered[np.searchsorted(below, middle, "left")].mean()
    return medians
