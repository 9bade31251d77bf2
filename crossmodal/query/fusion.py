"""One ranking of two: reciprocal rank fusion.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
Methods" (2009): a document's score is the sum of 1 / (60 + rank) over the rankings that it is in. Only ranks
count, so that cosines and BM25 scores need not be comparable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["RANK_CONSTANT", "Fused", "fuse"]

# The k of the paper, found there to be good for rankings of any kind.
RANK_CONSTANT = 60


@dataclass(frozen=True, slots=True)
class Fused:
    """A document with its rank in each ranking, 1 the best and None where it isn't in it, and its score."""

    id: str
    vector_rank: int | None
    word_rank: int | None
    score: float


def fuse(vector_ids: Iterable[str], word_ids: Iterable[str]) -> list[Fused]:
    """Every document of the two rankings (ids, best first), the best fused score first and ties by id.

    Of an id that stands twice in one ranking the better place counts, and the other is no place.
    """
    by_vector, by_words = _ranks(vector_ids), _ranks(word_ids)
    fused = []
    for id in by_vector | by_words:
        vector_rank, word_rank = by_vector.get(id), by_words.get(id)
        score = sum(1 / (RANK_CONSTANT + rank) for rank in (vector_rank, word_rank) if rank is not None)
        fused.append(Fused(id, vector_rank, word_rank, score))
    return sorted(fused, key=lambda one: (-one.score, one.id))


def _ranks(ids: Iterable[str]) -> dict[str, int]:
    return {id: rank for rank, id in enumerate(dict.fromkeys(ids), start=1)}
