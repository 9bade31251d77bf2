"""The words that a VSE++ model knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from crossmodal.errors import ModelError

__all__ = ["MAX_WORDS", "PADDING", "Vocabulary", "words_of"]

PADDING = 0
_SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
_UNKNOWN, _START, _END = 1, 2, 3

# The longest caption of Flickr8k has 38 words; what a text says after 60 words doesn't reach the vector.
MAX_WORDS = 60

# Words with inner apostrophes or digits; everything else (punctuation, symbols) separates words.
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case, without punctuation."""
    return _WORD.findall(text.lower())


class Vocabulary:
    """Known words and their numbers; a word that isn't known gets the number of ``<unk>``."""

    def __init__(self, words: Sequence[str]) -> None:
        """``words`` without the four special tokens, in the order of their numbers."""
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(words, start=len(_SPECIAL))}

    @classmethod
    def of_captions(cls, captions: Iterable[str], *, min_count: int) -> Vocabulary:
        """All words that occur at least ``min_count`` times, the most frequent first, then by alphabet."""
        counts = Counter(word for caption in captions for word in words_of(caption))
        known = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(known, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """How many numbers there are, the special tokens included."""
        return len(_SPECIAL) + len(self.words)

    def numbers_of(self, text: str) -> list[int]:
        """The numbers of the first 60 words of ``text`` between those of ``<start>`` and ``<end>``.

        A text without any word is just these two, which is a sentence about nothing in particular.
        """
        numbers = [self._numbers.get(word, _UNKNOWN) for word in words_of(text)[:MAX_WORDS]]
        return [_START, *numbers, _END]

    def save(self, path: Path) -> None:
        """One token a line, in UTF-8; the line's number is the token's."""
        path.write_text("\n".join([*_SPECIAL, *self.words]) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The reverse of ``save``. Raises ModelError where the file is missing or another one."""
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"The vocabulary {path} cannot be read: {error}.") from error
        if tuple(lines[: len(_SPECIAL)]) != _SPECIAL or lines[-1] != "":
            raise ModelError(
                f"{path} is not a vocabulary: it must start with the lines {', '.join(_SPECIAL)}."
            )
        return cls(lines[len(_SPECIAL) : -1])
