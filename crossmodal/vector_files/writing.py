"""Vectors into a folder, part by part, so that what was written before stays and needs no encoding again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import DataSetError, StoreUnwritable
from crossmodal.extras import extra_for
from crossmodal.models.identity import ModelIdentity
from crossmodal.private_files import make_private_folder, private_opener
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.vector_files.reading import CAPTIONS, IMAGE_VECTORS, METADATA, MODEL_KEY, TEXT_VECTORS

if TYPE_CHECKING:
    import pyarrow

__all__ = ["VectorWriter"]

# Documents of one part: a run that is killed loses fewer than these.
_PART = 10_000

_COLUMNS = ("id", "modality", "photo_id", "image_path", "caption", "mime_type", "sha256", "tags", "metadata")

Item = tuple[Record, NDArray[np.float32]]


class VectorWriter:
    """Writes vectors of the model ``identity`` into ``folder``, which may have parts of an earlier run.

    A part counts once its last file is there, so that a crash leaves whole parts behind.
    Close it. Raises DataSetError where the folder holds something else, StoreUnwritable, MissingExtra without
    pyarrow.
    """

    def __init__(self, folder: Path, format: str, identity: ModelIdentity) -> None:
        with extra_for("Writing Parquet"):
            import pyarrow.parquet  # noqa: F401
        self._folder, self._identity = folder, identity
        self._waiting: dict[Modality, list[Item]] = {IMAGE: [], TEXT: []}
        self._write = {"npy": self._write_npy, "parquet": self._write_parquet}[format]
        other = folder / IMAGE_VECTORS if format == "parquet" else None
        strange = [other] if other is not None and other.exists() else []
        strange += list(folder.glob("*.parquet")) if format == "npy" else []
        if strange:
            raise DataSetError(
                f"{folder} holds vectors in another format ({strange[0].name}); choose another folder."
            )
        kinds = ((IMAGE, folder / METADATA), (TEXT, folder / CAPTIONS / METADATA))
        self._parts: dict[Modality, int] = {}
        self._known: set[tuple[Modality, str]] = set()
        for modality, described in kinds if format == "npy" else ((IMAGE, folder),):
            numbers = [self._take_up(part) for part in sorted(described.glob("*.parquet"))]
            self._parts[modality] = max(numbers, default=-1) + 1

    def __contains__(self, record: object) -> bool:
        """Whether a record of that modality and id is there, or waits to be written."""
        return isinstance(record, Record) and (record.modality, record.id) in self._known

    def add(self, record: Record, vector: NDArray[np.float32]) -> None:
        """Takes a document in; it is on disk at the latest after ``close``."""
        if record in self:
            return
        self._known.add((record.modality, record.id))
        waiting = self._waiting[record.modality]
        waiting.append((record, vector))
        if len(waiting) >= _PART:
            self._flush()

    def close(self) -> None:
        """Writes what waits."""
        self._flush()

    def _flush(self) -> None:
        if any(self._waiting.values()):
            try:
                self._write()
            except OSError as error:
                raise StoreUnwritable(f"{self._folder} cannot be written ({error.strerror}).") from error
        self._waiting = {IMAGE: [], TEXT: []}

    def _write_npy(self) -> None:
        for modality, folder, name in (
            (IMAGE, self._folder, IMAGE_VECTORS),
            (TEXT, self._folder / CAPTIONS, TEXT_VECTORS),
        ):
            if items := self._waiting[modality]:
                number = self._parts[modality]
                vectors = np.stack([vector for _, vector in items])
                _write_file(folder / name / f"{name}_{number}.npy", partial(np.save, arr=vectors))
                self._write_table(folder / METADATA / f"{METADATA}_{number}.parquet", items)
                self._parts[modality] = number + 1

    def _write_parquet(self) -> None:
        items = [*self._waiting[IMAGE], *self._waiting[TEXT]]
        self._write_table(self._folder / f"{self._parts[IMAGE]:05d}.parquet", items, with_vectors=True)
        self._parts[IMAGE] += 1

    def _write_table(self, path: Path, items: Sequence[Item], *, with_vectors: bool = False) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        rows = [_row(record) | ({"vector": vector} if with_vectors else {}) for record, vector in items]
        fields = [(name, pa.string()) for name in _COLUMNS]
        if with_vectors:
            fields.append(("vector", pa.list_(pa.float32(), self._identity.dimension)))
        schema = pa.schema(fields, {MODEL_KEY: json.dumps(self._identity.to_json())})
        table: pyarrow.Table = pa.Table.from_pylist(rows, schema=schema)
        _write_file(path, lambda file: parquet.write_table(table, file))

    def _take_up(self, part: Path) -> int:
        """Notes what is in a part; returns its number."""
        from pyarrow import ArrowException, parquet

        try:
            table = parquet.read_table(part, columns=["modality", "id"])
            held = ModelIdentity.from_json(json.loads((table.schema.metadata or {})[MODEL_KEY]))
        except (OSError, ArrowException, KeyError, ValueError):
            raise DataSetError(
                f"{part} was not written by `crossmodal embed`, which adds to what it wrote only; choose "
                "another folder."
            ) from None
        if held != self._identity:
            raise DataSetError(
                f"{self._folder} holds vectors of {held}, not of {self._identity}; choose another folder."
            )
        columns = table.to_pydict()
        self._known.update(zip(columns["modality"], columns["id"], strict=True))
        return int(part.stem.rpartition("_")[2])


def _row(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "modality": record.modality,
        "photo_id": record.photo_id,
        "image_path": _utf8(record.uri),
        "caption": _utf8(record.text),
        "mime_type": record.mime_type,
        "sha256": record.digest,
        "tags": _json(record.tags),
        "metadata": _json(record.metadata),
    }


def _utf8(text: str | None) -> str | None:
    """``text`` as Parquet's strings can hold it, with a question mark for each half of a character."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _json(values: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(values)) if values else None


def _write_file(path: Path, write: Callable[[Any], object]) -> None:
    """Makes the file whole or not at all."""
    make_private_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with open(unfinished, "wb", opener=private_opener) as file:
        write(file)
    unfinished.replace(path)
