"""What ``search`` is asked and what it found.

The questions of the command line and of stdin, and the filter, are checked here. Answers are the same whether
an index on this machine or a server gives them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from crossmodal.data_sets.photos import read_photo_file
from crossmodal.data_sets.values import has_lone_surrogate
from crossmodal.errors import DataError, FilterError, SettingsError
from crossmodal.filters import Filter, parse_filter
from crossmodal.filters.sorting import Order, parse_order
from crossmodal.match import Match
from crossmodal.query.expression import parse_expression
from crossmodal.query.recognition import Recognised
from crossmodal.query.request import HYBRID_DEPTH, MAX_RESULTS, Reranked, Target
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.settings import GivenQuestion, Settings

__all__ = [
    "STDIN",
    "Answer",
    "Answers",
    "Question",
    "captions_of",
    "check_depth",
    "question_batches",
    "read_filter",
    "read_order",
    "searches_words",
]

STDIN = GivenQuestion("query", "-")

# Of stdin, so that a long list is answered as it comes. A batch ends earlier where nothing more is there yet.
_LARGEST_BATCH = 64

_FILTER_EXAMPLE = """write it like --filter '{"place": "harbour"}'"""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as ``asked`` on the command line or in a line of stdin.

    It is one of a ``text``, an ``image`` (the bytes of a photo), an ``expression`` and the id that matches
    shall be ``like``; or an ``error`` says why it is none of them. With ``similar`` an image finds photos.
    """

    asked: str
    text: str | None = None
    image: bytes | None = None
    expression: str | None = None
    like: str | None = None
    similar: bool = False
    error: str | None = None

    @property
    def has_words(self) -> bool:
        """Whether there is a word in it that is wanted."""
        if self.expression is None:
            return self.text is not None
        try:
            return any(term.text and term.weight > 0 for term in parse_expression(self.expression))
        except DataError:
            return False

    @property
    def term_names(self) -> list[str]:
        """What messages call the terms of a question that could be read."""
        if self.expression is None:
            return [self.asked]
        return [term.text or f"id:{term.id}" for term in parse_expression(self.expression)]

    def modality(self, target: Target | None) -> Modality:
        """What the question counts as, where ``target`` was searched (None: nothing was): "text" or "image".

        An expression or id counts as what would search the same: a sentence finds photos, a photo captions.
        """
        if self.text is not None:
            return TEXT
        return IMAGE if self.image is not None or target == TEXT else TEXT


def question_batches(settings: Settings) -> Iterator[list[Question]]:
    """The questions of the command line, in their order, in batches that can be searched together.

    ``-`` stands for the lines of stdin, as no question at all does where stdin is no terminal. Raises
    SettingsError where nothing is asked.
    """
    given = settings.questions
    if not given and not sys.stdin.isatty():
        given = (STDIN,)
    anything = False
    for batch in _batches(given):
        anything = True
        yield batch
    if not anything:
        raise SettingsError(
            'Nothing to search for: write a sentence, as in search "a dog on a beach", or lines on stdin, or '
            "give --query QUESTION, --query-text TEXT, --image FILE, --similar FILE or --like ID."
        )


def read_filter(settings: Settings) -> Filter | None:
    """The condition of ``--filter``, None without one; raises SettingsError that says where it is wrong."""
    if settings.filter is None:
        return None
    try:
        value = json.loads(settings.filter)
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"--filter {settings.filter!r} is not JSON ({error}); {_FILTER_EXAMPLE}."
        ) from None
    if not isinstance(value, dict):
        raise SettingsError(f"--filter {settings.filter!r} is no JSON object; {_FILTER_EXAMPLE}.")
    try:
        return parse_filter(value)
    except FilterError as error:
        raise SettingsError(error.located("--filter")) from None


def read_order(settings: Settings) -> Order | None:
    """The order of ``--sort``, None without one; raises SettingsError for what names no tag."""
    try:
        return None if settings.sort is None else parse_order(settings.sort)
    except DataError as error:
        raise SettingsError(f"--sort: {error}") from None


def searches_words(settings: Settings, question: Question, has_texts: Callable[[], bool]) -> bool:
    """Whether a question searches words too: as ``--hybrid`` says, or where that finds text in photos."""
    if settings.hybrid is not None:
        return settings.hybrid
    return settings.offset + settings.top_k <= HYBRID_DEPTH and question.has_words and has_texts()


def check_depth(settings: Settings) -> None:
    """Raises SettingsError where ``--offset`` and ``--top_k`` together reach deeper than a search can."""
    deepest = HYBRID_DEPTH if settings.hybrid else MAX_RESULTS
    if settings.offset + settings.top_k > deepest:
        raise SettingsError(
            f"--offset {settings.offset} and --top_k {settings.top_k} reach to match "
            f"{settings.offset + settings.top_k:,}; a search{' with --hybrid' if settings.hybrid else ''} "
            f"reaches to {deepest:,}."
        )


def _batches(given: Sequence[GivenQuestion]) -> Iterator[list[Question]]:
    batch: list[Question] = []
    for question in given:
        if question != STDIN:
            batch.append(_read(question))
            continue
        if batch:
            yield batch
        batch = []
        for lines in _line_batches(sys.stdin.buffer):
            # Bytes that are no UTF-8 are refused with the question, as on the command line.
            texts = [line.decode("utf-8", "surrogateescape").strip().lstrip("\ufeff") for line in lines]
            if questions := [_read(GivenQuestion("query", text)) for text in texts if text]:
                yield questions
    if batch:
        yield batch


def _line_batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of ``stream``, without waiting for more than one of them."""
    rest = b""
    while chunk := stream.read1(1 << 16):  # type: ignore[attr-defined]
        *lines, rest = (rest + chunk).split(b"\n")
        for start in range(0, len(lines), _LARGEST_BATCH):
            yield lines[start : start + _LARGEST_BATCH]
    yield [rest]


def _read(given: GivenQuestion) -> Question:
    asked = given.value
    try:
        if given.option in ("image", "similar"):
            return Question(asked, image=read_photo_file(Path(asked)), similar=given.option == "similar")
        _check_text(asked)
        if given.option == "query_text":
            return Question(asked, text=asked)
        if given.option == "like":
            return Question(asked, like=asked)
        if _is_file(asked):
            raise DataError(
                f"{asked!r} is a file, and a question holds sentences and ids; search by a photo with "
                "--image FILE, or for photos like it with --similar FILE."
            )
        return Question(asked, expression=asked)
    except DataError as error:
        return Question(asked, error=str(error))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        # Too long for a path, or with a NUL: words.
        return False


def _check_text(text: str) -> None:
    if has_lone_surrogate(text):
        raise DataError(f"The question {text!r} is not text: some of its bytes are not UTF-8.")
    if not text.strip():
        raise DataError(f"The question {text!r} is empty; it needs at least one word.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one ``question`` found, best first, or the ``error`` for which there is no answer.

    ``target`` is what was searched, None where nothing was. ``has_more`` says that there are matches behind
    these. ``recognised`` are the filters that words of the question became, ``reranked``, ``partial``,
    ``fits`` and ``doubt`` those of ``SearchOutcome``.
    """

    question: Question
    target: Target | None = None
    matches: Sequence[Match] = field(default_factory=list)
    error: str | None = None
    has_more: bool = False
    recognised: Sequence[Recognised] = ()
    reranked: Reranked | None = None
    partial: Sequence[str] = ()
    fits: bool | None = None
    doubt: str | None = None

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
