"""The vocabulary of the original VSE++, and a caption's words as its code splits them.

That code lower-cases a caption and calls ``nltk.word_tokenize``: Punkt's sentence boundaries, then the rules
of the Penn Treebank. ``words_of`` has those rules for lower-cased text, without NLTK and its data. What
differs: Punkt knows abbreviations from a corpus, here a period ends a sentence unless it follows a single
letter or one of a few, so a caption with another abbreviation in its middle ("approx. ten men") is split into
one token more.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError

__all__ = ["VseppVocabulary", "words_of"]

_START, _END, _UNKNOWN = "<start>", "<end>", "<unk>"

_ABBREVIATIONS = frozenset(
    {"mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "mt", "no", "e.g", "i.e", "u.s", "a.m", "p.m"}
)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")

_OPENING_QUOTE = re.compile(r'(^|[\s(\[{<])"|^\'\'|(?<=[\s(\[{<])``')
_FINAL_PERIOD = re.compile(r"(?<!\.)\.([\])}>\"'\u00bb\u201d\u2019 ]*)\s*$")
_ALONE = re.compile(r"\.{2,}|--|[;@#$%&?!\u00ab\u00bb\u201c\u201d\[\](){}<>]|[:,](?!\d)|[:,]$")
_APOSTROPHE = re.compile(r"(?<=[^'\s])'(?=\s|$)")
_CLITIC = re.compile(r"(?<=[^\s'])('s|'m|'d|'ll|'re|'ve|n't)(?=\s|$)")
_SPLIT_WORDS = {
    "cannot": ("can", "not"),
    "d'ye": ("d", "'ye"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "more'n": ("more", "'n"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
    "wanna": ("wan", "na"),
}


class _Holder:
    """Replaces the class ``Vocabulary`` of the pickle: it only holds attributes."""


class _Reader(pickle.Unpickler):
    """Builds plain values and ``_Holder``; any other name in the file is refused: nothing is executed."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "Vocabulary" and module in ("vocab", "__main__"):
            return _Holder
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only a Vocabulary is expected")


class VseppVocabulary:
    """Words to the rows of the word embedding."""

    def __init__(self, rows: Mapping[str, int]) -> None:
        """Raises ModelError where one of the special tokens is missing."""
        missing = [token for token in (_START, _END, _UNKNOWN) if token not in rows]
        if missing:
            raise ModelError(f"The vocabulary has no {', '.join(missing)}, which VSE++'s have.")
        self._rows = dict(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def numbers_of(self, caption: str) -> list[int]:
        """The rows of a caption's words, between ``<start>`` and ``<end>``; unknown words are ``<unk>``."""
        unknown = self._rows[_UNKNOWN]
        inner = [self._rows.get(word, unknown) for word in words_of(caption)]
        return [self._rows[_START], *inner, self._rows[_END]]

    @classmethod
    def load(cls, path: Path) -> VseppVocabulary:
        """Read a ``.pkl`` or ``.json``; raises ModelError where it is damaged or not a vocabulary."""
        try:
            with path.open("rb") as file:
                # The published files were written by Python 2.
                found = (
                    json.load(file)
                    if path.suffix == ".json"
                    else vars(_Reader(file, encoding="latin-1").load())
                )
            rows = {str(word): int(row) for word, row in found["word2idx"].items()}
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            EOFError,
            IndexError,
            pickle.UnpicklingError,
        ) as error:
            raise ModelError(f"The vocabulary {path} cannot be used: {error}.") from error
        return cls(rows)


def words_of(caption: str) -> list[str]:
    """The tokens of a caption: words, punctuation and clitics, in lower case."""
    words: list[str] = []
    for sentence in _sentences(caption.lower()):
        for word in _cut(sentence):
            words.extend(_SPLIT_WORDS.get(word, (word,)))
    return words


def _sentences(text: str) -> list[str]:
    parts: list[str] = []
    for part in _SENTENCE_END.split(text.strip()):
        if parts and _is_abbreviation(parts[-1]):
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return parts


def _is_abbreviation(sentence: str) -> bool:
    last = sentence.rsplit(maxsplit=1)[-1] if sentence.split() else ""
    if not last.endswith(".") or last.endswith(".."):
        return False
    word = last[:-1].lstrip("(\"'")
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha())


def _cut(sentence: str) -> list[str]:
    text = _OPENING_QUOTE.sub(r"\1 `` ", sentence)
    text = _FINAL_PERIOD.sub(r" . \1", text)
    text = _ALONE.sub(r" \g<0> ", text)
    text = text.replace('"', " '' ")
    text = _CLITIC.sub(r" \1", _APOSTROPHE.sub(" '", text))
    return text.split()
