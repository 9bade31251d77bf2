"""Why each match of a search stands where it does: what the terms, the rankings and the words gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from crossmodal.deadlines import check_deadline
from crossmodal.engine.ranking import SearchState
from crossmodal.index.embedded.matched_words import found_spans, found_words
from crossmodal.index.embedded.scores import inner_products
from crossmodal.index.embedded.tokens import words_of_file, words_of_text
from crossmodal.match import Explanation, FusedShares, Match, MatchedWords, Parts, TermShare
from crossmodal.query.fusion import reciprocal
from crossmodal.records import IMAGE, Modality
from crossmodal.videos.moments import video_of
from crossmodal.workspace import Workspace

__all__ = ["explain"]

# Of a match with more texts that have words of the query, the first ones are explained.
_MOST_TEXTS = 20

# What of a match words are searched in: field, id of a caption, and the text.
_Texts = Sequence[tuple[str, str | None, str]]


def explain(state: SearchState, workspace: Workspace) -> None:
    """Gives each match of ``state``'s outcome its explanation.

    A match that was deleted since it was found has none.
    """
    matches = state.outcome.matches
    words = _words(state, matches, workspace) if state.request.hybrid else {}
    for modality, query in state.composed.items():
        check_deadline()
        found = [match for match in matches if match.modality == modality]
        vectors = workspace.vectors([match.id for match in found], modality)
        found = [match for match in found if match.id in vectors]
        if not found:
            continue
        rows = np.stack([vectors[match.id] for match in found])
        cosines = [inner_products(term.vector, rows).tolist() for term in state.terms]
        for match, own in zip(found, zip(*cosines, strict=True), strict=True):
            match.explanation = Explanation(
                tuple(
                    TermShare(cosine, factor, factor * cosine)
                    for cosine, factor in zip(own, query.factors, strict=True)
                ),
                None if match.corrected is None else match.cosine - match.corrected,
                None if match.parts is None else _fused(match.parts),
                words.get((modality, match.id), ()),
            )


def _fused(parts: Parts) -> FusedShares:
    ranks = parts.vector_rank, parts.word_rank, parts.text_rank
    return FusedShares(*(None if rank is None else reciprocal(rank) for rank in ranks))


def _words(
    state: SearchState, matches: Sequence[Match], workspace: Workspace
) -> Mapping[tuple[Modality, str], tuple[MatchedWords, ...]]:
    """The words of each match that the query's words find, by modality and id."""
    photos = [match for match in matches if match.modality == IMAGE]
    captions = workspace.captions_of([video_of(match.id) for match in photos]) if photos else {}
    texts: dict[tuple[Modality, str], _Texts] = {}
    for match in matches:
        if match.modality == IMAGE:
            of_photo = [("caption", each.id, each.text or "") for each in captions[video_of(match.id)]]
            others = ("file", match.file), ("text_in_photo", match.text_in_photo)
            texts[IMAGE, match.id] = [*of_photo, *((name, None, text) for name, text in others if text)]
        else:
            texts[match.modality, match.id] = [("caption", match.id, match.text or "")]
    words = {
        key: [list(words_of_file(text) if field == "file" else words_of_text(text)) for field, _, text in own]
        for key, own in texts.items()
    }
    found = found_words(state.sentence, [word for own in words.values() for each in own for word in each])
    matched = {}
    for key, own in texts.items():
        check_deadline()
        # Most texts have none, and to find where a word stands takes ten times as long.
        with_words = (
            each
            for text, known in zip(own, words[key], strict=True)
            if not found.isdisjoint(known) and (each := _matched(*text, known, found)).words
        )
        matched[key] = tuple(islice(with_words, _MOST_TEXTS))
    return matched


def _matched(field: str, id: str | None, text: str, known: Sequence[str], found: set[str]) -> MatchedWords:
    """Those of the words ``known`` of a text that were ``found``, and where they stand."""
    if field == "file":
        return MatchedWords(field, id, tuple(word for word in known if word in found), ())
    spans = found_spans(text, found)
    return MatchedWords(field, id, tuple(text[start:end] for start, end in spans), tuple(spans))
