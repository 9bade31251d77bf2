"""The values that a document's tags hold, each under the name by which a filter reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TagValues", "collect_values", "number_of"]


@dataclass(slots=True)
class TagValues:
    """The distinct values under one name: of a list its elements, numbers as float64.

    A name with a value of another kind (an object, an empty list) exists, but compares with nothing.
    """

    strings: set[str] = field(default_factory=set)
    numbers: set[float] = field(default_factory=set)
    booleans: set[bool] = field(default_factory=set)


def collect_values(tags: Mapping[str, Any]) -> dict[str, TagValues]:
    """Every name in ``tags`` with its values; a name is the keys on the way, joined by dots.

    So ``{"camera": {"make": "x"}}`` and ``{"camera.make": "x"}`` both have a value of ``camera.make``. A tag
    that is null counts as missing, like an empty cell of a table.
    """
    found: dict[str, TagValues] = {}
    # A stack instead of recursion: tags come from outside and may be nested deeper than Python's own stack.
    todo: list[tuple[str, Any]] = list(tags.items())
    while todo:
        name, value = todo.pop()
        if value is None:
            continue
        values = found.setdefault(name, TagValues())
        if isinstance(value, str):
            values.strings.add(value)
        elif isinstance(value, bool):
            values.booleans.add(value)
        elif isinstance(value, int | float):
            values.numbers.add(number_of(value))
        elif isinstance(value, Mapping):
            todo.extend((f"{name}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, Sequence):
            todo.extend((name, element) for element in value)
    return found


def number_of(value: float) -> float:
    """``value`` as float64; an integer beyond its range becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
