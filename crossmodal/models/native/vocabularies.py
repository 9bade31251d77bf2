"""Texts to token numbers: the words that a GRU knows, and BERT's word pieces through `tokenizers`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError

__all__ = [
    "MAX_PIECES",
    "MAX_WORDS",
    "PADDING",
    "SPECIAL_PIECES",
    "Vocabulary",
    "WordPieces",
    "padded",
    "words_of",
]

# The number of <pad> and of [PAD].
PADDING = 0
_SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
_UNKNOWN, _START, _END = 1, 2, 3

# The longest caption of Flickr8k has 38 words; what a text says after 60 words doesn't reach the vector.
MAX_WORDS = 60

# Words with inner apostrophes or digits; everything else (punctuation, symbols) separates words.
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_CLASS, _SEPARATOR = 2, 3

# How many pieces of a text are read unless the model says otherwise, [CLS] and [SEP] included. The longest of
# 35,000 captions of Flickr8k has 42, with the vocabulary of MiniLM.
MAX_PIECES = 64


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
        return cls(_read_tokens(path, _SPECIAL, "vocabulary"))


class WordPieces:
    """Known pieces and their numbers: lower case without accents, longest piece first, as BERT splits words.

    A word that cannot be put together from known pieces, or is longer than 100 characters, is one [UNK].
    "[SEP]" and the like in a text are ordinary characters, so that no caption can end itself.
    """

    def __init__(self, pieces: Sequence[str], longest: int = MAX_PIECES) -> None:
        """``pieces`` without the four special ones, in the order of their numbers, ``##`` before those that
        continue a word; ``longest`` is how many numbers a text gets at most."""
        from tokenizers import Tokenizer
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        self.pieces = tuple(pieces)
        self.longest = longest
        numbers = {piece: number for number, piece in enumerate([*SPECIAL_PIECES, *pieces])}
        if len(numbers) != len(self):
            twice = next(piece for piece, count in Counter([*SPECIAL_PIECES, *pieces]).items() if count > 1)
            raise ModelError(f"The vocabulary holds the piece {twice!r} twice.")
        self._tokenizer = Tokenizer(WordPiece(numbers, unk_token="[UNK]"))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True, strip_accents=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()

    def __len__(self) -> int:
        """How many numbers there are, the special pieces included."""
        return len(SPECIAL_PIECES) + len(self.pieces)

    def numbers_of(self, text: str) -> list[int]:
        """The numbers of ``text`` between those of [CLS] and [SEP]; what a long text says last is cut off."""
        # Half of a surrogate pair, as a shell's arguments can bring it, has no UTF-8 form.
        text = text.encode("utf-8", "replace").decode("utf-8")
        numbers: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [_CLASS, *numbers[: self.longest - 2], _SEPARATOR]

    def save(self, path: Path) -> None:
        """One piece a line, in UTF-8; the line's number is the piece's."""
        path.write_text("\n".join([*SPECIAL_PIECES, *self.pieces]) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path, longest: int = MAX_PIECES) -> WordPieces:
        """The reverse of ``save``. Raises ModelError where the file is missing or another one."""
        return cls(_read_tokens(path, SPECIAL_PIECES, "vocabulary of word pieces"), longest)


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def padded(rows: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Rows of different lengths as int32 (N, longest), and their lengths int32 (N,)."""
    lengths = np.array([len(row) for row in rows], np.int32)
    numbers = np.full((len(rows), lengths.max()), PADDING, np.int32)
    numbers[np.arange(numbers.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return numbers, lengths


def _read_tokens(path: Path, special: Sequence[str], kind: str) -> list[str]:
    """The lines of a vocabulary file after the ``special`` tokens.

    Raises ModelError where the file is missing or isn't a vocabulary of ``kind``.
    """
    try:
        # Not splitlines, which would also split at characters that are tokens.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"The vocabulary {path} cannot be read: {error}.") from error
    if lines[: len(special)] != list(special) or lines[-1] != "":
        raise ModelError(f"{path} is not a {kind}: it must start with the lines {', '.join(special)}.")
    return lines[len(special) : -1]
