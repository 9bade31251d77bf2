"""From an index of an earlier format to today's: killed at any moment, it goes on when it is run again.

Format 3 had three stores of LMDB, in folders of their own with one for each shard: the vectors of photos, the
photos themselves, and the captions. What they hold is written into a new index in the folder ``converting``,
which takes its place in one step when it is complete; only then the old stores are removed.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from crossmodal.errors import StoreFormat, StoreLocked, StoreMissing, StoreUnwritable
from crossmodal.extras import extra_for
from crossmodal.index.embedded.connections import sync_folder
from crossmodal.index.embedded.copies import require_whole
from crossmodal.index.embedded.schema import INDEX_FILE, UPGRADABLE
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.upgrade import format_of, upgrade
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, MODALITIES, TEXT, Record

__all__ = ["LEFT_OUT_FOLDER", "OLD_STORES", "Conversion", "convert", "old_stores"]

# The folders of format 3, for the vectors of photos, the photos, and the captions.
OLD_STORES = ("image_vector_indexer", "image_kv_indexer", "text_indexer")
_VECTORS, _PHOTOS, _CAPTIONS = OLD_STORES

_FOLDER = "converting"

# Where the old stores stay if something in them could not be converted.
LEFT_OUT_FOLDER = "before-conversion"
_FORMAT = "3"

# As much as LMDB may map; address space, not memory.
_MAP_BYTES = 1 << 40

# What one commit takes.
_BATCH_DOCUMENTS = 256
_BATCH_BYTES = 32 << 20

_CHECKSUM = struct.Struct("<Q")
_ID_LENGTH = struct.Struct("<H")
_BLOCK_COUNTS = struct.Struct("<III4x")


@dataclass(slots=True)
class Conversion:
    """How far a conversion is: documents ``done`` of ``total``.

    ``left_out`` says what was damaged or incomplete, a sentence each; then the old stores are not removed.
    ``was_done`` says that another run did all but removing these.
    """

    total: int = 0
    done: int = 0
    left_out: list[str] = field(default_factory=list)
    was_done: bool = False


def old_stores(path: Path) -> list[Path]:
    """The folders, one a store and shard, of an index of format 3 or before in the workspace ``path``."""
    return sorted(
        shard.parent
        for name in OLD_STORES
        for shard in (path / name).glob("*-of-*/data.mdb")
        if shard.is_file()
    )


def convert(path: Path, progress: Callable[[Conversion], None]) -> Conversion | None:
    """Converts the index in the workspace ``path``; None where it has today's format or there is none.

    ``progress`` is called after each commit. Raises ``StoreFormat`` for an index before format 3,
    ``StoreLocked`` while another process writes to it, ``StoreUnwritable``, ``MissingExtra`` without lmdb.
    """
    folders = old_stores(path)
    conversion = Conversion()
    if not folders and format_of(path) in UPGRADABLE:
        return _upgraded(path, progress)
    if not folders:
        return None
    with _readable(path), ExitStack() as held:
        for folder in folders:
            held.callback(_lock(folder).release)
        if (path / INDEX_FILE).exists():
            _require_converted(path)
            conversion.was_done = True
        else:
            _require_all(path)
            stores = [held.enter_context(_OldStore(folder)) for folder in folders]
            conversion.total = sum(store.vector_count for store in stores if store.name != _PHOTOS)
            _copy(stores, path / _FOLDER, conversion, progress)
            require_whole(path / _FOLDER)
            (path / _FOLDER / INDEX_FILE).rename(path / INDEX_FILE)
            sync_folder(path)
    # The old stores last: as long as one is there, another run finishes what was begun.
    shutil.rmtree(path / _FOLDER, ignore_errors=True)
    for name in OLD_STORES:
        if conversion.left_out:
            (path / LEFT_OUT_FOLDER).mkdir(exist_ok=True)
            (path / name).rename(path / LEFT_OUT_FOLDER / name)
        else:
            shutil.rmtree(path / name, ignore_errors=True)
    return conversion


def _upgraded(path: Path, progress: Callable[[Conversion], None]) -> Conversion:
    conversion = Conversion()

    def count(done: int, total: int) -> None:
        conversion.done, conversion.total = done, total
        progress(conversion)

    conversion.left_out = upgrade(path, count)
    return conversion


def _lock(folder: Path) -> WriterLock:
    try:
        return WriterLock(folder)
    except StoreUnwritable:
        if folder.is_dir():
            raise
        raise StoreLocked(
            f"{folder.parent.parent} is being converted by another process; wait until it has finished."
        ) from None


def _require_converted(path: Path) -> None:
    """Raises StoreFormat where the index of today's format in ``path`` is not what a conversion made."""
    try:
        with EmbeddedStore.open_reader(path) as index:
            converted_from = index.converted_from
    except StoreMissing:
        # It holds nothing.
        converted_from = None
    if converted_from != _FORMAT:
        raise StoreFormat(
            f"{path} holds an {INDEX_FILE} beside the index of format {_FORMAT}, which was not made of it. "
            f"Move one of them away: {INDEX_FILE}, or the folders {', '.join(OLD_STORES)}."
        )


