"""Which words of a text FTS5 finds for a query, and where they stand in it."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import groupby, pairwise

from crossmodal.index.embedded.schema import WORDS
from crossmodal.index.embedded.tokens import folded, is_unspaced, words_of_query, words_of_text

__all__ = ["found_spans", "found_words", "word_places"]

# Part of a text: its plain form, its first character and the one behind it.
_Piece = tuple[str, int, int]


# Of half-width kana: to Unicode they are letters, and with the one before them they fold to another.
_HALF_WIDTH_MARKS = "\uff9e\uff9f"


def found_words(query: str, words: Collection[str]) -> set[str]:
    """Those of ``words``, as ``tokens`` cuts them out of texts, that a word of ``query`` finds."""
    wanted = list(dict.fromkeys(words_of_query(query)))
    if not wanted or not words:
        return set()
    numbered = list(dict.fromkeys(words))
    # The tokenizer itself says which words have one stem.
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(WORDS)
        connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(numbered))
        search = "SELECT rowid FROM words WHERE words MATCH ?"
        return {numbered[row] for word in wanted for (row,) in connection.execute(search, (f'"{word}"',))}


def found_spans(text: str, found: Collection[str]) -> list[tuple[int, int]]:
    """Where words of ``found`` stand in ``text``: the first character of each and the one behind it.

    They rise; those that overlap, as pairs of neighbouring characters do, are one.
    """
    spans: list[tuple[int, int]] = []
    for start, end in sorted({(start, end) for word, start, end in word_places(text) if word in found}):
        if spans and start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def word_places(text: str) -> Iterator[_Piece]:
    """Each word by which ``text`` is found (``tokens.words_of_text``), and where it stands."""
    run: list[_Piece] = []
    for start, end in _characters(text):
        piece = folded(text[start:end])
        if piece and all(unicodedata.category(character)[0] in "LNM" for character in piece):
            run.append((piece, start, end))
        else:
            yield from _places_in(run)
            run = []
    yield from _places_in(run)


def _characters(text: str) -> Iterator[tuple[int, int]]:
    """Where each character begins and ends, with its marks and what shows nothing behind it."""
    start = 0
    for place in range(1, len(text) + 1):
        if place < len(text) and (
            unicodedata.category(text[place])[0] == "M"
            or text[place] in _HALF_WIDTH_MARKS
            or not folded(text[place])
        ):
            continue
        yield start, place
        start = place


def _places_in(run: Sequence[_Piece]) -> Iterator[_Piece]:
    """The words of letters and digits that follow each other."""
    for unspaced, group in groupby(run, lambda piece: is_unspaced(piece[0][0])):
        pieces = list(group)
        if unspaced:
            yield from pieces
            for (one, start, _), (other, _, end) in pairwise(pieces):
                yield one + other, start, end
        else:
            for word in words_of_text("".join(piece for piece, _, _ in pieces)):
                yield word, pieces[0][1], pieces[-1][2]
