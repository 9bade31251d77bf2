"""What a parsed filter consists of, and the values of tags that its conditions compare with."""

from __future__ import annotations

import operator
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "COMPARISONS",
    "LARGEST_EXACT_INTEGER",
    "MODALITY_FIELD",
    "And",
    "EqualsCaseless",
    "Exists",
    "Facts",
    "Filter",
    "Identified",
    "Not",
    "OneOf",
    "Or",
    "Range",
    "RangeOperator",
    "TagValues",
    "caseless",
    "collect_values",
    "conditions",
    "field_name",
    "number_of",
    "tag_name",
]

MODALITY_FIELD = "modality"

_TAGS_PREFIX = "tags."


def tag_name(field: str) -> str | None:
    """The tag that ``field`` means, its keys joined by dots; None for the document's modality.

    ``tags.NAME`` means the same as ``NAME``, and is how a tag named ``modality`` is reached.
    """
    if field == MODALITY_FIELD:
        return None
    return field.removeprefix(_TAGS_PREFIX)


def field_name(tag: str | None) -> str:
    """The reverse of ``tag_name``, with the prefix only where the bare name would mean something else."""
    if tag is None:
        return MODALITY_FIELD
    if tag == MODALITY_FIELD or tag.startswith((_TAGS_PREFIX, "$")):
        return _TAGS_PREFIX + tag
    return tag


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


RangeOperator = Literal["$lt", "$lte", "$gt", "$gte"]

# What each operator means, for single values and for arrays.
COMPARISONS: dict[RangeOperator, Callable[[Any, Any], Any]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}

# Integers up to this are float64 values of their own, so that JSON can write them without a fraction.
LARGEST_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Facts:
    """What filters ask of a document: its modality, its values by tag, and its id and that of its photo."""

    modality: str
    values: Mapping[str, TagValues]
    ids: AbstractSet[str | None]

    def values_of(self, tag: str | None) -> TagValues | None:
        """The values of a tag, or with None the modality; None if it is missing."""
        return TagValues(strings={self.modality}) if tag is None else self.values.get(tag)


class Filter(ABC):
    """A condition on what is known of a document: immutable, hashable, equal where it is written alike."""

    __slots__ = ()

    def matches(
        self, modality: str, tags: Mapping[str, Any], ids: AbstractSet[str | None] = frozenset()
    ) -> bool:
        """Whether a document with these fits; this defines what a filter means.

        ``ids`` are its own and that of the photo or video of which it is a part.
        """
        return self.holds(Facts(modality, collect_values(tags), ids))

    @abstractmethod
    def holds(self, facts: Facts) -> bool:
        """Whether it holds for a document of which ``facts`` are known."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The JSON object that ``parse_filter`` reads as this filter."""


@dataclass(frozen=True, slots=True)
class And(Filter):
    """All of ``parts`` hold; without parts, always."""

    parts: tuple[Filter, ...]

    def holds(self, facts: Facts) -> bool:
        return all(part.holds(facts) for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"$and": [part.to_json() for part in self.parts]} if self.parts else {}


@dataclass(frozen=True, slots=True)
class Or(Filter):
    """At least one of ``parts`` holds."""

    parts: tuple[Filter, ...]

    def holds(self, facts: Facts) -> bool:
        return any(part.holds(facts) for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"$or": [part.to_json() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """``part`` does not hold."""

    part: Filter

    def holds(self, facts: Facts) -> bool:
        return not self.part.holds(facts)

    def to_json(self) -> dict[str, Any]:
        if isinstance(self.part, OneOf):
            return self.part.written(single="$ne", several="$nin")
        if isinstance(self.part, Exists):
            return {self.part.field: {"$exists": False}}
        return {"$not": self.part.to_json()}


def conditions(filter: Filter) -> Iterator[Filter]:
    """The conditions on single tags that ``filter`` is made of."""
    if isinstance(filter, And | Or):
        for part in filter.parts:
            yield from conditions(part)
    elif isinstance(filter, Not):
        yield from conditions(filter.part)
    else:
        yield filter


@dataclass(frozen=True, slots=True)
class OneOf(Filter):
    """The value of ``field``, or an element of it, equals one of these; each kind equals only its own.

    The kinds are kept apart because ``True``, ``1`` and ``1.0`` are equal, and hash alike, in Python.
    """

    field: str
    strings: frozenset[str] = frozenset()
    numbers: frozenset[float] = frozenset()
    booleans: frozenset[bool] = frozenset()

    def holds(self, facts: Facts) -> bool:
        values = facts.values_of(tag_name(self.field))
        return values is not None and not (
            self.strings.isdisjoint(values.strings)
            and self.numbers.isdisjoint(values.numbers)
            and self.booleans.isdisjoint(values.booleans)
        )

    def to_json(self) -> dict[str, Any]:
        return self.written(single="$eq", several="$in")

    def written(self, *, single: str, several: str) -> dict[str, Any]:
        """The JSON object with the operator ``single`` for one value and ``several`` for any other number."""
        values: list[Any] = [
            *sorted(self.strings),
            *map(_plain, sorted(self.numbers)),
            *sorted(self.booleans),
        ]
        return {self.field: {single: values[0]} if len(values) == 1 else {several: values}}


@dataclass(frozen=True, slots=True)
class Identified(Filter):
    """The document has one of these ids, or is part of what has one: a photo's caption, a video's moment."""

    ids: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        return not self.ids.isdisjoint(facts.ids)

    def to_json(self) -> dict[str, Any]:
        return {"$ids": sorted(self.ids)}


def caseless(text: str) -> str:
    """``text`` as it compares without case: Unicode's default caseless matching over compatible forms."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True)
class EqualsCaseless(Filter):
    """The text of ``field``, or of an element of it, is ``string`` where case doesn't count.

    ``string`` is ``caseless`` already.
    """

    field: str
    string: str

    def holds(self, facts: Facts) -> bool:
        values = facts.values_of(tag_name(self.field))
        return values is not None and any(caseless(value) == self.string for value in values.strings)

    def to_json(self) -> dict[str, Any]:
        return {self.field: {"$eqi": self.string}}


@dataclass(frozen=True, slots=True)
class Range(Filter):
    """The value of ``field``, or an element of it, lies on that side of ``bound``.

    Numbers are compared with numbers and strings with strings, by code point.
    """

    field: str
    operator: RangeOperator
    bound: float | str

    def holds(self, facts: Facts) -> bool:
        values = facts.values_of(tag_name(self.field))
        if values is None:
            return False
        compare = COMPARISONS[self.operator]
        same_kind: set[Any] = values.strings if isinstance(self.bound, str) else values.numbers
        return any(compare(value, self.bound) for value in same_kind)

    def to_json(self) -> dict[str, Any]:
        return {self.field: {self.operator: _plain(self.bound)}}


@dataclass(frozen=True, slots=True)
class Exists(Filter):
    """The document has ``field``, whatever its value; a null counts as missing."""

    field: str

    def holds(self, facts: Facts) -> bool:
        return facts.values_of(tag_name(self.field)) is not None

    def to_json(self) -> dict[str, Any]:
        return {self.field: {"$exists": True}}


def _plain(value: float | str) -> float | int | str:
    """A number that is whole without its fraction, as people write it."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT_INTEGER:
        return int(value)
    return value
