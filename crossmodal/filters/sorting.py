"""The order of documents by one of their tags."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from crossmodal.errors import DataError
from crossmodal.filters.conditions import collect_values, tag_name
from crossmodal.limits import TAG_KEY, quoted

__all__ = ["Order", "OrderedValue", "Place", "parse_order"]

Item = TypeVar("Item")

# The kind of a value, as an index numbers them: booleans 1, numbers 2, text 3. And it.
OrderedValue = tuple[int, Any]

_LONGEST_PLACE = 32 * 1024


class Place(NamedTuple):
    """Where a document stands in an order: by its value (None: it has none), then by its id."""

    value: OrderedValue | None
    id: str

    def to_text(self) -> str:
        """The place as text that fits into a URL."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Place:
        """The reverse; raises DataError for what is no place."""
        try:
            if len(text) > _LONGEST_PLACE:
                raise ValueError
            value, id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if value is not None:
                kind, inner = value
                if type(inner) not in {1: (bool,), 2: (int, float), 3: (str,)}[kind]:
                    raise ValueError
                value = kind, inner
            if not isinstance(id, str):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DataError(
                f"{quoted(text)} is no place in a list; take it from the answer before, or begin without it."
            ) from None
        return cls(value, id)


@dataclass(frozen=True, slots=True)
class Order:
    """By the tag ``tag``, smallest first or ``descending``; equal ones by id, those without it at the end.

    Of several values the first in this order counts. Booleans come before numbers, and those before text,
    which is in the order of its code points.
    """

    tag: str
    descending: bool = False

    def value_of(self, tags: Mapping[str, Any]) -> OrderedValue | None:
        """By what a document with these tags stands where it does; None where it has no such value."""
        values = collect_values(tags).get(self.tag)
        if values is None:
            return None
        found: list[OrderedValue] = [
            *((1, value) for value in values.booleans),
            *((2, value) for value in values.numbers if not math.isnan(value)),
            *((3, value) for value in values.strings),
        ]
        return (max if self.descending else min)(found, default=None)

    def place_of(self, tags: Mapping[str, Any], id: str) -> str:
        """Where the document ``id`` with these tags stands, as the text that a list goes on after."""
        return Place(self.value_of(tags), id).to_text()

    def sorted(
        self,
        items: Iterable[Item],
        tags_of: Callable[[Item], Mapping[str, Any]],
        id_of: Callable[[Item], str],
    ) -> list[Item]:
        """``items`` in this order."""
        valued = [(self.value_of(tags_of(item)), item) for item in items]
        valued.sort(key=lambda pair: id_of(pair[1]))
        known = [pair for pair in valued if pair[0] is not None]
        # Equal ones keep their order, in reverse too.
        known.sort(key=lambda pair: pair[0], reverse=self.descending)  # type: ignore[arg-type, return-value]
        return [item for _, item in known] + [item for value, item in valued if value is None]

    def to_text(self) -> str:
        """What ``parse_order`` reads as this order."""
        return f"{'-' if self.descending else ''}{self.tag}"


def parse_order(text: str) -> Order:
    """The order that ``taken`` (oldest first) or ``-taken`` names; raises DataError for what is no tag."""
    tag = tag_name(text.removeprefix("-"))
    if not tag or len(tag.encode("utf-8", "surrogatepass")) > TAG_KEY.most:
        raise DataError(
            f"{quoted(text)} is nothing to sort by; write the name of a tag, such as taken, or -taken for "
            "the newest first."
        )
    return Order(tag, text.startswith("-"))
