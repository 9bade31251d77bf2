"""What a reranker is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Item", "Reranker"]


@dataclass(frozen=True, slots=True)
class Item:
    """A query or a candidate: a ``text``, or a ``photo``, an upright JPEG of at most 1,024 pixels a side."""

    text: str | None = None
    photo: bytes | None = None


class Reranker(Protocol):
    """Whatever says how well candidates fit a query: any function of this form is one.

    It is called with a batch of candidates at a time, from any thread, and returns a finite number for each,
    larger where it fits better. What a candidate gets may not depend on the others. It raises DataError for
    what it cannot compare.
    """

    def __call__(self, query: Item, candidates: Sequence[Item], /) -> Sequence[float]: ...
