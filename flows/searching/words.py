"""The words of a hybrid search: which captions, or photos by their captions, hold them."""

from __future__ import annotations

from collections.abc import Sequence

from crossmodal.documents import MatchDocument
from crossmodal.query.request import HYBRID_DEPTH, MAX_RESULTS
from crossmodal.query.words import WordHit, WordIndex
from crossmodal.records import TEXT, Modality
from crossmodal.search.scores import inner_products
from crossmodal.workspace import Workspace
from flows.searching.running import Running

__all__ = ["WordSearch"]


class WordSearch:
    """Searches the captions' words; blocks, so it belongs in a thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._words = WordIndex(workspace.text_stores)

    def search(self, hybrid: Sequence[Running]) -> None:
        """Adds to each request what its words find, with cosines like other matches."""
        for one in hybrid:
            sentence = " ".join(term.text for term in one.request.terms if term.text and term.weight > 0)
            # A photo has several captions, and a filter may refuse most of what the words find.
            hits = self._words.search(sentence, MAX_RESULTS)
            for target in one.composed:
                self._take_hits(one, target, _by_document(hits, target))

    def _take_hits(self, one: Running, target: Modality, bm25: dict[str, float]) -> None:
        """Keeps the best that words found (``bm25`` by id, best first), with cosines like other matches."""
        records = self._workspace.records(bm25, target)
        rule = one.request.filter
        kept = [
            id
            for id, record in records.items()
            if id not in one.request.exclude and (rule is None or rule.matches(target, record.tags))
        ][:HYBRID_DEPTH]
        one.words[target] = [(id, bm25[id]) for id in kept]
        known = {str(match.id) for match in one.found[target]}
        vectors = self._workspace.vectors([id for id in kept if id not in known], target)
        for id, vector in vectors.items():
            record = records[id]
            (cosine,) = inner_products(one.composed[target].vector, vector[None])
            one.found[target].append(
                MatchDocument(
                    id=id,
                    modality=target,
                    text=record.text,
                    uri=record.uri,
                    mime_type=record.mime_type,
                    photo_id=record.photo_id,
                    tags=dict(record.tags),
                    score=float(cosine),
                )
            )


def _by_document(hits: Sequence[WordHit], target: Modality) -> dict[str, float]:
    """The BM25 score of each caption, or of each photo by its best caption, best first."""
    found: dict[str, float] = {}
    for hit in hits:
        id = hit.id if target == TEXT else hit.photo_id
        if id:
            found.setdefault(id, hit.bm25)
    return found
