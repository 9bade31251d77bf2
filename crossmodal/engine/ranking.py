"""A search request on its way through the engine: what was found, by vectors and by words, becomes a ranking.

What is found is fused with words, ordered by score or by cosine minus hubness, and near-duplicates and photos
of one burst are grouped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from crossmodal.engine.duplicates import Pictures
from crossmodal.filters.sorting import Order
from crossmodal.index.embedded.scores import inner_products
from crossmodal.index.protocols import WordHit
from crossmodal.match import Match, Parts
from crossmodal.query.bursts import shot_of
from crossmodal.query.calibration import Calibration
from crossmodal.query.composition import ComposedQuery, EncodedTerm
from crossmodal.query.fusion import fuse, group
from crossmodal.query.request import HYBRID_DEPTH, MAX_RESULTS, SearchOutcome, SearchRequest
from crossmodal.records import IMAGE, MODALITIES, TEXT, Modality, Record
from crossmodal.workspace import Workspace

__all__ = ["SearchState", "WordSearch", "deepest", "first_depth", "grouped", "ranked", "sort_by_tag"]

# Grouping needs more results than it will show; so many times what is asked for is fetched, then all.
_GROUPING_FACTOR = 4

# The same depth for every small top_k: a result's duplicates then don't depend on how many are shown.
_GROUPING_LEAST = 200


@dataclass(slots=True)
class SearchState:
    """One request with its outcome in the making.

    ``depth`` is how many matches the indexes are asked for. By modality searched: ``composed`` vectors, what
    was ``found``, and the (id, BM25) pairs that ``words`` found, best first. ``texts`` are those that were
    read in photos and have its words, by the photos' ids, best first. ``reranked`` is what the second stage
    gave each candidate, None as long as it has seen none.
    """

    request: SearchRequest
    outcome: SearchOutcome
    depth: int
    calibration: Calibration | None = None
    terms: list[EncodedTerm] = field(default_factory=list)
    composed: dict[Modality, ComposedQuery] = field(default_factory=dict)
    found: dict[Modality, list[Match]] = field(default_factory=dict)
    words: dict[Modality, list[tuple[str, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    reranked: dict[str, float] | None = None

    @property
    def failed(self) -> bool:
        """Whether the request has an error already."""
        return self.outcome.error is not None

    @property
    def sentence(self) -> str:
        """The words that are looked for."""
        return " ".join(term.text for term in self.request.terms if term.text and term.weight > 0)


def first_depth(request: SearchRequest) -> int:
    """How many matches the indexes are asked for: enough that some are left, and one that shows if there are
    more."""
    if request.hybrid:
        return HYBRID_DEPTH
    wanted = request.offset + request.top_k + 1
    if request.group_duplicates:
        wanted = max(wanted * _GROUPING_FACTOR, _GROUPING_LEAST)
    if request.rerank is not None:
        wanted = max(wanted, request.rerank.depth)
    return min(wanted + len(request.exclude), deepest(request))


def deepest(request: SearchRequest) -> int:
    """The most matches that the indexes are ever asked for."""
    return MAX_RESULTS + len(request.exclude)


class WordSearch:
    """Searches the words of captions, of photos' files, and of the text in photos. Safe across threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, hybrid: Sequence[SearchState]) -> None:
        """Adds to each request what its words find, with cosines like other matches."""
        for state in hybrid:
            # A photo has several captions, and a filter may refuse most of what the words find.
            hits = self._workspace.search_words(state.sentence, MAX_RESULTS)
            for target in state.composed:
                bm25 = _by_document(hits, target)
                state.words[target] = [(id, bm25[id]) for id in self._kept(state, target, list(bm25))]
            if IMAGE in state.composed:
                hits_in_photos = self._workspace.matching_texts(state.sentence, MAX_RESULTS)
                texts = {hit.photo: hit.text for hit in hits_in_photos}
                state.texts = {id: texts[id] for id in self._kept(state, IMAGE, list(texts))}

    def _kept(self, state: SearchState, target: Modality, ids: Sequence[str]) -> list[str]:
        """The best of ``ids``, best first, that may be found, which have cosines like other matches then."""
        rule = state.request.filter
        wanted = [id for id in ids if id not in state.request.exclude]
        records: dict[str, Record] = {}
        for start in range(0, len(wanted), HYBRID_DEPTH):
            read = self._workspace.records(wanted[start : start + HYBRID_DEPTH], target)
            records |= {
                id: record
                for id, record in read.items()
                if rule is None or rule.matches(target, record.all_tags, {id, record.photo_id})
            }
            if len(records) >= HYBRID_DEPTH:
                break
        kept = list(records)[:HYBRID_DEPTH]
        known = {match.id for match in state.found[target]}
        query = state.composed[target]
        vectors = self._workspace.vectors([id for id in kept if id not in known], target)
        hubness = self._workspace.hubness(vectors, target) if query.corrected else {}
        for id, vector in vectors.items():
            cosine = float(inner_products(query.vector, vector[None])[0])
            match = Match(id, target, cosine)
            if query.corrected:
                match.corrected = cosine - hubness.get(id, 0.0)
            match.describe(records[id])
            state.found[target].append(match)
        return kept


