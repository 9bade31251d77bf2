"""Vectors to search, made or real, the stores that hold them, and the project's search over these."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bench import inputs
from bench.harness import Options
from bench.models import model_cache
from crossmodal.index.embedded.compared import Hit
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.schema import FORMAT, INDEX_FILE
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex
from crossmodal.index.embedded.vector_source import VectorBlock, VectorSource
from crossmodal.models import DEFAULT_MODEL, identify_model, load_image_encoder, load_text_encoder
from crossmodal.records import IMAGE, Modality, Record, record_id

__all__ = [
    "DIMENSION",
    "Collection",
    "documents",
    "forget_derived",
    "made_source",
    "numbers_of",
    "opened",
    "real",
    "settled",
    "synthetic",
    "vector_store",
]

DIMENSION = 512

_BLOCK = 50_000

# Directions that the vectors mostly differ in, as those of contrastive models do.
_INTRINSIC = 48

# What is common to all photos, and to all queries: the gap between the modalities.
_PHOTO_OFFSET, _QUERY_OFFSET = 0.6, 0.8
_NOISE = 0.4

# How much of a query is the photo it looks for; the rest is its own.
_QUERY_OF_PHOTO, _QUERY_OWN = 0.6, 0.5

# The length of a photo's vector before it is scaled to 1.
_PHOTO_LENGTH = (DIMENSION * (1 + _NOISE**2 + _PHOTO_OFFSET**2)) ** 0.5

_STORED_AT_ONCE = 2048


@dataclass(frozen=True)
class Collection:
    """``count`` vectors of unit length, float32, in ``blocks``, and ``queries`` of another distribution."""

    name: str
    count: int
    queries: NDArray[np.float32]
    _source: NDArray[np.float32] | None = None

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The vectors in order, some tens of thousands at a time; a smaller collection is the beginning of a
        larger one."""
        for start in range(0, self.count, _BLOCK):
            rows = min(_BLOCK, self.count - start)
            yield (
                _block(start // _BLOCK)[:rows] if self._source is None else self._source[start : start + rows]
            )

    def all(self) -> NDArray[np.float32]:
        """All vectors, float32 (count, dimension)."""
        return np.concatenate(list(self.blocks()))


def synthetic(count: int, queries: int) -> Collection:
    """Vectors as cross-modal models make them: a few directions that matter, noise, and queries with an
    offset of their own."""
    basis, _, offset = _shape()
    source = _block(0) * np.float32(_PHOTO_LENGTH)
    random = np.random.default_rng([1, queries])
    wanted = source[random.integers(0, min(count, len(source)), queries)] * np.float32(_QUERY_OF_PHOTO)
    own = random.standard_normal((queries, _INTRINSIC), np.float32) @ basis * np.float32(_QUERY_OWN)
    noise = random.standard_normal((queries, DIMENSION), np.float32) * np.float32(_NOISE)
    return Collection("synthetic", count, _unit(wanted + own + noise + offset))


def real(options: Options, count: int, queries: int) -> Collection | None:
    """Captions of Flickr30k through the default model, and photos of Flickr8k that look for them.

    Encoded once and stored in the workspace folder. None where ``options.data`` lacks either.
    """
    texts, photos = inputs.captions(options, count), inputs.small_photos(options)
    if options.data is None or len(texts) < count or len(photos) < queries:
        return None
    fingerprint = identify_model(DEFAULT_MODEL).weights
    path = options.workspace / "vectors" / f"captions-{count}-photos-{queries}-{fingerprint}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        vectors = load_text_encoder(DEFAULT_MODEL, cache=model_cache(options)).encode(texts)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(
            temporary,
            vectors=vectors,
            queries=_encode_photos(photos[:: len(photos) // queries][:queries], options),
        )
        temporary.replace(path)
    with np.load(path) as held:
        return Collection("real", count, held["queries"], held["vectors"])


def made_source(collection: Collection, folder: Path) -> VectorSource:
    """The vectors of ``collection`` as a search index follows them, without a store that holds them too.

    Of millions, ``index.sqlite`` would take as much disk again. Derived files lie below ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return cast(VectorSource, _MadeSource(collection, folder))


@dataclass(frozen=True)
class _MadeSource:
    """A ``VectorSource`` and its snapshot."""

    collection: Collection
    folder: Path
    modality: Modality = IMAGE
    shard: int = 0
    shards: int = 1
    sequence: int = 1
    store_id: str = "made"

    @property
    def count(self) -> int:
        """The number of vectors."""
        return self.collection.count

    @property
    def next_row(self) -> int:
        """Rows are numbered below this."""
        return self.collection.count

    @property
    def dimension(self) -> int:
        """That of the vectors."""
        return int(self.collection.queries.shape[1])

    @contextmanager
    def snapshot(self) -> Iterator[_MadeSource]:
        """Everything there is: it never changes."""
        yield self

    def blocks(self, first_row: int = 0) -> Iterator[VectorBlock]:
        """The rows from ``first_row`` on, ascending."""
        row = 0
        for vectors in self.collection.blocks() if first_row < self.count else ():
            numbers = range(max(row, first_row), row + len(vectors))
            yield VectorBlock(
                np.array(numbers, np.uint64),
                [_id(number) for number in numbers],
                vectors[len(vectors) - len(numbers) :],
                np.zeros(len(numbers), np.float32),
            )
            row += len(vectors)

    def rows_added(self, first_row: int) -> int:
        """How many rows there are from ``first_row`` on."""
        return max(self.count - first_row, 0)

    def rows_removed(self, sequence: int) -> NDArray[np.uint64]:
        """None ever went."""
        return np.empty(0, np.uint64)


def documents(start: int, count: int) -> list[Record]:
    """Small photo records without bytes, from number ``start`` on, with ids as real ones have."""
    return [
        Record(_id(number), IMAGE, uri=f"/photos/{number}.jpg", mime_type="image/jpeg")
        for number in range(start, start + count)
    ]


def vector_store(collection: Collection, options: Options) -> Path:
    """A store with the collection's vectors and a small document for each, made once and used again.

    A caller that writes to it has to copy it first.
    """
    path = options.workspace / "stores" / f"{collection.name}-{collection.count}-format-{FORMAT}"
    if (path / INDEX_FILE).is_file():
        return path
    unfinished = path.with_name(path.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    stored = 0
    with EmbeddedStore.open_writer(unfinished) as store:
        for block in collection.blocks():
            for start in range(0, len(block), _STORED_AT_ONCE):
                vectors = block[start : start + _STORED_AT_ONCE]
                store.put(documents(stored, len(vectors)), vectors)
                stored += len(vectors)
    unfinished.rename(path)
    return path


def numbers_of(found: Sequence[Sequence[Hit]], collection: Collection) -> NDArray[np.int64]:
    """What a search over ``vector_store(collection)`` found, as numbers of rows (n, top_k)."""
    wanted = {id for matches in found for id, *_ in matches}
    numbers = {id: number for number in range(collection.count) if (id := _id(number)) in wanted}
    return np.array([[numbers[id] for id, *_ in matches] for matches in found], np.int64)


@contextmanager
def opened(path: Path, tier: str = "auto") -> Iterator[VectorIndex]:
    """The index of the store at ``path`` with its derived files, by default in the tier that users get."""
    with EmbeddedStore.open_reader(path) as store:
        index = VectorIndex(store.vector_source(IMAGE), options=SearchOptions.of(tier))
        try:
            yield index
        finally:
            index.close()


def settled(index: VectorIndex) -> str:
    """Builds now what would be built in the background, and says which tier then answers."""
    index.build()
    return str(index.status()["tier"])


def forget_derived(path: Path) -> None:
    """Deletes what is derived from the store, as if a crash had come before it was written."""
    shutil.rmtree(path / "derived", ignore_errors=True)


def _shape() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The directions that matter, what photos have in common, and what queries have in common."""
    random = np.random.default_rng(0)
    basis = random.standard_normal((_INTRINSIC, DIMENSION), np.float32) / np.float32(_INTRINSIC**0.5)
    photos = random.standard_normal(DIMENSION, np.float32) * np.float32(_PHOTO_OFFSET)
    queries = random.standard_normal(DIMENSION, np.float32) * np.float32(_QUERY_OFFSET)
    return basis, photos, queries


def _block(number: int) -> NDArray[np.float32]:
    basis, offset, _ = _shape()
    random = np.random.default_rng([2, number])
    meaning = random.standard_normal((_BLOCK, _INTRINSIC), np.float32) @ basis
    noise = random.standard_normal((_BLOCK, DIMENSION), np.float32) * np.float32(_NOISE)
    return _unit(meaning + noise + offset)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled.astype(np.float32, copy=False)


def _encode_photos(photos: list[Path], options: Options) -> NDArray[np.float32]:
    encoder = load_image_encoder(DEFAULT_MODEL, cache=model_cache(options))
    return encoder.encode(
        np.stack([encoder.preprocessing.model_input(photo.read_bytes()) for photo in photos])
    )


def _id(number: int) -> str:
    return record_id(f"/photos/{number}.jpg")
