r"""The weighted terms of a query, and several of them in one string: ``dog + 0.5*id:42 - snow``.

::

    expression = [sign] term {space sign space term}
    term       = [number "*"] (quoted | "id:" (word | quoted) | words)
    sign       = "+" | "-"
    quoted     = '"' characters, with \" and \\ for a quotation mark and a backslash '"'

Words are any text without ``"`` and ``*`` in which no word begins with a sign or ``id:``; so ``t-shirt`` and
``rock-n-roll`` are words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossmodal import limits
from crossmodal.errors import QueryError
from crossmodal.records import Modality, checked_modality, composed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Term", "parse_expression"]


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, the bytes of a photo, the id of an indexed document, or a vector.

    A positive ``weight`` looks for it and a negative one for its absence. Exactly one of ``text``, ``image``,
    ``id`` and ``vector`` (float (dimension,)) is given; ``kind`` says what a vector was made of, where that
    is known, ``quoted`` that the text stood in quotation marks. The text is kept in NFC. Raises ValueError
    otherwise, DataError for a ``kind`` that is no modality, and QueryError for what is too large.
    """

    weight: float = 1.0
    text: str | None = None
    image: bytes | None = None
    id: str | None = None
    # Arrays have no single truth of being equal.
    vector: NDArray[np.floating[Any]] | None = field(default=None, compare=False)
    kind: Modality | None = None
    quoted: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        missing = (self.text, self.image, self.id).count(None) + (self.vector is None)
        if missing != 3:
            raise ValueError("a term has exactly one of text, image, id and vector")
        if self.kind is not None:
            checked_modality(self.kind, "The term's vector")
        object.__setattr__(self, "text", composed(self.text))
        for limit, what, value in (
            (limits.SENTENCE, "The text", self.text),
            (limits.STORED_ID, "The id", self.id),
            (limits.LARGEST_PHOTO, "The photo", self.image),
            (limits.DIMENSION, "The vector", self.vector),
        ):
            if value is not None and len(value) > limit.most:
                named = f"{what} {limits.quoted(value)}" if isinstance(value, str) else what
                raise QueryError(limit.exceeded(named, len(value)))


_SPACE = re.compile(r"\s*")
_SEPARATOR = re.compile(r"(?<=\S)\s+([+-])(?=\s|\Z)")
_WEIGHT = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\s*\*\s*")
_SIGNED_WEIGHT = re.compile(rf"[+-]\s*{_WEIGHT.pattern}")
_SIGNED_WORD = re.compile(r"\s[+-]")
_ID = "id:"
_ID_INSIDE = re.compile(rf"\s{_ID}")
_STAR = re.compile(r"\*")
_QUOTE = re.compile('"')


def parse_expression(
    text: str,
    *,
    max_terms: int = limits.TERMS.most,
    max_weight: float = limits.WEIGHT.most,
    max_text: int = limits.SENTENCE.most,
) -> tuple[Term, ...]:
    """The terms of ``text``, in order: at most ``max_terms``, and at least one of them positive.

    Weights lie in -``max_weight`` to ``max_weight`` and are not 0; a text or id has at most ``max_text``
    characters, as has the expression. Raises QueryError with the position (the first character is 1) of what
    cannot be read.
    """
    if len(text) > max_text:
        raise QueryError(
            f"The expression cannot be read at character 1: it has {len(text):,} characters and can have at "
            f"most {max_text:,}. Give sentences as terms."
        )
    terms = list(_Reader(text, max_weight, max_text).terms())
    if len(terms) > max_terms:
        raise QueryError(f"The expression has {len(terms):,} terms; it can have at most {max_terms}.")
    if not any(term.weight > 0 for term in terms):
        raise QueryError(
            "Every term of the expression has a minus; at least one has to say what to look for, as in "
            "dog - snow. A text that begins with a minus goes in quotes."
        )
    return tuple(terms)


