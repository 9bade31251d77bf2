"""The words of a text or a file's name, in the plain form in which they are indexed and looked for.

Letters lose their case and what stands above or below them: ``Łódź`` and ``lodz``, ``Straße`` and ``strasse``
are the same word. Scripts that put no spaces between words are cut into pairs of neighbouring characters, as
Lucene's CJKAnalyzer does: ``睡觉`` is found in ``猫在睡觉``, whatever its words are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

__all__ = ["folded", "is_unspaced", "words_of_file", "words_of_query", "words_of_text"]

# The list that Lucene leaves out of English text.
_LISTED = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with"
)
_FUNCTION_WORDS = frozenset(_LISTED.split())

# What cameras, phones and programs write before a number: it names no photo.
_PREFIXES = "dsc dscf dscn dsci image images img imgp jpeg jpg mvimg photo pic pict picture pxl screenshot"
_OF_CAMERAS = frozenset(_PREFIXES.split())

_WORD = re.compile(r"[^\W_]+")

# Longer ones aren't words.
_LONGEST_WORD_BYTES = 64

# Letters that Unicode makes of no plain letter and a mark.
_PLAIN_LETTERS = str.maketrans(
    {
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "ø": "o",
        "æ": "ae",
        "œ": "oe",
        "ħ": "h",
        "ŧ": "t",
        "\u0131": "i",
        "þ": "th",
    }
)

# In Latin, Greek and Cyrillic a mark makes another sound of a letter. In other scripts it may be the vowel.
_MARKED = re.compile("([a-z\u00df-\u024f\u0370-\u03ff\u0400-\u052f])[\u0300-\u036f]+")

# Vowel points, which Hebrew and Arabic are mostly written without, and characters that show nothing.
_UNWRITTEN = re.compile("[\u0591-\u05bd\u064b-\u065f\u0670\u00ad\u200b-\u200d\u2060\ufeff]")

# Thai, Lao, Tibetan, Myanmar, Khmer, Javanese, kana, Han; and Hangul, whose words have endings without a
# space before them.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\ua980-\ua9df\u3005-\u3007\u3040-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_OR_OTHER = re.compile(f"([{_UNSPACED}]+)|[^{_UNSPACED}]+")

# Where two words of a file's name touch: between a digit and a letter, and before a capital.
_SEAM = re.compile(r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}\Z")

# Shorter parts of a file's name are counters and pieces of codes.
_SHORTEST_PART = 3


def words_of_text(text: str) -> Iterator[str]:
    """The words by which ``text`` is found; of a script without spaces its characters and pairs of them."""
    for word, characters in _words(text):
        if characters:
            yield from characters
            yield from map("".join, pairwise(characters))
        else:
            yield word


def words_of_query(text: str) -> Iterator[str]:
    """The words that ``text`` looks for; several characters of a script without spaces are pairs."""
    for word, characters in _words(text):
        if len(characters) > 1:
            yield from map("".join, pairwise(characters))
        else:
            yield word


def words_of_file(name: str) -> Iterator[str]:
    """The words by which a file is found, without its extension and what cameras call their files.

    ``BirthdayCake2019.jpg`` has those of ``birthday cake 2019`` too.
    """
    stem = _EXTENSION.sub("", name)
    whole = list(dict.fromkeys(words_of_text(stem)))
    parts = [part for part in words_of_text(_SEAM.sub(" ", stem)) if len(part) >= _SHORTEST_PART]
    words = dict.fromkeys([*whole, *parts])
    telling = [word for word in words if word not in _OF_CAMERAS and not (word.isdigit() and len(word) < 3)]
    yield from telling or whole


def _words(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each word of ``text``, and of a script without spaces its characters, each with its marks."""
    for run in _runs(folded(text)):
        for match in _UNSPACED_OR_OTHER.finditer(run):
            word = match[0]
            if match[1]:
                yield word, _with_marks(word)
            elif word not in _FUNCTION_WORDS and len(word.encode()) <= _LONGEST_WORD_BYTES:
                yield word, []


def folded(text: str) -> str:
    """``text`` without case, marks and the difference between compatible characters."""
    if text.isascii():
        return text.lower()
    # Half of a surrogate pair, as names of files can hold it, has no UTF-8 form.
    text = text.encode("utf-8", "replace").decode()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    plain = _UNWRITTEN.sub("", _MARKED.sub(r"\1", decomposed)).translate(_PLAIN_LETTERS)
    return unicodedata.normalize("NFC", plain)


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script that puts no spaces between words."""
    found = _UNSPACED_OR_OTHER.match(character)
    return found is not None and found[1] is not None


def _runs(text: str) -> Iterator[str]:
    """The runs of letters, digits and the marks behind them."""
    if text.isascii():
        yield from _WORD.findall(text)
        return
    run: list[str] = []
    for character in text:
        kind = unicodedata.category(character)[0]
        if kind in "LN" or (kind == "M" and run):
            run.append(character)
        elif run:
            yield "".join(run)
            run = []
    if run:
        yield "".join(run)


def _with_marks(run: str) -> list[str]:
    characters: list[str] = []
    for character in run:
        if characters and unicodedata.category(character)[0] == "M":
            characters[-1] += character
        else:
            characters.append(character)
    return characters
