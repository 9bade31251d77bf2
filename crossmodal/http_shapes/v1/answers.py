"""Answers of the native API: the results of a search, single documents, and how the index is searched."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.match import SCORE_DIGITS, Match, VideoMoment, video_moment
from crossmodal.query.expression import Term
from crossmodal.query.request import FIELDS, SearchOutcome, Timing
from crossmodal.records import IMAGE, Look, Modality, Record

__all__ = ["document_json", "index_state", "match_json", "render_search", "worst_backend"]

_NOT_SEARCHED: Mapping[str, Any] = {
    "tier": "none",
    "recall": None,
    "recall_measured": "This server indexes and answers no searches.",
    "building": None,
    "backend": None,
}


def render_search(
    outcomes: Sequence[SearchOutcome],
    *,
    model: str,
    timing: Timing,
    problem_of: Callable[[Exception], dict[str, Any]],
) -> dict[str, Any]:
    """The answer to POST /v1/search: one result a query, in the order asked.

    ``problem_of`` makes a problem document of an error.
    """
    return {
        "results": [_result(outcome, problem_of) for outcome in outcomes],
        "model": model,
        "timing": {name: round(milliseconds, 3) for name, milliseconds in asdict(timing).items()},
    }


def document_json(
    record: Record,
    *,
    captions: Sequence[Record] = (),
    photo: Record | None = None,
    look: Look | None = None,
    text_in_photo: str | None = None,
) -> dict[str, Any]:
    """One document; ``photo`` is the one that a caption describes, where it is indexed, ``look`` its look.

    ``text_in_photo`` is what was read in a photo, None where nobody has looked yet.
    """
    if record.modality == IMAGE:
        photo = record
    moment = video_moment(record.id, record.mime_type, record.metadata)
    return {
        "id": record.id,
        "modality": record.modality,
        "text": record.text,
        "mime_type": record.mime_type,
        "photo": None if photo is None else _photo(photo.id, photo.file, look),
        **({} if moment is None else {"video": _video(moment)}),
        "captions": [{"id": caption.id, "text": caption.text or ""} for caption in captions],
        "text_in_photo": text_in_photo,
        "tags": dict(record.all_tags),
    }


def index_state(shards: Mapping[Modality, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """``index`` of GET /v1/status from what the shards of each modality report.

    A shard reports its ``tier``, ``recall`` (in [0, 1], None if unknown), ``recall_measured`` (a sentence)
    and ``building`` (None, or ``what`` is being built and how much of it is ``done``, in [0, 1]); one that a
    vector database searches, its ``backend``: ``where``, ``state``, ``behind`` and ``error``. A modality is
    as good as its worst shard and as far as its slowest, and so is the index of its modalities.
    """
    return {
        **_together([state for states in shards.values() for state in states]),
        "modalities": {modality: _together(states) for modality, states in shards.items()},
    }


def _together(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not states:
        return dict(_NOT_SEARCHED)
    worst = min(states, key=lambda state: -1.0 if state["recall"] is None else state["recall"])
    building = [state["building"] for state in states if state["building"] is not None]
    return {
        "tier": ", ".join(sorted({state["tier"] for state in states})),
        "recall": worst["recall"],
        "recall_measured": worst["recall_measured"],
        "building": min(building, key=lambda work: work["done"], default=None),
        "backend": worst_backend([state["backend"] for state in states if state.get("backend") is not None]),
    }


def worst_backend(backends: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one of these states of a vector database that is worst off; None without any."""
    return max(backends, key=_trouble_of, default=None)


def _trouble_of(backend: Mapping[str, Any]) -> tuple[int, float]:
    """How bad the state of a vector database is: the further it is behind, and worst of all away."""
    behind = backend["behind"]
    return ("ready", "filling", "away").index(backend["state"]), math.inf if behind is None else behind


def _photo(id: str | None, file: str | None, look: Look | None) -> dict[str, str | int | None] | None:
    """Where a photo can be seen, as paths on this server, what its file was called, and how it looks."""
    if id is None:
        return None
    shown = asdict(look or Look())
    base = _document(id)
    return {"id": id, "content": f"{base}/content", "thumbnail": f"{base}/thumbnail", "file": file, **shown}


def _video(video: VideoMoment) -> dict[str, Any]:
    """A moment of a video, with a path on this server that browsers play from there (Media Fragments URI)."""
    content = f"{_document(video.id)}/content#t={video.time_seconds:g}"
    return {**asdict(video), "content": content}


def _document(id: str) -> str:
    return f"{ROOT_PATH.get()}/v1/documents/{quote(id, safe='')}"


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
        "truncated": outcome.truncated,
        "recognised": [asdict(one) for one in outcome.recognised],
        "reranked": None if outcome.reranked is None else asdict(outcome.reranked),
        "partial": outcome.partial,
        "fits": outcome.fits,
        "doubt": outcome.doubt,
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
    if term.vector is not None:
        # Its numbers are the client's own, and many.
        return {"vector": "given", "modality": kind, "weight": term.weight}
    return {"image": "uploaded", "weight": term.weight}


def match_json(match: Match, fields: Collection[str] = FIELDS) -> dict[str, Any]:
    """One match of an answer, with those of ``FIELDS`` that are wanted."""
    found: dict[str, Any] = {
        "id": match.id,
        "modality": match.modality,
        "rank": match.rank,
        "score": None if match.score is None else round(match.score, SCORE_DIGITS),
        "cosine": match.cosine,
    }
    if "text" in fields:
        found["text"] = match.text
    if "photo" in fields:
        found["photo"] = _photo(match.photo_id, match.file, match.look)
    if match.video is not None and "photo" in fields:
        found["video"] = _video(match.video)
    if "captions" in fields:
        found["captions"] = [caption._asdict() for caption in match.captions]
    if "tags" in fields:
        found["tags"] = dict(match.tags)
    if match.text_in_photo is not None:
        found["text_in_photo"] = match.text_in_photo
    if match.parts is not None:
        found["parts"] = asdict(match.parts)
    if match.duplicates is not None:
        found["duplicates"] = list(match.duplicates)
    if match.reranked is not None:
        found["reranked"] = match.reranked
    if match.explanation is not None:
        found["explanation"] = asdict(match.explanation)
    return found
