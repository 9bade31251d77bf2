"""Which tags the documents of an index have, with which values and how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, Literal

__all__ = ["FieldType", "TagField", "tag_field"]

FieldType = Literal["string", "number", "boolean", "mixed"]

_KINDS: tuple[tuple[type, FieldType], ...] = ((bool, "boolean"), (float, "number"), (str, "string"))


@dataclass(frozen=True, slots=True)
class TagField:
    """A tag by the ``name`` that a filter uses, and the number of documents that have it.

    ``values`` are pairs of a value and the number of documents with it, most frequent first, equal numbers in
    order of the value. ``minimum`` and ``maximum`` are those of its numbers, None if it has none.
    """

    name: str
    type: FieldType
    count: int
    values: tuple[tuple[str | float | bool, int], ...]
    minimum: float | None
    maximum: float | None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of a tag in an answer; whole numbers have no fraction."""
        return {
            "name": self.name,
            "type": self.type,
            "count": self.count,
            "values": [{"value": _plain(value), "count": count} for value, count in self.values],
            "min": _plain(self.minimum),
            "max": _plain(self.maximum),
        }


def tag_field(
    name: str,
    count: int,
    strings: Mapping[str, int],
    numbers: Mapping[float, int],
    booleans: Mapping[bool, int],
    limit_values: int | None,
) -> TagField:
    """The field ``name`` of ``count`` documents, from how many have each value; None keeps all values."""
    by_kind: tuple[Mapping[Any, int], ...] = (booleans, numbers, strings)
    kinds = [kind for values, kind in zip(by_kind, _KINDS, strict=True) if values]
    ordered = (
        (-times, kind, value) for kind, values in enumerate(by_kind) for value, times in values.items()
    )
    return TagField(
        name=name,
        type=kinds[0][1] if len(kinds) == 1 else "mixed",
        count=count,
        values=_most_frequent(ordered, limit_values),
        minimum=min(numbers, default=None),
        maximum=max(numbers, default=None),
    )


def _most_frequent(
    ordered: Iterable[tuple[int, int, Any]], limit: int | None
) -> tuple[tuple[str | float | bool, int], ...]:
    """The first pairs of a value and its count, from triples of the negated count, the kind and the value."""
    first = sorted(ordered) if limit is None else nsmallest(limit, ordered)
    return tuple((value, -negated) for negated, _, value in first)


def _plain(value: str | float | bool | None) -> str | float | int | bool | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value
