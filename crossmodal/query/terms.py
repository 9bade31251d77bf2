"""The weighted terms that a query consists of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_TERMS", "MAX_TEXT", "MAX_WEIGHT", "Term"]

# Each term is a sentence or a photo to encode, so that one query costs as much as this many.
MAX_TERMS = 16

# Weights further apart than this leave nothing of the lighter term in a float32 vector that anyone could see.
MAX_WEIGHT = 10.0

# Characters of one text; encoders read about the first 50 words.
MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, the bytes of a photo, or the id of an indexed document.

    A positive ``weight`` looks for it and a negative one for its absence. Exactly one of ``text``, ``image``
    and ``id`` is given. Raises ValueError otherwise.
    """

    weight: float = 1.0
    text: str | None = None
    image: bytes | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.text, self.image, self.id)) != 1:
            raise ValueError("a term has exactly one of text, image and id")
