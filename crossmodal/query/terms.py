"""The weighted terms that a query consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossmodal.records import Modality, checked_modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_TERMS", "MAX_TEXT", "MAX_WEIGHT", "Term"]

# Each term is a sentence or a photo to encode, so that one query costs as much as this many.
MAX_TERMS = 16

# Weights further apart than this leave nothing of the lighter term in a float32 vector that anyone could see.
MAX_WEIGHT = 10.0

# Characters of one text; encoders read about the first 50 words.
MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, the bytes of a photo, the id of an indexed document, or a vector.

    A positive ``weight`` looks for it and a negative one for its absence. Exactly one of ``text``, ``image``,
    ``id`` and ``vector`` (float (dimension,)) is given; ``kind`` says what a vector was made of, where that
    is known. Raises ValueError otherwise, and DataError for a ``kind`` that is no modality.
    """

    weight: float = 1.0
    text: str | None = None
    image: bytes | None = None
    id: str | None = None
    # Arrays have no single truth of being equal.
    vector: NDArray[np.floating[Any]] | None = field(default=None, compare=False)
    kind: Modality | None = None

    def __post_init__(self) -> None:
        missing = (self.text, self.image, self.id).count(None) + (self.vector is None)
        if missing != 3:
            raise ValueError("a term has exactly one of text, image, id and vector")
        if self.kind is not None:
            checked_modality(self.kind, "The term's vector")
