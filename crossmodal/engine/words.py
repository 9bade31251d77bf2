"""The words of a hybrid search: which captions, or photos by their captions, hold them."""

from __future__ import annotations

from collections.abc import Sequence

from crossmodal.engine.state import SearchState
from crossmodal.index.embedded.scores import inner_products
from crossmodal.index.protocols import WordHit
from crossmodal.match import Match
from crossmodal.query.request import HYBRID_DEPTH, MAX_RESULTS
from crossmodal.records import TEXT, Modality
from crossmodal.workspace import Workspace

__all__ = ["WordSearch"]


class WordSearch:
    """Searches the captions' words. Safe across threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, hybrid: Sequence[SearchState]) -> None:
        """Adds to each request what its words find, with cosines like other matches."""
        for state in hybrid:
            sentence = " ".join(term.text for term in state.request.terms if term.text and term.weight > 0)
            # A photo has several captions, and a filter may refuse most of what the words find.
            hits = self._workspace.search_words(sentence, MAX_RESULTS)
            for target in state.composed:
                self._take_hits(state, target, _by_document(hits, target))

    def _take_hits(self, state: SearchState, target: Modality, bm25: dict[str, float]) -> None:
        """Keeps the best that words found (``bm25`` by id, best first), with cosines like other matches."""
        records = self._workspace.records(bm25, target)
        rule = state.request.filter
        kept = [
            id
            for id, record in records.items()
            if id not in state.request.exclude and (rule is None or rule.matches(target, record.tags))
        ][:HYBRID_DEPTH]
        state.words[target] = [(id, bm25[id]) for id in kept]
        known = {match.id for match in state.found[target]}
        vectors = self._workspace.vectors([id for id in kept if id not in known], target)
        for id, vector in vectors.items():
            (cosine,) = inner_products(state.composed[target].vector, vector[None])
            match = Match(id, target, float(cosine))
            match.describe(records[id])
            state.found[target].append(match)


def _by_document(hits: Sequence[WordHit], target: Modality) -> dict[str, float]:
    """The BM25 score of each caption, or of each photo by its best caption, best first."""
    found: dict[str, float] = {}
    for hit in hits:
        id = hit.id if target == TEXT else hit.photo_id
        if id:
            found.setdefault(id, hit.bm25)
    return found
