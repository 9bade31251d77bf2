"""What a search found, and single documents, as the native API answers them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any
from urllib.parse import quote

from crossmodal.match import Match
from crossmodal.query.request import FIELDS, SearchOutcome, Timing
from crossmodal.query.terms import Term
from crossmodal.records import IMAGE, Modality, Record

__all__ = ["document_json", "match_json", "photo_json", "render_search"]


def render_search(
    outcomes: Sequence[SearchOutcome],
    *,
    model: str,
    timing: Timing,
    problem_of: Callable[[Exception], dict[str, Any]],
) -> dict[str, Any]:
    """The answer to POST /v1/search: one result a query, in the order asked.

    ``problem_of`` says what an error comes to, as a problem document.
    """
    return {
        "results": [_result(outcome, problem_of) for outcome in outcomes],
        "model": model,
        "timing": {
            "total_ms": round(timing.total_ms, 3),
            "encode_ms": round(timing.encode_ms, 3),
            "search_ms": round(timing.search_ms, 3),
            "words_ms": round(timing.words_ms, 3),
            "fetch_ms": round(timing.fetch_ms, 3),
        },
    }


def document_json(
    record: Record, *, captions: Sequence[Record] = (), photo: Record | None = None
) -> dict[str, Any]:
    """One document; ``photo`` is the one that a caption describes, where it is indexed."""
    if record.modality == IMAGE:
        photo = record
    return {
        "id": record.id,
        "modality": record.modality,
        "text": record.text,
        "mime_type": record.mime_type,
        "photo": None if photo is None else photo_json(photo.id, photo.file),
        "captions": [{"id": caption.id, "text": caption.text or ""} for caption in captions],
        "tags": dict(record.tags),
    }


def photo_json(id: str | None, file: str | None) -> dict[str, str | None] | None:
    """Where a photo can be seen, as paths on this server, and what its file was called."""
    if id is None:
        return None
    base = f"/v1/documents/{quote(id, safe='')}"
    return {"id": id, "content": f"{base}/content", "thumbnail": f"{base}/thumbnail", "file": file}


def _result(outcome: SearchOutcome, problem_of: Callable[[Exception], dict[str, Any]]) -> dict[str, Any]:
    error = None
    if outcome.error is not None:
        problem = problem_of(outcome.error)
        error = {name: problem[name] for name in ("title", "status", "detail", "errors") if name in problem}
    return {
        "query": _query(outcome),
        "matches": [
            match_json(match, outcome.request.fields)
            for match in outcome.matches
            if outcome.request is not None
        ],
        "has_more": outcome.has_more,
        "error": error,
    }


def _query(outcome: SearchOutcome) -> dict[str, Any] | None:
    if outcome.request is None:
        return None
    terms = outcome.request.terms
    kinds: Sequence[Modality | None] = outcome.kinds or [None] * len(terms)
    return {
        "terms": [_term(term, kind) for term, kind in zip(terms, kinds, strict=True)],
        "modality": outcome.modality,
    }


def _term(term: Term, kind: Modality | None) -> dict[str, Any]:
    if term.text is not None:
        return {"text": term.text, "weight": term.weight}
    if term.id is not None:
        return {"id": term.id, "modality": kind, "weight": term.weight}
    return {"image": "uploaded", "weight": term.weight}


def match_json(match: Match, fields: Collection[str] = FIELDS) -> dict[str, Any]:
    """One match of an answer, with those of ``FIELDS`` that are wanted."""
    found: dict[str, Any] = {
        "id": match.id,
        "modality": match.modality,
        "rank": match.rank,
        "score": None if match.score is None else round(match.score, 6),
        "cosine": match.cosine,
    }
    if "text" in fields:
        found["text"] = match.text
    if "photo" in fields:
        found["photo"] = photo_json(match.photo_id, match.file)
    if "captions" in fields:
        found["captions"] = [{"id": id, "text": text} for id, text in match.captions]
    if "tags" in fields:
        found["tags"] = dict(match.tags)
    if match.parts is not None:
        parts = match.parts
        found["parts"] = {
            "vector_rank": parts.vector_rank,
            "word_rank": parts.word_rank,
            "bm25": parts.bm25,
            "fused": parts.fused,
        }
    if match.duplicates is not None:
        found["duplicates"] = list(match.duplicates)
    return found
