"""An index as a Parquet file that other tools and later versions read, and back: one row a document.

The columns are those of ``COLUMNS``; only ``id`` and ``modality`` must be there. ``tags`` is a JSON object.
``vector`` has the model's float32 components, as they are compared. ``not_utf8`` is a JSON object of those
fields that Parquet's strings cannot hold, such as names of files with bytes that are no UTF-8, with escapes;
their columns have U+FFFD there. The file's metadata say ``crossmodal.format`` (``DUMP_FORMAT``) and
``crossmodal.model``, the identity of the model as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.errors import DataError, ModelError, StoreError, StoreFormat, StoreUnwritable
from crossmodal.extras import extra_for
from crossmodal.index.embedded.copies import made_beside, publish, require_absent, require_whole
from crossmodal.index.embedded.opening import documents_address
from crossmodal.index.embedded.schema import DOCUMENTS_FILE, INDEX_FILE
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.writer_lock import WriterLock
from crossmodal.index.protocols import SeenText
from crossmodal.models.identity import ModelIdentity
from crossmodal.private_files import touch_private
from crossmodal.records import MODALITIES, TEXT, LocalFile, Record, checked_modality

if TYPE_CHECKING:
    import pyarrow

__all__ = ["COLUMNS", "DUMP_FORMAT", "Moved", "dump", "load"]

DUMP_FORMAT = 1

COLUMNS = {
    "id": "string",
    "modality": "string: image or text",
    "content_hash": "string",
    "text": "string, of a caption",
    "uri": "string",
    "mime_type": "string",
    "photo_id": "string, of a caption: the id of its photo; of a moment: of its video",
    "tags": "string: a JSON object, what people gave",
    "metadata": "string: a JSON object, what was found in the photo's file",
    "digest": "string, of a photo: the SHA-256 of its file",
    "root": "string, of a photo on the machine of the dump: the folder that was indexed",
    "path": "string: where the photo lies below it",
    "origin": "string, of a caption: the file that gave it",
    "vector": "list of float32",
    "original": "binary: the photo's file",
    "thumbnail": "binary: a JPEG",
    "text_in_photo": "string: what was read in a photo, empty where it has no text, null where nobody looked",
    "not_utf8": "string: a JSON object",
}

_TEXTS = (
    *("id", "modality", "content_hash", "text", "uri", "mime_type", "photo_id", "tags", "metadata", "digest"),
    *("root", "path", "origin"),
)

# A row group ends after so many documents, or so many bytes of them.
_GROUP_DOCUMENTS = 1024
_GROUP_BYTES = 64 << 20

_LOADED_AT_ONCE = 256


@dataclass
class Moved:
    """How many photos and captions were written to a file, or read from one."""

    photos: int = 0
    captions: int = 0

    def count(self, records: Sequence[Record]) -> None:
        """Adds ``records``."""
        captions = sum(record.modality == TEXT for record in records)
        self.captions += captions
        self.photos += len(records) - captions


def dump(folder: Path, target: Path) -> Moved:
    """Writes the index in ``folder``, as of one commit, to the file ``target``.

    Others may read and write the index meanwhile. Raises StoreMissing, StoreDamaged at the first damaged
    document, StoreError where ``target`` exists, StoreUnwritable, MissingExtra without pyarrow.
    """
    with extra_for("A dump as Parquet"):
        import pyarrow
        import pyarrow.parquet
    require_absent(target)
    moved = Moved()
    with EmbeddedStore.open_reader(folder) as store, made_beside(target) as made:
        schema = _schema(store.dimension, store.identity)
        file = made / "documents.parquet"
        touch_private(file)
        with _named(target, "written"), pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for group in _groups(store):
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
                moved.photos += sum(row["modality"] != TEXT for row in group)
                moved.captions += sum(row["modality"] == TEXT for row in group)
        publish(file, target)
    return moved


def load(source: Path, folder: Path, *, objects: str | None = None) -> Moved:
    """Makes an index in ``folder``, which has none yet, of the file ``source``.

    Originals and thumbnails go where ``objects`` says, as ``--objects`` does.
    Raises StoreError where there is an index or no file, StoreFormat for a file of another format,
    DataError for a row that cannot be used, StoreLocked, StoreUnwritable, MissingExtra without pyarrow.
    """
    with extra_for("Loading Parquet"):
        import pyarrow.parquet
    if not source.is_file():
        raise StoreError(f"There is no file {source}.")
    if documents_address(folder) is not None:
        return _load_into_database(source, folder, objects)
    target = folder / INDEX_FILE
    if target.exists():
        raise StoreError(f"There is an index in {folder} already; choose another folder with --workspace.")
    with made_beside(target) as made, _named(source, "read"):
        lock = WriterLock(folder)
        try:
            with pyarrow.parquet.ParquetFile(source) as file:
                inside = made / "index"
                moved = _put_all(source, file, inside, objects)
            require_whole(inside)
            publish(inside / INDEX_FILE, target)
        finally:
            lock.release()
    return moved


def _load_into_database(source: Path, folder: Path, objects: str | None) -> Moved:
    import pyarrow.parquet

    with EmbeddedStore.open_writer(folder) as store:
        if any(store.counts(modality).documents for modality in MODALITIES):
            raise StoreError(f"The database that {folder / DOCUMENTS_FILE} names has an index already.")
    with _named(source, "read"), pyarrow.parquet.ParquetFile(source) as file:
        return _put_all(source, file, folder, objects)


def _put_all(source: Path, file: Any, folder: Path, objects: str | None) -> Moved:
    identity, moved = _identity(source, file.schema_arrow), Moved()
    with EmbeddedStore.open_writer(folder, identity=identity, objects=objects) as store:
        if identity is not None:
            store.take_banks_of(identity)
        for batch in file.iter_batches(_LOADED_AT_ONCE):
            moved.count(_put(store, batch.to_pylist(), moved.photos + moved.captions))
    return moved


@contextmanager
def _named(path: Path, done: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        kind = StoreUnwritable if done == "written" else StoreFormat
        raise kind(f"{path} cannot be {done} as Parquet ({error}).") from error


def _schema(dimension: int | None, identity: ModelIdentity | None) -> pyarrow.Schema:
    import pyarrow as pa

    vector = pa.list_(pa.float32()) if dimension is None else pa.list_(pa.float32(), dimension)
    types = {"vector": vector, "original": pa.large_binary(), "thumbnail": pa.binary()}
    metadata = {"crossmodal.format": str(DUMP_FORMAT)}
    if identity is not None:
        metadata["crossmodal.model"] = json.dumps(identity.to_json())
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS], metadata)


def _groups(store: EmbeddedStore) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for record, vector, seen in store.everything():
        group.append(_row(record, vector) | {"text_in_photo": seen})
        size += len(record.content or b"")
        if len(group) == _GROUP_DOCUMENTS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _row(record: Record, vector: np.ndarray[Any, Any] | None) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(record, name, None) for name in _TEXTS}
    for layer in ("tags", "metadata"):
        values[layer] = json.dumps(dict(values[layer]), ensure_ascii=True)
    if record.local is not None:
        values |= {"root": record.local.root, "path": record.local.path}
    escaped = {}
    for name in _TEXTS:
        text = values[name]
        if text is not None and not text.isascii() and (plain := _plain(text)) != text:
            escaped[name], values[name] = text, plain
    return values | {
        "vector": vector,
        "original": record.content,
        "thumbnail": record.thumbnail,
        "not_utf8": json.dumps(escaped) if escaped else None,
    }


def _plain(text: str) -> str:
    """``text`` with U+FFFD in the place of halves of characters."""
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= each <= "\udfff" else each for each in text)


def _identity(source: Path, schema: pyarrow.Schema) -> ModelIdentity | None:
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    found = metadata.get(b"crossmodal.format")
    if found != str(DUMP_FORMAT).encode():
        said = "no number of a format" if found is None else f"the format {found.decode(errors='replace')!r}"
        raise StoreFormat(
            f"{source} has {said} in its metadata (crossmodal.format); this program reads format "
            f"{DUMP_FORMAT}."
        )
    for name in ("id", "modality"):
        if name not in schema.names:
            raise StoreFormat(f"{source} has no column {name!r}; it has {', '.join(schema.names)}.")
    model = metadata.get(b"crossmodal.model")
    try:
        return None if model is None else ModelIdentity.from_json(json.loads(model))
    except (ValueError, ModelError) as error:
        raise StoreFormat(f"{source} names its model (crossmodal.model) in no form that is known.") from error


def _put(store: EmbeddedStore, rows: Sequence[Mapping[str, Any]], before: int) -> list[Record]:
    records = [_record(row, number) for number, row in enumerate(rows, before + 1)]
    both = zip(records, (row.get("vector") for row in rows), strict=True)
    # In the order of the file, so that what ties stays in its order.
    for has_vector, part in groupby(both, lambda pair: pair[1] is not None):
        together = list(part)
        vectors = np.array([vector for _, vector in together], np.float32) if has_vector else None
        store.put([record for record, _ in together], vectors)
    store.put_texts(
        [
            SeenText(record.id, record.digest, text)
            for record, row in zip(records, rows, strict=True)
            if (text := row.get("text_in_photo")) is not None and record.digest is not None
        ]
    )
    return records


def _record(row: Mapping[str, Any], number: int) -> Record:
    given = dict(row)
    try:
        given |= json.loads(given.get("not_utf8") or "{}")
        tags, metadata = (json.loads(given.get(layer) or "{}") for layer in ("tags", "metadata"))
        if not isinstance(tags, dict) or not isinstance(metadata, dict):
            raise TypeError("its tags or metadata are no JSON object")
        if not isinstance(given["id"], str):
            raise TypeError("it has no id")
    except (ValueError, TypeError) as error:
        raise DataError(f"Row {number} of the file cannot be used: {error}.") from error
    record = Record(
        id=given["id"],
        modality=checked_modality(given["modality"], f"Row {number} of the file"),
        text=given.get("text"),
        uri=given.get("uri"),
        mime_type=given.get("mime_type"),
        photo_id=given.get("photo_id"),
        tags=tags,
        metadata=metadata,
        digest=given.get("digest"),
        # Without a signature: the next run reads the file, and encodes nothing.
        local=LocalFile(given["root"], given["path"]) if given.get("root") and given.get("path") else None,
        origin=given.get("origin"),
        content=given.get("original"),
        thumbnail=given.get("thumbnail"),
        content_hash=given.get("content_hash") or "",
    )
    return record if record.content_hash else record.hashed()
