"""What the questions of ``search`` found, whether an index on this machine or a server answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crossmodal.cli.questions import Question
from crossmodal.match import Match
from crossmodal.query.request import Target
from crossmodal.records import Modality

__all__ = ["Answer", "Answers", "captions_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one ``question`` found, best first, or the ``error`` for which there is no answer.

    ``target`` is what was searched, None where nothing was. ``has_more`` says that there are matches behind
    these.
    """

    question: Question
    target: Target | None = None
    matches: Sequence[Match] = field(default_factory=list)
    error: str | None = None
    has_more: bool = False

    @property
    def modality(self) -> Modality:
        """What the question counts as: text finds photos, an image captions."""
        return self.question.modality(self.target)


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
