"""Matches for programs: paths, JSON, JSON lines and CSV, each yielded as it comes, as bytes for stdout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from crossmodal.cli.output import json_bytes
from crossmodal.cli.questions import Answer, captions_of
from crossmodal.http_shapes.v1.answers import match_json
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT

__all__ = ["as_csv", "as_json", "as_json_lines", "as_paths", "as_report"]

_COLUMNS = ("query", "rank", "score", "cosine", "modality", "id", "uri", "file", "text", "captions", "tags")


def as_paths(answers: Iterable[Answer], *, end: bytes) -> Iterator[bytes]:
    """Where each photo is, ended by ``end``; of a caption its photo, or its words where that is unknown."""
    for answer in answers:
        places = (match.uri or match.file or match.text or match.id for match in answer.matches)
        # A path is any bytes, which Python holds as surrogates where they are no text.
        yield b"".join(place.encode("utf-8", "surrogateescape") + end for place in places)


def as_json(answers: Iterable[Answer]) -> Iterator[bytes]:
    """One JSON array, with an object for each question: its matches, or its error."""
    yield json_bytes(
        [
            {
                "query": answer.question.asked,
                "modality": answer.target,
                "matches": [_match(match) for match in answer.matches],
                "has_more": answer.has_more,
                "error": answer.error,
            }
            for answer in answers
        ]
    )


def as_json_lines(answers: Iterable[Answer]) -> Iterator[bytes]:
    """One line of JSON for each match, with its question."""
    for answer in answers:
        lines = ({"query": answer.question.asked, **_match(match)} for match in answer.matches)
        yield b"".join(map(json_bytes, lines))


def as_csv(answers: Iterable[Answer]) -> Iterator[bytes]:
    """A header, then one record for each match (RFC 4180); captions are a JSON array, tags a JSON object."""
    yield _record(_COLUMNS)
    for answer in answers:
        yield b"".join(_record(_cells(answer, match)) for match in answer.matches)


def as_report(answers: Iterable[Answer], model: Callable[[], str | None]) -> Iterator[bytes]:
    """What ``--json`` prints: one object with the model and one entry for each question."""
    results = [
        {
            "modality": answer.modality,
            "query": answer.question.asked,
            "error": answer.error,
            "matches": [_entry(match) for match in answer.matches],
        }
        for answer in answers
    ]
    yield json_bytes({"model": model(), "results": results})


def _match(match: Match) -> dict[str, Any]:
    """A match as the HTTP API answers it, and where its photo is."""
    return {**match_json(match), "uri": match.uri}


def _entry(match: Match) -> dict[str, Any]:
    entry = _match(match)
    described = {name: entry[name] for name in ("id", "modality", "score", "cosine", "uri")}
    described["file"] = match.file
    described["text"] = match.text
    described["photo_id"] = match.photo_id if match.modality == TEXT else None
    described["tags"] = entry["tags"]
    if match.modality == IMAGE:
        described["captions"] = [text for _, text in match.captions]
    return described


def _cells(answer: Answer, match: Match) -> list[Any]:
    entry = _match(match)
    captions = json.dumps(captions_of(match), ensure_ascii=False) if match.modality == IMAGE else None
    return [
        answer.question.asked,
        *(entry[name] for name in ("rank", "score", "cosine", "modality", "id", "uri")),
        match.file,
        match.text,
        captions,
        json.dumps(entry["tags"], ensure_ascii=False),
    ]


def _record(cells: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")
