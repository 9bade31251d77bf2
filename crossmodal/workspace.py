"""One index as a whole: where its stores lie, what they hold together, and which model built it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from crossmodal.errors import ModelMismatch, StoreError, StoreMissing, StoreUnwritable
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, Modality, Record, checked_modality
from crossmodal.search import TagField, merge_fields, shard_of
from crossmodal.search.kept_codes import kept_tier
from crossmodal.search.tag_index import TagIndex
from crossmodal.stores import FORMAT, Store, mismatch_message
from crossmodal.stores.captions import natural_order

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IMAGE_CONTENTS", "IMAGE_VECTORS", "TEXTS", "Workspace", "shard_of"]

# The steps that write them give the folders their names.
IMAGE_VECTORS = "image_vector_indexer"
IMAGE_CONTENTS = "image_kv_indexer"
TEXTS = "text_indexer"
_NAMES = (IMAGE_VECTORS, IMAGE_CONTENTS, TEXTS)

# What three new stores need before their first document.
_LEAST_SPACE_BYTES = 1 << 19

_Value = TypeVar("_Value")

_SHARD_FOLDER = re.compile(r"(\d+)-of-(\d+)")


class Workspace:
    """The index in the folder ``path``, which need not exist yet.

    Stores are opened for reading when they are first needed and stay open; each call sees what has been
    committed by then, also by other processes. Close it, or use it in a ``with`` statement.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._readers: dict[Path, Store] = {}
        self._opening = threading.Lock()
        self._tags: dict[Path, TagIndex] = {}
        self._following_tags = threading.Lock()

    def close(self) -> None:
        """Close the stores that were opened for reading; they are opened again when needed."""
        with self._opening:
            for store in self._readers.values():
                store.close()
            self._readers.clear()
        with self._following_tags:
            self._tags.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def store_path(self, name: str, shard: int = 0, shards: int = 1) -> Path:
        """The folder of one shard of the store ``name``: ``PATH/NAME/0-of-1``."""
        return self.path / name / f"{shard}-of-{shards}"

    def shards(self, name: str) -> int | None:
        """Over how many shards the store ``name`` is spread on disk; None if it isn't there.

        Raises ``StoreError`` if there are folders of two different numbers.
        """
        found = set()
        folder = self.path / name
        if folder.is_dir():
            for entry in folder.iterdir():
                if (match := _SHARD_FOLDER.fullmatch(entry.name)) and (entry / "data.mdb").is_file():
                    found.add(int(match[2]))
        if len(found) > 1:
            numbers = " and for ".join(str(number) for number in sorted(found))
            raise StoreError(
                f"{folder} holds an index for {numbers} shards. Delete the folders of one of them, or delete "
                f"{self.path} and index again."
            )
        return found.pop() if found else None

    def check_shards(self, shards: int) -> None:
        """Raise ``StoreError`` if what is on disk is spread over another number of shards."""
        for name in _NAMES:
            found = self.shards(name)
            if found is not None and found != shards:
                raise StoreError(
                    f"The index in {self.path} has {found} shard{'s' * (found > 1)}, but {shards} are asked "
                    f"for. Leave out --shards and JINA_SHARDS, or delete {self.path} and index again."
                )

    def exists(self) -> bool:
        """Whether there is an index: at least one store to which something was once committed."""
        return any(True for name in _NAMES for _ in self._stores(name))

    def require(self) -> None:
        """Raise ``StoreMissing`` if there is no index."""
        if not self.exists():
            raise StoreMissing(
                f"There is no index in {self.path}. Make one with: crossmodal index --workspace "
                f"{shlex.quote(str(self.path))}"
            )

    def require_writable(self) -> None:
        """Make the folder if it isn't there; raise ``StoreUnwritable`` if nothing can be written into it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(bytes(_LEAST_SPACE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnwritable(
                f"The workspace {self.path} cannot be written ({error.strerror}). Free some space or give "
                "write permission for it, or choose another folder with --workspace."
            ) from error

    def identity(self) -> ModelIdentity | None:
        """The model that built the index, None if there is no index. Raises ``ModelMismatch`` if two did."""
        built_by: ModelIdentity | None = None
        for name in (IMAGE_VECTORS, TEXTS):
            for store in self._stores(name):
                identity = store.identity
                if built_by is not None and identity is not None and identity != built_by:
                    raise ModelMismatch(
                        f"The photos and captions in {self.path} were indexed by two models, {built_by} and "
                        f"{identity}. Delete {self.path} and index again."
                    )
                built_by = built_by or identity
        return built_by

    def check_model(self, identity: ModelIdentity) -> None:
        """Raise ``ModelMismatch`` if another model built the index."""
        built_by = self.identity()
        if built_by is not None and built_by != identity:
            raise ModelMismatch(mismatch_message(self.path, built_by, identity))

    def unchanged(self, records: Sequence[Record], *, originals: bool = False) -> set[str]:
        """The ids of those ``records`` that every store concerned has with the same content hash.

        A photo needs its vector and what is kept of it, which lie in two stores; a caption lies in one. With
        ``originals`` a photo of which only a thumbnail is kept does not count.
        """
        hashes = {record.id: record.content_hash or record.hashed().content_hash for record in records}
        photos = [record.id for record in records if record.modality == IMAGE]
        captions = [record.id for record in records if record.modality != IMAGE]
        kept = self._same(IMAGE_VECTORS, photos, hashes)
        kept &= self._same(IMAGE_CONTENTS, photos, hashes, originals=originals)
        return kept | self._same(TEXTS, captions, hashes)

    def get(self, name: str, id: str) -> Record | None:
        """The record ``id`` in the store ``name``, without its bytes; None if it isn't there."""
        store = self._store_of(name, id)
        return None if store is None else store.get([id])[0]

    def find(self, id: str) -> Record | None:
        """The photo with that id, else the caption, without its bytes; None if there is neither."""
        return self.get(IMAGE_CONTENTS, id) or self.get(TEXTS, id)

    def records(self, ids: Iterable[str], modality: Modality) -> dict[str, Record]:
        """The photos or captions among ``ids`` by id, without their bytes; what is not stored is left out."""

        def found(store: Store, wanted: list[str]) -> dict[str, Record]:
            records = zip(wanted, store.get(wanted), strict=True)
            return {id: record for id, record in records if record is not None}

        return self._collect(_documents_of(modality), ids, found)

    def vectors(self, ids: Iterable[str], modality: Modality) -> dict[str, NDArray[np.float32]]:
        """The vectors, float32 (dimension,), of the photos or captions among ``ids``, those stored, by id."""
        return self._collect(_vectors_of(modality), ids, Store.vectors)

    def ids(self, modality: Modality) -> Iterator[str]:
        """The ids of all photos or captions that can be searched for, in no particular order."""
        for store in self._stores(_vectors_of(modality)):
            yield from store.ids()

    def vector_count(self, modality: Modality) -> int:
        """How many photos or captions can be searched for."""
        return sum(store.vector_count for store in self._stores(_vectors_of(modality)))

    def captions_of(self, photo_ids: Sequence[str]) -> dict[str, list[Record]]:
        """For each of ``photo_ids`` the captions that describe it, in natural order: 42-2 before 42-10."""
        found: dict[str, list[Record]] = {photo_id: [] for photo_id in photo_ids}
        wanted = list(found)
        stores = self.text_stores()
        for store in stores:
            for photo_id, captions in zip(wanted, store.captions_of(wanted), strict=True):
                found[photo_id] += captions
        if len(stores) > 1:
            for captions in found.values():
                captions.sort(key=lambda caption: natural_order(caption.id))
        return found

    def list_records(self, modality: Modality, limit: int, after: str | None = None) -> list[Record]:
        """The first ``limit`` photos or captions in order of id, without bytes; those behind ``after``."""
        name = _documents_of(modality)
        ids = list(islice(merge(*(store.ids(after=after) for store in self._stores(name))), limit))
        records = self.records(ids, modality)
        # What was deleted in this moment is passed over.
        return [records[id] for id in ids if id in records]

    def tag_fields(self, limit_values: int = 50) -> list[TagField]:
        """The tags that the index has, in order of their names, each with its most frequent values.

        A tag that photos have is counted over the photos, any other over the captions. The first call reads
        all tags; later ones only what has changed.
        """
        fields: dict[str, TagField] = {}
        with self._following_tags:
            for name in (TEXTS, IMAGE_VECTORS):
                indexes = [self._tags_of(store) for store in self._stores(name)]
                # Only all values of each shard can be added up.
                limit = limit_values if len(indexes) == 1 else None
                merged = merge_fields([index.fields(limit) for index in indexes], limit_values)
                fields |= {field.name: field for field in merged}
        return [fields[name] for name in sorted(fields)]

    def text_stores(self) -> list[Store]:
        """The stores of the captions, one a shard, open for reading; none where there is no index."""
        return list(self._stores(TEXTS))

    def content(self, id: str) -> tuple[bytes, str] | None:
        """The untouched file of the photo ``id`` and its mime type; None if it is not kept."""
        store = self._store_of(IMAGE_CONTENTS, id)
        content = None if store is None else store.content(id)
        if store is None or content is None:
            return None
        (record,) = store.get([id])
        mime_type = None if record is None else record.mime_type
        return content, mime_type or "application/octet-stream"

    def thumbnail(self, id: str) -> tuple[bytes, str] | None:
        """The small JPEG of the photo ``id`` and its mime type; None if it is not kept."""
        store = self._store_of(IMAGE_CONTENTS, id)
        thumbnail = None if store is None else store.thumbnail(id)
        return None if thumbnail is None else (thumbnail, "image/jpeg")

    def status(self) -> dict[str, Any]:
        """What is indexed, as JSON values; needs no model.

        Keys: ``path``, ``format``, ``shards``, ``model`` (None or name, weights, preprocessing, dimension),
        ``bytes_on_disk``, ``last_change`` (ISO 8601, UTC) and, under ``modalities``, for ``image`` and
        ``text`` the numbers of ``documents`` and ``vectors``, ``bytes_on_disk``, ``model``, ``last_change``
        and ``search``, the worst that ``kept_tier`` tells of a shard. Raises ``StoreMissing``.
        """
        self.require()
        modalities = {
            "image": self._modality(documents=IMAGE_CONTENTS, vectors=IMAGE_VECTORS),
            "text": self._modality(documents=TEXTS, vectors=TEXTS),
        }
        identity = self.identity()
        changes = [part["last_change"] for part in modalities.values() if part["last_change"]]
        return {
            "path": str(self.path.absolute()),
            "format": FORMAT,
            "shards": max(self.shards(name) or 0 for name in _NAMES),
            "model": None if identity is None else identity.to_json(),
            "bytes_on_disk": sum(part["bytes_on_disk"] for part in modalities.values()),
            "last_change": max(changes, default=None),
            "modalities": modalities,
        }

    def delete(self) -> None:
        """Delete the stores from disk; other files in the folder stay."""
        self.close()
        for name in _NAMES:
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)

    def _modality(self, *, documents: str, vectors: str) -> dict[str, Any]:
        holding = list(self._stores(documents))
        searched = list(self._stores(vectors))
        stores = {store.path: store for store in (*holding, *searched)}.values()
        identity = next((found for store in searched if (found := store.identity)), None)
        changes = [change for store in stores if (change := store.last_change)]
        return {
            "documents": sum(store.document_count for store in holding),
            "vectors": sum(store.vector_count for store in searched),
            "bytes_on_disk": sum(store.bytes_on_disk for store in stores),
            "model": None if identity is None else identity.name,
            "last_change": max(changes).isoformat() if changes else None,
            "search": min(
                (kept_tier(store.path, store.id) for store in searched),
                key=lambda kept: -1.0 if kept["recall"] is None else kept["recall"],
                default=None,
            ),
        }

    def _tags_of(self, store: Store) -> TagIndex:
        index = self._tags.setdefault(store.path, TagIndex())
        with store.vector_snapshot() as snapshot:
            index.follow(snapshot)
        return index

    def _collect(
        self, name: str, ids: Iterable[str], read: Callable[[Store, list[str]], dict[str, _Value]]
    ) -> dict[str, _Value]:
        """What ``read`` finds of ``ids`` in the shards that hold them, in the order of ``ids``."""
        wanted = list(dict.fromkeys(ids))
        by_id: dict[str, _Value] = {}
        for store, mine in self._by_shard(name, wanted):
            by_id |= read(store, mine)
        return {id: by_id[id] for id in wanted if id in by_id}

    def _by_shard(self, name: str, ids: Iterable[str]) -> Iterator[tuple[Store, list[str]]]:
        """Each shard of the store ``name`` that holds some of ``ids``, with those."""
        shards = self.shards(name)
        if not shards:
            return
        by_shard: dict[int, list[str]] = {}
        for id in ids:
            by_shard.setdefault(shard_of(id, shards), []).append(id)
        for shard, mine in by_shard.items():
            store = self._reader(self.store_path(name, shard, shards))
            if store is not None:
                yield store, mine

    def _stores(self, name: str) -> Iterator[Store]:
        shards = self.shards(name) or 0
        for shard in range(shards):
            store = self._reader(self.store_path(name, shard, shards))
            if store is not None:
                yield store

    def _store_of(self, name: str, id: str) -> Store | None:
        shards = self.shards(name)
        return None if not shards else self._reader(self.store_path(name, shard_of(id, shards), shards))

    def _reader(self, path: Path) -> Store | None:
        with self._opening:
            store = self._readers.get(path)
            if store is not None and store.superseded:
                store.close()
                del self._readers[path]
                store = None
            if store is None:
                try:
                    store = Store.open_reader(path)
                except StoreMissing:
                    return None
                self._readers[path] = store
            return store

    def _same(
        self, name: str, ids: Iterable[str], hashes: dict[str, str], *, originals: bool = False
    ) -> set[str]:
        same: set[str] = set()
        for store, wanted in self._by_shard(name, ids):
            known = store.hashes(wanted)
            found = {id for id, hash in zip(wanted, known, strict=True) if hash == hashes[id]}
            if originals:
                held = store.has_content(wanted)
                found &= {id for id, kept in zip(wanted, held, strict=True) if kept}
            same |= found
        return same


def _documents_of(modality: Modality) -> str:
    return IMAGE_CONTENTS if checked_modality(modality, "What is asked for") == IMAGE else TEXTS


def _vectors_of(modality: Modality) -> str:
    return IMAGE_VECTORS if checked_modality(modality, "What is asked for") == IMAGE else TEXTS