class _Reader:
    """Reads terms one after the other; ``_at`` is the index of the next character."""

    def __init__(self, text: str, max_weight: float, max_text: int) -> None:
        self._text = text
        self._at = 0
        self._max_weight = max_weight
        self._max_text = max_text

    def terms(self) -> Iterator[Term]:
        self._skip_space()
        if not self._text.strip():
            raise QueryError("The expression is empty; write what to look for, such as dog - snow.")
        sign = 1.0
        if self._text[self._at] in "+-":
            sign = -1.0 if self._text[self._at] == "-" else 1.0
            self._at += 1
        while True:
            yield self._term(sign)
            if self._ended:
                return
            separator = _SEPARATOR.match(self._text, self._at)
            # A term ends where the text does or where a separator stands, else it has raised.
            assert separator is not None
            sign = -1.0 if separator[1] == "-" else 1.0
            self._at = separator.end()

    def _term(self, sign: float) -> Term:
        self._skip_space()
        if self._ended:
            raise self._error("a term is missing after the last sign")
        if signed := _SIGNED_WEIGHT.match(self._text, self._at):
            raise self._error(
                f"{signed[0].strip()!r} has a sign of its own; write the sign once, as in dog - 0.5*snow"
            )
        if self._text[self._at] in "+-":
            raise self._error(
                f"there is a second sign, {self._text[self._at]!r}; put a text that begins with it in quotes"
            )
        weight = sign * self._weight()
        if self._ended:
            raise self._error("a text or id:ID is missing after the weight")
        start = self._at
        named = self._text.startswith(_ID, self._at)
        if named:
            self._at += len(_ID)
        quoted = self._text.startswith('"', self._at)
        value = self._quoted() if quoted else self._words(named)
        if not value.strip():
            self._at = start
            raise self._error("an id is missing after id:" if named else "the text in quotes is empty")
        if len(value) > self._max_text:
            self._at = start
            raise self._error(
                f"a term of {len(value):,} characters begins; it can have at most {self._max_text:,}"
            )
        return Term(weight=weight, id=value) if named else Term(weight=weight, text=value, quoted=quoted)

    def _weight(self) -> float:
        match = _WEIGHT.match(self._text, self._at)
        if match is None:
            return 1.0
        weight = float(match[1])
        if not math.isfinite(weight) or not 0 < weight <= self._max_weight:
            raise self._error(
                f"the weight is {match[1]}; it has to be above 0 and at most {self._max_weight:g}, and a "
                "minus in front of it takes the term away"
            )
        self._at = match.end()
        return weight

    def _words(self, named: bool) -> str:
        separator = _SEPARATOR.search(self._text, self._at)
        end = len(self._text.rstrip()) if separator is None else separator.start()
        words = self._text[self._at : max(end, self._at)]
        for pattern, why in (
            (_SIGNED_WORD, "a sign follows a space but no space follows it"),
            (_ID_INSIDE, "id: stands inside words"),
            (_STAR, "'*' stands after something that is not a number"),
            (_QUOTE, "a quotation mark stands inside words"),
        ):
            if found := pattern.search(words):
                self._at += found.start() + found[0][0].isspace()
                raise self._error(
                    f"{why}; write ' + ' or ' - ' between terms, and put a text that holds such characters "
                    'in quotes, with \\" for a quotation mark'
                )
        if named and (space := re.search(r"\s", words)):
            self._at += space.start()
            raise self._error(
                "more text follows the id; write ' + ' or ' - ' between, or id:\"...\" for an id with a space"
            )
        self._at = len(self._text) if separator is None else separator.start()
        return words

    def _quoted(self) -> str:
        opened = self._at
        characters: list[str] = []
        position = opened + 1
        while position < len(self._text) and self._text[position] != '"':
            if self._text[position] == "\\":
                position += 1
                if self._text[position : position + 1] not in ('"', "\\"):
                    self._at = position - 1
                    raise self._error('in quotes a backslash stands before " or \\ only; write \\\\ for one')
            characters.append(self._text[position])
            position += 1
        if position >= len(self._text):
            raise self._error("the quotation mark is never closed")
        self._at = position + 1
        if self._text[self._at :].strip() and _SEPARATOR.match(self._text, self._at) is None:
            raise self._error(
                "something follows the closing quotation mark; write ' + ' or ' - ' between terms"
            )
        if not self._text[self._at :].strip():
            self._at = len(self._text)
        return "".join(characters)

    @property
    def _ended(self) -> bool:
        return self._at >= len(self._text)

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = self._at if match is None else match.end()

    def _error(self, why: str) -> QueryError:
        return QueryError(f"The expression cannot be read at character {self._at + 1}: {why}.")
