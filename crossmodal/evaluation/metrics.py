"""Retrieval metrics over the ranks of relevant items, and intervals by a cluster bootstrap.

The tie rule: items with equal scores are ranked by their position in the gallery. Galleries are
sorted by id, so this ranks as the search does (score descending, id ascending).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from crossmodal.index.embedded.scores import inner_products, score_error

__all__ = [
    "CUTOFFS",
    "LEVEL",
    "ROUNDS",
    "SEED",
    "TIE_RULE",
    "Ranks",
    "Values",
    "bootstrap",
    "intervals",
    "per_query",
    "ranks_of_relevant",
    "summarize",
]

CUTOFFS = (1, 5, 10)
TIE_RULE = "equal scores by id, ascending"

_NDCG_CUTOFF = 10

# Queries whose scores against the whole gallery are held at once.
_QUERIES = 256

Ranks = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def ranks_of_relevant(
    queries: npt.NDArray[np.float32],
    gallery: npt.NDArray[np.float32],
    query_photos: Sequence[str],
    gallery_photos: Sequence[str],
    hubness: npt.NDArray[np.float32] | None = None,
) -> list[Ranks]:
    """For each query the ranks (1 is the best) of the gallery's items of the same photo, ascending.

    ``queries`` (Q, dimension) and ``gallery`` (G, dimension) are unit vectors; the photo of each is given by
    id. ``hubness`` (G,), if given, is taken off the scores of the gallery's items. The scores are those of
    ``inner_products``, so the ranks are those of the search to the last tie: a matrix product, which may give
    equal vectors unequal scores, only says where an exact look is needed. A query without a relevant item
    gets an empty array.
    """
    relevant = _positions_by_photo(gallery_photos)
    none = np.empty(0, np.int64)
    columns = gallery.astype(np.float64).T
    error = score_error(queries, gallery)
    taken_off = np.zeros(len(gallery)) if hubness is None else hubness.astype(np.float64)
    ranks: list[Ranks] = []
    for start in range(0, len(queries), _QUERIES):
        block = queries[start : start + _QUERIES]
        rough = block.astype(np.float64) @ columns - taken_off
        ordered = np.sort(rough, axis=1)
        for row, query in enumerate(block):
            own = relevant.get(query_photos[start + row], none)
            after = np.searchsorted(ordered[row], rough[row, own] + error, "right")
            near = after - np.searchsorted(ordered[row], rough[row, own] - error, "left")
            found = len(gallery) - after + 1
            # Alone within the error means that no exact score could change the order.
            for item in np.flatnonzero(near > 1):
                close = np.flatnonzero(np.abs(rough[row] - rough[row, own[item]]) <= error)
                scores = inner_products(query, gallery[close]) - taken_off[close]
                found[item] += _before(scores, close, int(own[item]))
            ranks.append(np.sort(found))
    return ranks


def _positions_by_photo(photos: Sequence[str]) -> Mapping[str, Ranks]:
    positions: dict[str, list[int]] = {}
    for position, photo in enumerate(photos):
        positions.setdefault(photo, []).append(position)
    return {photo: np.array(places, np.int64) for photo, places in positions.items()}


def _before(scores: npt.NDArray[np.float64], close: Ranks, own: int) -> int:
    """How many of the items at ``close``, with ``scores``, come before the one at ``own``, one of them."""
    score = scores[np.searchsorted(close, own)]
    return int(np.count_nonzero((scores > score) | ((scores == score) & (close < own))))


def per_query(ranks: Sequence[Ranks]) -> dict[str, Values]:
    """The value of each metric for each query, float64 (Q,); every query needs a relevant item.

    ``rank`` is that of the first relevant item. ``summarize`` says what the others are.
    """
    first = np.array([row[0] for row in ranks], np.float64)
    counts = np.array([len(row) for row in ranks], np.int64)
    every = np.concatenate(ranks)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    # The position of each relevant item among those of its query, from 1.
    place = np.arange(1, len(every) + 1) - np.repeat(starts, counts)
    values = {"rank": first, "mrr": 1 / first}
    for k in CUTOFFS:
        values[f"hit@{k}"] = (first <= k).astype(np.float64)
    for k in CUTOFFS:
        values[f"recall@{k}"] = np.add.reduceat((every <= k).astype(np.float64), starts) / counts
    values["map"] = np.add.reduceat(place / every, starts) / counts
    gains = np.where(every <= _NDCG_CUTOFF, 1 / np.log2(1 + every), 0)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, _NDCG_CUTOFF + 1)))
    values["ndcg@10"] = np.add.reduceat(gains, starts) / ideal[np.minimum(counts, _NDCG_CUTOFF) - 1]
    return values


def summarize(ranks: Sequence[Ranks]) -> dict[str, float]:
    """The metrics over all queries that have a relevant item, each of which counts alike.

    ``hit@k`` is the share of queries with any relevant item among the first k (what papers on image and text
    call recall@k); ``recall@k`` the share of a query's relevant items that are among the first k; ``mrr``,
    ``median_rank`` and ``mean_rank`` go by the first relevant item; ``map`` is the mean over queries of the
    mean precision at their relevant items; ``ndcg@10`` has gain 1 and discount log2(1 + rank).

    Raises ValueError where no query has a relevant item.
    """
    judged = [row for row in ranks if len(row)]
    if not judged:
        raise ValueError("no query has a relevant item")
    values = per_query(judged)
    first = values.pop("rank")
    summary = {name: float(np.mean(column)) for name, column in values.items()}
    summary["median_rank"] = float(np.median(first))
    summary["mean_rank"] = float(np.mean(first))
    return summary


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