def _by_document(hits: Sequence[WordHit], target: Modality) -> dict[str, float]:
    """The BM25 score of each caption, or of each photo by its best caption or its file, best first."""
    found: dict[str, float] = {}
    for hit in hits:
        if target == TEXT and hit.modality != TEXT:
            continue
        id = hit.id if target == TEXT else hit.photo_id
        if id:
            found.setdefault(id, hit.bm25)
    return found


def ranked(state: SearchState) -> list[Match]:
    """All that was found, best first: fused, by score where both modalities are searched, or in their own
    order."""
    matches: list[Match] = []
    request = state.request
    for target, found in state.found.items():
        if request.exclude:
            found = [match for match in found if match.id not in request.exclude]
        scores = state.composed[target].score([-match.order[0] for match in found])
        if scores is not None:
            for match, score in zip(found, scores.tolist(), strict=True):
                match.score = score
        if request.hybrid:
            _fuse(found, state.words.get(target, []), state.texts if target == IMAGE else ())
        matches += found
    if request.hybrid:
        matches.sort(key=lambda match: (-(match.parts.fused if match.parts else 0.0), match.id))
    elif len(state.found) > 1 and all(match.score is not None for match in matches):
        matches.sort(key=lambda match: (-(match.score or 0.0), *match.order))
    elif len(state.found) > 1:
        matches.sort(key=attrgetter("order"))
    return matches


def grouped(matches: list[Match], workspace: Workspace, pictures: Pictures) -> list[Match]:
    """One of each group of near-duplicates, of each burst and of each video, with the ids of the others.

    ``matches`` are in their order.
    """
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
    photos = workspace.records([match.id for match in matches if match.modality == IMAGE], IMAGE)
    shots = [
        # Moments have the time at which their video begins.
        shot_of(photos[match.id].all_tags)
        if match.modality == IMAGE and match.id in photos and match.video is None
        else None
        for match in matches
    ]
    # By position: a photo and a caption may have one id.
    groups = group(
        [str(position) for position in range(len(matches))],
        np.stack([vectors[match.modality, match.id] for match in matches]),
        [match.modality for match in matches],
        [match.text for match in matches],
        lambda one, other: pictures.same(matches[int(one)].id, matches[int(other)].id),
        shots,
        [None if match.video is None else match.video.id for match in matches],
    )
    kept = []
    for found in groups:
        match = matches[int(found.id)]
        match.duplicates = tuple(matches[int(position)].id for position in found.duplicates)
        kept.append(match)
    return kept


def sort_by_tag(matches: Sequence[Match], order: Order, workspace: Workspace) -> list[Match]:
    """``matches`` by one of their tags, which not all of them have brought along."""
    tags = {
        (modality, id): record.all_tags
        for modality in MODALITIES
        for id, record in workspace.records(
            [match.id for match in matches if match.modality == modality], modality
        ).items()
    }
    return order.sorted(
        matches, lambda match: tags.get((match.modality, match.id), {}), lambda match: match.id
    )


def _fuse(found: Sequence[Match], words: Sequence[tuple[str, float]], texts: Iterable[str]) -> None:
    bm25 = dict(words)
    by_vector = sorted(found, key=attrgetter("order"))[:HYBRID_DEPTH]
    by_id = {match.id: match for match in found}
    rankings = [match.id for match in by_vector], [id for id, _ in words if id in by_id]
    for fused in fuse(*rankings, [id for id in texts if id in by_id]):
        by_id[fused.id].parts = Parts(
            fused.vector_rank, fused.word_rank, bm25.get(fused.id), fused.score, fused.text_rank
        )
