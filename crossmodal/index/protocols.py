"""The two protocols of an index: what keeps documents, and what searches their vectors.

A backend is a folder with one class for each. The rule of one transaction for all that belongs to a document
is the embedded store's; a backend that spreads an index over several services says what takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from crossmodal.filters.dates import is_day

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from crossmodal.filters import Filter
    from crossmodal.filters.sorting import Order, Place
    from crossmodal.index.embedded.compared import Hit
    from crossmodal.models.identity import ModelIdentity
    from crossmodal.records import Look, Modality, Outcome, Record

__all__ = [
    "Counts",
    "DocumentStore",
    "Facet",
    "FacetOrder",
    "FacetRequest",
    "FacetValue",
    "FieldType",
    "Per",
    "SeenText",
    "Standing",
    "TagField",
    "TextCounts",
    "TextHit",
    "UnreadPhoto",
    "VectorIndex",
    "WordHit",
    "tag_field",
]

FieldType = Literal["string", "number", "boolean", "date", "mixed"]

# Of a record: nothing of it is new; what is made of its content is stored, and its file or its tags are new;
# so it is, and its original has to be stored; it is new.
Standing = Literal["same", "known", "without original", "new"]

_KINDS: tuple[tuple[type, FieldType], ...] = ((bool, "boolean"), (float, "number"), (str, "string"))


@dataclass(frozen=True, slots=True)
class TagField:
    """A tag by the ``name`` that a filter uses, and the number of documents that have it.

    It is a date where each of its values is text that begins with a day of ISO 8601.
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
    names = [kind for values, (_, kind) in zip(by_kind, _KINDS, strict=True) if values]
    ordered = (
        (-times, kind, value) for kind, values in enumerate(by_kind) for value, times in values.items()
    )
    type: FieldType = names[0] if len(names) == 1 else "mixed"
    if type == "string" and all(map(is_day, strings)):
        type = "date"
    return TagField(
        name=name,
        type=type,
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


# By what part of their dates documents are counted, and in which order values come.
Per = Literal["year", "month", "day"]
FacetOrder = Literal["count", "value", "-value"]


@dataclass(frozen=True, slots=True)
class FacetRequest:
    """Which values of ``tag`` are counted: the first ``limit`` in that ``order``.

    ``per`` takes the years, months or days of dates as the values. ``below`` takes texts that stand one level
    behind it and a slash, as folders do, or with "" those without a slash.
    """

    tag: str
    per: Per | None = None
    below: str | None = None
    order: FacetOrder = "count"
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a tag, how many documents have it, and the id of the one of them that came last."""

    value: str | float | bool
    count: int
    sample: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object of a value in an answer; whole numbers have no fraction."""
        return {"value": _plain(self.value), "count": self.count, "sample": self.sample}


@dataclass(frozen=True, slots=True)
class Facet:
    """Values of a tag, ``more`` where there are others; ``count`` documents have one that was asked for."""

    tag: str
    count: int
    values: tuple[FacetValue, ...]
    more: bool

    def to_json(self) -> dict[str, Any]:
        """The JSON object of an answer."""
        values = [value.to_json() for value in self.values]
        return {"tag": self.tag, "count": self.count, "values": values, "more": self.more}


class Counts(NamedTuple):
    """What there is of one modality; ``bytes`` are those of originals, thumbnails and vectors."""

    documents: int
    vectors: int
    bytes: int
    last_change: datetime | None


class WordHit(NamedTuple):
    """A document that has a word of the query, and its BM25 score: a caption, or a photo by its file's name.

    ``photo_id`` is that of the photo itself, or of the caption's photo if it has one.
    """

    modality: Modality
    id: str
    photo_id: str | None
    bm25: float


class UnreadPhoto(NamedTuple):
    """A photo in which nobody has looked for text yet, with its row and the SHA-256 of its file."""

    row: int
    photo: str
    digest: str


class SeenText(NamedTuple):
    """The ``text`` that was read in the photo with that id and digest; empty where there is none."""

    photo: str
    digest: str
    text: str


class TextHit(NamedTuple):
    """A photo in which words of the query were read, its BM25 score, and its text."""

    photo: str
    bm25: float
    text: str


class TextCounts(NamedTuple):
    """In how many photos text was looked for, how many of them have some, and how many wait."""

    read: int
    with_text: int
    waiting: int


class DocumentStore(Protocol):
    """Photos and captions by modality and id, with their vectors, bytes, tags and words.

    ``EmbeddedStore`` says what each method returns and raises. Safe to use from several threads.
    """

    @property
    def identity(self) -> ModelIdentity | None: ...

    @property
    def dimension(self) -> int | None: ...

    @property
    def superseded(self) -> bool: ...

    def put(
        self, records: Sequence[Record], vectors: NDArray[np.floating[Any]] | None = None
    ) -> list[Outcome]: ...

    def delete(
        self, ids: Iterable[str], *, captions: bool = False, modality: Modality | None = None
    ) -> list[tuple[Modality, str]]: ...

    def get(self, ids: Sequence[str], modality: Modality) -> list[Record | None]: ...

    def update(self, records: Sequence[Record]) -> list[Outcome]: ...

    def standings(self, records: Sequence[Record], *, originals: bool = False) -> list[Standing]: ...

    def vectors(self, ids: Iterable[str], modality: Modality) -> dict[str, NDArray[np.float32]]: ...

    def captions_of(self, photo_ids: Sequence[str]) -> list[list[Record]]: ...

    def content(self, id: str) -> bytes | None: ...

    def thumbnail(self, id: str) -> bytes | None: ...

    def looks(self, photo_ids: Iterable[str]) -> dict[str, Look]: ...

    def ids(self, modality: Modality, *, after: str = "") -> Iterator[str]: ...

    def listed(
        self,
        modality: Modality,
        limit: int,
        *,
        filter: Filter | None = None,
        order: Order | None = None,
        after: Place | None = None,
    ) -> list[Record]: ...

    def matching_ids(self, modality: Modality, filter: Filter, limit: int | None = None) -> list[str]: ...

    def coordinates(self, filter: Filter | None = None) -> list[tuple[str, float, float]]: ...

    def search_words(self, text: str, limit: int) -> list[WordHit]: ...

    def unread_photos(self, limit: int, *, after: int = -1) -> list[UnreadPhoto]: ...

    def put_texts(self, texts: Sequence[SeenText]) -> None: ...

    def matching_texts(self, text: str, limit: int) -> list[TextHit]: ...

    def text_of(self, photo: str) -> str | None: ...

    def count_texts(self) -> TextCounts: ...

    def tag_fields(self, modality: Modality, limit_values: int | None = 50) -> list[TagField]: ...

    def facet(self, modality: Modality, request: FacetRequest, filter: Filter | None = None) -> Facet: ...

    def tag_values(
        self, modality: Modality, *, without: Sequence[str], longest: int
    ) -> list[tuple[str, str, int]]: ...

    def tag_texts(self, modality: Modality, tag: str) -> list[str]: ...

    def counts(self, modality: Modality) -> Counts: ...

    def verify(self) -> list[str]: ...

    def close(self) -> None: ...


class VectorIndex(Protocol):
    """The vectors of one modality, or one shard of them, searched as they change.

    ``embedded.vector_index.VectorIndex`` says what each method returns and raises. Safe to use from several
    threads.
    """

    def __len__(self) -> int: ...

    def search(
        self,
        queries: NDArray[np.floating[Any]],
        top_k: int,
        filter: Filter | None = None,
        *,
        corrected: NDArray[np.bool_] | None = None,
    ) -> list[list[Hit]]: ...

    def cosines(
        self, queries: NDArray[np.floating[Any]]
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float32]]: ...

    def status(self) -> dict[str, Any]: ...

    def close(self) -> None: ...