def _require_all(path: Path) -> None:
    """Raises StoreFormat where a store is missing or its file is damaged, which reading would crash on."""
    from lmdb.verify import VerifyError, verify

    shards = {store.parent.name for store in path.glob("*/*-of-*/data.mdb")}
    for name in OLD_STORES:
        for shard in sorted(shards):
            file = path / name / shard / "data.mdb"
            if not file.is_file():
                raise StoreFormat(
                    f"{file} is missing; restore it from a copy, or delete {path} and index again."
                )
            try:
                problems = verify(str(file))
            except (VerifyError, OSError, ValueError) as error:
                problems = [error]
            if problems:
                raise StoreFormat(
                    f"{file} is damaged ({problems[0]}). Restore it from a copy, or delete {path} and index "
                    "again."
                )


def _copy(
    stores: Sequence[_OldStore], target: Path, conversion: Conversion, progress: Callable[[Conversion], None]
) -> None:
    identity = next((store.identity for store in stores if store.identity is not None), None)
    photos = {store.shard: store for store in stores if store.name == _PHOTOS}
    with EmbeddedStore.open_writer(target, identity=identity) as index:
        if identity is not None:
            index.take_banks_of(identity)
        for store in stores:
            if store.name == _PHOTOS:
                continue
            records = store if store.name == _CAPTIONS else photos.get(store.shard)
            modality = TEXT if store.name == _CAPTIONS else IMAGE
            for batch in _batches(store.documents(records, conversion.left_out)):
                # A run before this one may have been killed after it wrote them.
                known = index.known_ids([record.id for record, _, _ in batch], modality)
                new = [each for each in batch if each[0].id not in known]
                if new:
                    whole = [source.with_bytes(record) for record, _, source in new]
                    index.put(whole, np.stack([vector for _, vector, _ in new]))
                conversion.done += len(batch)
                progress(conversion)
        documents = sum(store.document_count for store in stores if store.name != _VECTORS)
        stored = sum(index.counts(modality).documents for modality in MODALITIES)
        if (missing := documents - stored - len(conversion.left_out)) > 0:
            conversion.left_out.append(f"{missing:,} documents: they had no vector")
        index.adopt_files()
        index.mark_converted(_FORMAT)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what LMDB and unpacking raise into StoreFormat."""
    with extra_for("Converting an index of format 3"):
        import lmdb
    try:
        yield
    except (lmdb.Error, struct.error) as error:
        raise StoreFormat(
            f"The index of format 3 in {path} is damaged ({error}). Delete it and index again, or restore it "
            "from a copy."
        ) from error


_Document = tuple[Record, NDArray[np.float32], "_OldStore"]


def _batches(documents: Iterator[_Document]) -> Iterator[list[_Document]]:
    batch: list[_Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document[2].bytes_of(document[0].id)
        if len(batch) == _BATCH_DOCUMENTS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _OldStore:
    """One LMDB environment of format 3, read only. Numbers are little-endian, those of keys big-endian."""

    def __init__(self, folder: Path) -> None:
        self.name, self.shard = folder.parent.name, folder.name
        self._folder = folder
        import lmdb

        self._environment = lmdb.open(
            str(folder), map_size=_MAP_BYTES, max_dbs=16, readonly=True, lock=False, create=False
        )
        self._transaction = self._environment.begin(buffers=True)
        self._trees: dict[str, Any] = {}
        try:
            found = str(self._get("meta", b"format") or b"none", "ascii")
        except lmdb.Error:
            found = "none"
        if found != _FORMAT:
            self.__exit__()
            raise StoreFormat(
                f"The index in {folder} has format {found}; only format {_FORMAT} can be converted. Delete "
                f"{folder.parent.parent} and index again, or choose another --workspace."
            )

    def __enter__(self) -> _OldStore:
        return self

    def __exit__(self, *raised: object) -> None:
        self._transaction.abort()
        self._environment.close()

    @property
    def identity(self) -> ModelIdentity | None:
        text = self._get("meta", b"identity")
        return ModelIdentity.from_json(json.loads(bytes(text))) if text else None

    @property
    def vector_count(self) -> int:
        return self._counters()[2]

    @property
    def document_count(self) -> int:
        return self._counters()[1]

    def documents(self, records: _OldStore | None, left_out: list[str]) -> Iterator[_Document]:
        """The living vectors with their records, which ``records`` has; says what it has to leave out."""
        for row, id, vector in self._vectors(left_out):
            try:
                own = self._record(id)
                if own is None or own[1] != row:
                    continue  # A row that was replaced.
                record = None if records is None else records._record(id)
                if records is None or record is None or record[0].content_hash != own[0].content_hash:
                    left_out.append(f"the photo {id!r}: a write was interrupted between its two stores")
                    continue
                yield record[0], vector, records
            except StoreFormat as error:
                left_out.append(str(error))

    def with_bytes(self, record: Record) -> Record:
        """The record with the original and thumbnail that are stored of it."""
        if record.modality != IMAGE:
            return record
        number = self._get("ids", _key(record.id))
        content, thumbnail = (
            None if number is None else self._get(tree, number) for tree in ("contents", "thumbnails")
        )
        return replace(
            record,
            content=None if content is None else bytes(content),
            thumbnail=None if thumbnail is None else bytes(thumbnail),
        )

    def bytes_of(self, id: str) -> int:
        """The size of the original of the document ``id``."""
        number = self._get("ids", _key(id))
        content = None if number is None else self._get("contents", number)
        return 0 if content is None else len(content)

    def _vectors(self, left_out: list[str]) -> Iterator[tuple[int, str, NDArray[np.float32]]]:
        for value in self._values("blocks"):
            count, dimension, ids_bytes = _BLOCK_COUNTS.unpack_from(value, _CHECKSUM.size)
            ids_start = _CHECKSUM.size + _BLOCK_COUNTS.size + 8 * count
            vectors_start = ids_start + ids_bytes
            if _CHECKSUM.unpack_from(value) != (xxh3_64_intdigest(value[_CHECKSUM.size :]),):
                left_out.append(f"{count} documents: their vectors in {self._folder} are damaged")
                continue
            rows = np.frombuffer(value, "<u8", count, ids_start - 8 * count).tolist()
            ids = json.loads(str(value[ids_start:vectors_start], "ascii"))
            vectors = np.frombuffer(value, "<f4", count * dimension, vectors_start).reshape(count, -1)
            yield from zip(rows, ids, vectors, strict=True)

    def _record(self, id: str) -> tuple[Record, int | None] | None:
        """The record ``id`` without its bytes, and the row of its vector in this store."""
        number = self._get("ids", _key(id))
        value = None if number is None else self._get("documents", number)
        if value is None:
            return None
        if _CHECKSUM.unpack_from(value) != (xxh3_64_intdigest(value[_CHECKSUM.size :]),):
            raise StoreFormat(f"the document {id!r}: it does not match its checksum")
        (id_bytes,) = _ID_LENGTH.unpack_from(value, _CHECKSUM.size)
        fields = json.loads(str(value[_CHECKSUM.size + _ID_LENGTH.size + id_bytes :], "ascii"))
        modality, content_hash, row, text, uri, mime_type, photo_id, _, _, tags = fields
        record = Record(
            id=id,
            modality=modality,
            text=text,
            uri=uri,
            mime_type=mime_type,
            photo_id=photo_id,
            tags=tags,
            content_hash=content_hash,
        )
        return record, row

    def _counters(self) -> tuple[int, int, int]:
        """Commits, documents and vectors."""
        sequence, documents, vectors = struct.unpack_from("<QQQ", self._get("meta", b"state") or b"")
        return sequence, documents, vectors

    def _tree(self, name: str) -> Any:
        if name not in self._trees:
            self._trees[name] = self._environment.open_db(name.encode(), txn=self._transaction, create=False)
        return self._trees[name]

    def _get(self, tree: str, key: bytes | memoryview) -> Any:
        return self._transaction.get(key, db=self._tree(tree))

    def _values(self, tree: str) -> Iterator[Any]:
        with self._transaction.cursor(self._tree(tree)) as cursor:
            yield from cursor.iternext(keys=False, values=True)


def _key(id: str) -> bytes:
    return id.encode("utf-8", "surrogatepass")
