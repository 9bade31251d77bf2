"""Retrieval metrics over the ranks of relevant items.

The tie rule: items with equal scores are ranked by their position in the gallery. Whoever makes the gallery
sorts it by id, and so ranks as the search does (score down, id up).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["CUTOFFS", "TIE_RULE", "Ranks", "ranks_of_relevant", "summarize"]

CUTOFFS = (1, 5, 10)
TIE_RULE = "equal scores by id, ascending"

# Queries whose scores against the whole gallery are held at once.
_QUERIES = 256

Ranks = npt.NDArray[np.int64]


def ranks_of_relevant(
    queries: npt.NDArray[np.float32],
    gallery: npt.NDArray[np.float32],
    query_photos: Sequence[str],
    gallery_photos: Sequence[str],
) -> list[Ranks]:
    """For each query the ranks (1 is the best) of the gallery's items of the same photo, ascending.

    ``queries`` (Q, dimension) and ``gallery`` (G, dimension) are unit vectors, compared by their dot product
    in float64; the photo of each is given by id. A query without a relevant item gets an empty array.
    """
    numbers = {photo: number for number, photo in enumerate(dict.fromkeys((*query_photos, *gallery_photos)))}
    wanted = np.array([numbers[photo] for photo in query_photos], np.int64)
    offered = np.array([numbers[photo] for photo in gallery_photos], np.int64)
    columns = gallery.astype(np.float64).T
    ranks: list[Ranks] = []
    for start in range(0, len(queries), _QUERIES):
        scores = queries[start : start + _QUERIES].astype(np.float64) @ columns
        order = np.argsort(-scores, axis=1, kind="stable")
        relevant = offered[order] == wanted[start : start + _QUERIES, None]
        ranks.extend(np.flatnonzero(row) + 1 for row in relevant)
    return ranks


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
    first = np.array([row[0] for row in judged], np.float64)
    summary = {"mrr": float(np.mean(1 / first))}
    for k in CUTOFFS:
        summary[f"hit@{k}"] = float(np.mean(first <= k))
    for k in CUTOFFS:
        summary[f"recall@{k}"] = float(np.mean([np.mean(row <= k) for row in judged]))
    summary["median_rank"] = float(np.median(first))
    summary["mean_rank"] = float(np.mean(first))
    summary["map"] = float(np.mean(list(_average_precisions(judged))))
    summary["ndcg@10"] = float(np.mean(list(_ndcgs(judged, 10))))
    return summary


def _average_precisions(ranks: Sequence[Ranks]) -> Iterator[float]:
    for row in ranks:
        yield float(np.mean(np.arange(1, len(row) + 1) / row))


def _ndcgs(ranks: Sequence[Ranks], cutoff: int) -> Iterator[float]:
    for row in ranks:
        found = row[row <= cutoff]
        best = np.arange(1, min(len(row), cutoff) + 1)
        yield float(np.sum(1 / np.log2(1 + found)) / np.sum(1 / np.log2(1 + best)))
