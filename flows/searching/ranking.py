"""What was found to a ranking: fused with words, by score or by cosine, and near-duplicates grouped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossmodal.api_shapes import file_name
from crossmodal.documents import tags_from_wire
from crossmodal.query.duplicates import group
from crossmodal.query.fusion import fuse
from crossmodal.query.request import HYBRID_DEPTH, FoundMatch, Parts
from crossmodal.records import IMAGE, TEXT
from crossmodal.workspace import Workspace
from flows.searching.running import Running

__all__ = ["grouped", "ranked"]


def ranked(one: Running) -> list[FoundMatch]:
    """All that was found, best first: fused, by score where both modalities are searched, or by cosine."""
    matches: list[FoundMatch] = []
    for target, docs in one.found.items():
        docs = [doc for doc in docs if str(doc.id) not in one.request.exclude]
        scores = one.composed[target].score(np.array([doc.score or 0.0 for doc in docs], np.float64))
        found = [
            FoundMatch(
                id=str(doc.id),
                modality=target,
                cosine=float(doc.score or 0.0),
                score=None if scores is None else float(scores[position]),
                text=doc.text,
                photo_id=str(doc.id) if target == IMAGE else doc.photo_id,
                file=file_name(doc.uri, doc.tags),
                tags=tags_from_wire(doc.tags),
            )
            for position, doc in enumerate(docs)
        ]
        if one.request.hybrid:
            _fuse(found, one.words.get(target, []))
        matches += found
    if one.request.hybrid:
        matches.sort(key=lambda match: (-(match.parts.fused if match.parts else 0.0), match.id))
    elif len(one.found) > 1 and all(match.score is not None for match in matches):
        matches.sort(key=lambda match: (-(match.score or 0.0), -match.cosine, match.id))
    else:
        matches.sort(key=lambda match: (-match.cosine, match.id))
    return matches


def grouped(matches: list[FoundMatch], workspace: Workspace) -> list[FoundMatch]:
    """One of each group of near-duplicates, with the ids of the others; ``matches`` are in their order."""
    vectors = {
        (modality, id): vector
        for modality in (IMAGE, TEXT)
        for id, vector in workspace.vectors(
            [match.id for match in matches if match.modality == modality], modality
        ).items()
    }
    matches = [match for match in matches if (match.modality, match.id) in vectors]
    if not matches:
        return []
    # By position: a photo and a caption may have one id.
    groups = group(
        [str(position) for position in range(len(matches))],
        np.stack([vectors[match.modality, match.id] for match in matches]),
        [match.modality for match in matches],
        [match.text for match in matches],
    )
    kept = []
    for found in groups:
        match = matches[int(found.id)]
        match.duplicates = tuple(matches[int(position)].id for position in found.duplicates)
        kept.append(match)
    return kept


def _fuse(found: Sequence[FoundMatch], words: Sequence[tuple[str, float]]) -> None:
    bm25 = dict(words)
    by_vector = sorted(found, key=lambda match: (-match.cosine, match.id))[:HYBRID_DEPTH]
    by_id = {match.id: match for match in found}
    for fused in fuse([match.id for match in by_vector], [id for id, _ in words if id in by_id]):
        by_id[fused.id].parts = Parts(fused.vector_rank, fused.word_rank, bm25.get(fused.id), fused.score)
