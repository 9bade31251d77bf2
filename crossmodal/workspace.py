"""One index as a whole: where its stores lie, what they hold together, and which model built it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crossmodal.errors import ModelMismatch, StoreError, StoreMissing, StoreUnwritable
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, Record
from crossmodal.search.matches import shard_of
from crossmodal.stores import FORMAT, Store, mismatch_message

__all__ = ["IMAGE_CONTENTS", "IMAGE_VECTORS", "TEXTS", "Workspace", "shard_of"]

# The executors that write them give the folders their names.
IMAGE_VECTORS = "image_vector_indexer"
IMAGE_CONTENTS = "image_kv_indexer"
TEXTS = "text_indexer"
_NAMES = (IMAGE_VECTORS, IMAGE_CONTENTS, TEXTS)

# What three new stores need before their first document.
_LEAST_SPACE_BYTES = 1 << 19

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

    def close(self) -> None:
        """Close the stores that were opened for reading; they are opened again when needed."""
        with self._opening:
            for store in self._readers.values():
                store.close()
            self._readers.clear()

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
                f"There is no index in {self.path}. Make one with: python app.py -t index --workspace "
                f"{self.path}"
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
        ``text`` the numbers of ``documents`` and ``vectors``, ``bytes_on_disk``, ``model`` and
        ``last_change``. Raises ``StoreMissing``.
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
        }

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
        shards = self.shards(name)
        if not shards:
            return set()
        by_shard: dict[int, list[str]] = {}
        for id in ids:
            by_shard.setdefault(shard_of(id, shards), []).append(id)
        same: set[str] = set()
        for shard, wanted in by_shard.items():
            store = self._reader(self.store_path(name, shard, shards))
            if store is not None:
                known = store.hashes(wanted)
                found = {id for id, hash in zip(wanted, known, strict=True) if hash == hashes[id]}
                if originals:
                    found = {
                        id for id, held in zip(wanted, store.has_content(wanted), strict=True) if held
                    } & found
                same |= found
        return same
