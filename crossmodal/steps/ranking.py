"""The ranks of documents that a query names, among everything in the index, whatever the number of shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import Document, ShardScores, other_modality
from crossmodal.index.embedded.scores import ranks_among
from crossmodal.match import Match
from crossmodal.records import IMAGE

__all__ = ["add_scores", "rank_wanted"]


def add_scores(
    docs: Sequence[Document], ids: Sequence[str], scores: NDArray[np.float64], *, shard: int
) -> None:
    """Gives each document its row of ``scores`` (documents, ids), as what ``shard`` knows."""
    for doc, row in zip(docs, scores, strict=True):
        doc.shard_scores = [ShardScores(shard, ids, row)]


def rank_wanted(docs: Iterable[Document]) -> None:
    """Replaces what the shards said by the wanted documents with cosine and rank, the best first.

    A wanted document that no shard holds is left out.
    """
    for doc in docs:
        if doc.shard_scores is None:
            continue
        ids = [id for part in doc.shard_scores for id in part.ids]
        scores = np.concatenate([np.asarray(part.scores, np.float64) for part in doc.shard_scores])
        modality = doc.seeks or other_modality(doc.modality or IMAGE)
        ranked = ranks_among(ids, scores, doc.wanted or ())
        doc.matches = [
            Match(id, modality, score, rank=rank)
            for id, (rank, score) in sorted(ranked.items(), key=lambda item: item[1][0])
        ]
        doc.shard_scores = None
