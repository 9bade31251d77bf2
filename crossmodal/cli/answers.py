"""What the questions of ``search`` found, whether an index on this machine or a server answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from crossmodal.cli.questions import Question
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT, Modality

__all__ = ["Answer", "Answers", "captions_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one ``question`` found, best first, or the ``error`` that kept it from being answered.

    ``target`` is what was searched, None where nothing was.
    """

    question: Question
    target: Modality | None = None
    matches: Sequence[Match] = field(default_factory=list)
    error: str | None = None

    @property
    def modality(self) -> Modality:
        """What the question counts as: text finds photos, an image captions."""
        return self.question.modality(self.target)

    def to_json(self) -> dict[str, Any]:
        """One entry of ``results``, as JSON values."""
        return {
            "modality": self.modality,
            "query": self.question.asked,
            "error": self.error,
            "matches": [_match(match) for match in self.matches],
        }


class Answers(Protocol):
    """Where answers come from: an index on this machine, or a server."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer for each question, in their order."""

    def thumbnail(self, photo_id: str) -> bytes | None:
        """An indexed photo as a small image file, None where there is none."""

    @property
    def model(self) -> str | None:
        """The model that the answers were found with; None before anything was asked."""


def captions_of(match: Match) -> tuple[str, ...]:
    """The captions of a found photo: those indexed, or those in its tags ``captions`` or ``caption``."""
    if match.captions:
        return tuple(text for _, text in match.captions)
    found = match.tags.get("captions") or match.tags.get("caption") or ()
    return (found,) if isinstance(found, str) else tuple(str(caption) for caption in found)


def _match(match: Match) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": match.id,
        "modality": match.modality,
        # To as many digits as a server sends.
        "score": None if match.score is None else round(match.score, 6),
        "cosine": match.cosine,
        "uri": match.uri,
        "file": match.file,
        "text": match.text,
        "photo_id": match.photo_id if match.modality == TEXT else None,
        "tags": dict(match.tags),
    }
    if match.modality == IMAGE:
        described["captions"] = [text for _, text in match.captions]
    return described
