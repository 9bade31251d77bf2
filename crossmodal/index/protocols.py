"""The two protocols of an index: what keeps documents, and what searches their vectors.

A backend is a folder with one class for each. The rule of one transaction for all that belongs to a document
is the embedded store's; a backend that spreads an index over several services says what takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from crossmodal.filters import Filter
    from crossmodal.index.tag_fields import TagField
    from crossmodal.models.identity import ModelIdentity
    from crossmodal.records import Modality, Outcome, Record

__all__ = ["Counts", "DocumentStore", "VectorIndex", "WordHit"]


class Counts(NamedTuple):
    """What there is of one modality; ``bytes`` are those of originals, thumbnails and vectors."""

    documents: int
    vectors: int
    bytes: int
    last_change: datetime | None


class WordHit(NamedTuple):
    """A caption that has a word of the query: its id, its photo's id if it has one, and its BM25 score."""

    id: str
    photo_id: str | None
    bm25: float


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

    def delete(self, ids: Iterable[str], *, captions: bool = False) -> list[tuple[Modality, str]]: ...

    def get(self, ids: Sequence[str], modality: Modality) -> list[Record | None]: ...

    def unchanged(
        self, records: Sequence[Record], *, originals: bool = False
    ) -> set[tuple[Modality, str]]: ...

    def vectors(self, ids: Iterable[str], modality: Modality) -> dict[str, NDArray[np.float32]]: ...

    def captions_of(self, photo_ids: Sequence[str]) -> list[list[Record]]: ...

    def content(self, id: str) -> bytes | None: ...

    def thumbnail(self, id: str) -> bytes | None: ...

    def ids(self, modality: Modality, *, after: str = "") -> Iterator[str]: ...

    def search_words(self, text: str, limit: int) -> list[WordHit]: ...

    def tag_fields(self, modality: Modality, limit_values: int | None = 50) -> list[TagField]: ...

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
        self, queries: NDArray[np.floating[Any]], top_k: int, filter: Filter | None = None
    ) -> list[list[tuple[str, float]]]: ...

    def scores(self, queries: NDArray[np.floating[Any]]) -> tuple[list[str], NDArray[np.float64]]: ...

    def status(self) -> dict[str, Any]: ...

    def close(self) -> None: ...
