"""BERT's word pieces with a vocabulary of our own, through the `tokenizers` library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from crossmodal.errors import ModelError

__all__ = ["MAX_PIECES", "SPECIAL_PIECES", "WordPieces"]

# [PAD] is number 0, as in the vocabulary of words.
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_CLASS, _SEPARATOR = 2, 3

# How many pieces of a text are read unless the model says otherwise, [CLS] and [SEP] included. The longest of
# 35,000 captions of Flickr8k has 42, with the vocabulary of MiniLM.
MAX_PIECES = 64


class WordPieces:
    """Known pieces and their numbers: lower case without accents, longest piece first, as BERT splits words.

    A word that cannot be put together from known pieces, or is longer than 100 characters, is one [UNK].
    "[SEP]" and the like in a text are ordinary characters, so that nobody's caption can end itself.
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
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"The vocabulary {path} cannot be read: {error}.") from error
        if tuple(lines[: len(SPECIAL_PIECES)]) != SPECIAL_PIECES or lines[-1] != "":
            raise ModelError(
                f"{path} is not a vocabulary of word pieces: it must start with the lines "
                f"{', '.join(SPECIAL_PIECES)}."
            )
        return cls(lines[len(SPECIAL_PIECES) : -1], longest)
