"""The vocabulary file of the original VSE++: a pickle of one known shape, or the same as JSON."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.models.vsepp.words import words_of

__all__ = ["VseppVocabulary"]

_START, _END, _UNKNOWN = "<start>", "<end>", "<unk>"


class _Holder:
    """What stands in for the class ``Vocabulary`` of the pickle: it only holds attributes."""


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
