"""What was found to a ranking: fused with words, by score or by cosine, and near-duplicates grouped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossmodal.engine.state import SearchState
from crossmodal.flow.joining import match_order
from crossmodal.match import Match, Parts
from crossmodal.query.duplicates import group
from crossmodal.query.fusion import fuse
from crossmodal.query.request import HYBRID_DEPTH
from crossmodal.records import IMAGE, TEXT
from crossmodal.workspace import Workspace

__all__ = ["grouped", "ranked"]


def ranked(state: SearchState) -> list[Match]:
    """All that was found, best first: fused, by score where both modalities are searched, or by cosine."""
    matches: list[Match] = []
    request = state.request
    for target, found in state.found.items():
        if request.exclude:
            found = [match for match in found if match.id not in request.exclude]
        scores = state.composed[target].score([match.cosine for match in found])
        if scores is not None:
            for match, score in zip(found, scores.tolist(), strict=True):
                match.score = score
        if request.hybrid:
            _fuse(found, state.words.get(target, []))
        matches += found
    if request.hybrid:
        matches.sort(key=lambda match: (-(match.parts.fused if match.parts else 0.0), match.id))
    elif len(state.found) > 1 and all(match.score is not None for match in matches):
        matches.sort(key=lambda match: (-(match.score or 0.0), -match.cosine, match.id))
    elif len(state.found) > 1:
        matches.sort(key=match_order)
    return matches


def grouped(matches: list[Match], workspace: Workspace) -> list[Match]:
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


def _fuse(found: Sequence[Match], words: Sequence[tuple[str, float]]) -> None:
    bm25 = dict(words)
    by_vector = sorted(found, key=match_order)[:HYBRID_DEPTH]
    by_id = {match.id: match for match in found}
    for fused in fuse([match.id for match in by_vector], [id for id, _ in words if id in by_id]):
        by_id[fused.id].parts = Parts(fused.vector_rank, fused.word_rank, bm25.get(fused.id), fused.score)
