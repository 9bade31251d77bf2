"""The ranks of documents that a query names, among everything in the index, whatever the number of shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
from docarray import DocList
from numpy.typing import NDArray

from crossmodal.documents import MatchDocument, MediaDocument, ShardScores
from crossmodal.search.scores import ranks_among
from executors.visits import visit_name

__all__ = ["add_scores", "rank_wanted"]


def add_scores(
    docs: Sequence[MediaDocument], ids: Sequence[str], scores: NDArray[np.float64], *, shard: int
) -> None:
    """Gives each document its row of ``scores`` (documents, ids), as what ``shard`` knows."""
    listed = json.dumps(ids)
    for doc, row in zip(docs, scores, strict=True):
        part = ShardScores(id=visit_name("scores", shard), ids=listed, scores=row)
        doc.shard_scores = DocList[ShardScores]([part])


def rank_wanted(docs: Iterable[MediaDocument]) -> None:
    """Replaces what the shards said by the wanted documents with score and rank, the best first.

    A wanted document that no shard holds is left out.
    """
    for doc in docs:
        if doc.shard_scores is None:
            continue
        ids = [id for part in doc.shard_scores for id in json.loads(part.ids or "[]")]
        scores = np.concatenate([np.asarray(part.scores, np.float64) for part in doc.shard_scores])
        ranked = ranks_among(ids, scores, doc.wanted or ())
        doc.matches = DocList[MatchDocument](
            [
                MatchDocument(id=id, score=score, rank=rank)
                for id, (rank, score) in sorted(ranked.items(), key=lambda item: item[1][0])
            ]
        )
        doc.shard_scores = None
