"""Joins branches and shards by document id, field by field; ``Joiner`` is the step where they meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import Document, ShardScores, other_modality
from crossmodal.index.embedded.scores import ranks_among
from crossmodal.match import Match
from crossmodal.records import IMAGE
from crossmodal.steps.step import Step

__all__ = ["Joiner", "add_scores", "join", "merge_shards", "rank_wanted"]

_FIELDS = tuple(field.name for field in fields(Document) if field.name != "id")

# What shards add to each other instead of overwriting it.
_UNITED = ("shard_scores", "shard_states")


def join(branches: Iterable[Sequence[Document]]) -> list[Document]:
    """Merges branches by document id: a later branch overwrites a field unless it left None there.

    Matches are united by id, and so is what each shard said. The order is that of first appearance. A
    document that both branches pass on by reference is taken once.
    """
    merged: dict[str, Document] = {}
    for branch in branches:
        for doc in branch:
            known = merged.setdefault(doc.id, doc)
            if known is not doc:
                _update(known, doc)
    return list(merged.values())


def merge_shards(docs: Sequence[Document], parameters: Mapping[str, Any]) -> None:
    """Puts the matches that several shards left on a document in their order, and cuts them to ``top_k``.

    A document that failed in one of its shards keeps no matches: they would not be the best.
    """
    for doc in docs:
        if doc.error is not None:
            doc.matches = None
        elif doc.matches is not None:
            doc.matches.sort(key=attrgetter("order"))
            if (top_k := parameters.get("top_k")) is not None:
                del doc.matches[int(top_k) :]


def _update(known: Document, doc: Document) -> None:
    for name in _FIELDS:
        value, held = getattr(doc, name), getattr(known, name)
        if value is None or value is held:
            continue
        if name == "matches" and held is not None:
            seen = {match.id for match in held}
            value = [*held, *(match for match in value if match.id not in seen)]
        elif name == "record" and held is not None:
            value = replace(
                value, content=value.content or held.content, thumbnail=value.thumbnail or held.thumbnail
            )
        elif name in _UNITED and held is not None:
            value = [*held, *(part for part in value if part not in held)]
        setattr(known, name, value)


def add_scores(
    docs: Sequence[Document],
    ids: Sequence[str],
    cosines: NDArray[np.float64],
    hubness: NDArray[np.float32],
    *,
    shard: int,
) -> None:
    """Gives each document its row of ``cosines`` (documents, ids), as what ``shard`` knows."""
    for doc, row in zip(docs, cosines, strict=True):
        doc.shard_scores = [ShardScores(shard, ids, row, hubness)]


def rank_wanted(docs: Iterable[Document]) -> None:
    """Replaces what the shards said by the wanted documents with their ranks, the best first.

    A wanted document that no shard holds is left out. ``plain_rank`` is the rank by the cosine alone.
    """
    for doc in docs:
        if doc.shard_scores is None:
            continue
        ids = [id for part in doc.shard_scores for id in part.ids]
        cosines, hubness = (
            np.concatenate([np.asarray(getattr(part, name), np.float64) for part in doc.shard_scores])
            for name in ("cosines", "hubness")
        )
        modality = doc.seeks or other_modality(doc.modality or IMAGE)
        plain = ranks_among(ids, cosines, doc.wanted or ())
        ranked = ranks_among(ids, cosines - hubness, doc.wanted or ()) if doc.corrected else plain
        doc.matches = [
            Match(
                id,
                modality,
                plain[id][1],
                rank=rank,
                corrected=score if doc.corrected else None,
                plain_rank=plain[id][0],
            )
            for id, (rank, score) in sorted(ranked.items(), key=lambda item: item[1][0])
        ]
        doc.shard_scores = None


class Joiner(Step):
    """Takes up what the branches left; whatever runs the Flow has joined them by then."""

    spent = ("content", "thumbnail", "pixels", "frame", "record", "text", "shard_scores")

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Counts the ranks of what a document wants, among what all shards said."""
        rank_wanted(docs)
