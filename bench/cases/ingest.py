"""``ingest``: documents of 50 KB with a vector each, on disk when they are acknowledged."""

from __future__ import annotations

import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from bench.harness import Options, Result, at_least, compared, in_turns, timed
from bench.vectors import DIMENSION
from crossmodal.records import IMAGE, Record, record_id
from crossmodal.stores import Store

__all__ = ["run"]

_DOCUMENT_BYTES = 50_000

# What the index Flow commits at once.
_BATCH = 64

_SHARE = 0.8
_MAP_SIZE = 1 << 36


def run(options: Options) -> list[Result]:
    """Durable documents/s of the store against LMDB alone with the same bytes, vectors and commits."""
    batches = 8 if options.quick else 48
    random = np.random.default_rng(0)
    contents = [random.bytes(_DOCUMENT_BYTES) for _ in range(_BATCH)]
    vectors = random.standard_normal((_BATCH, DIMENSION), np.float32)
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_on_disk(options)) as name:

        def measured_in(write: Any) -> float:
            folder = Path(name) / f"{next(numbers)}"
            try:
                return float(write(folder, contents, vectors, batches)) / (batches * _BATCH)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        rounds = in_turns(
            {
                "store": lambda: measured_in(_store),
                "lmdb": lambda: measured_in(_lmdb_by_id),
                "appended": lambda: measured_in(_lmdb_appended),
            },
            until=options.until(),
        )
    return [
        compared(
            "ingest",
            "documents/s",
            rounds["store"].rate(),
            "LMDB alone, same batches",
            rounds["lmdb"].rate(),
            goal=at_least(_SHARE),
            note="by the documents' ids, which a store has to find them by",
        ),
        compared(
            "ingest, against appending",
            "documents/s",
            rounds["store"].rate(),
            "LMDB alone, same batches, ascending numbers for keys",
            rounds["appended"].rate(),
            note="what no document can be found in by its id",
        ),
    ]


def _store(folder: Path, contents: list[bytes], vectors: NDArray[np.float32], batches: int) -> float:
    prepared = [
        [
            Record(
                record_id(f"{number}/{row}"), IMAGE, uri=f"/photos/{number}/{row}.jpg", content=content
            ).hashed()
            for row, content in enumerate(contents)
        ]
        for number in range(batches)
    ]
    with Store.open_writer(folder) as store:
        return timed(lambda: [store.put(records, vectors) for records in prepared])


def _lmdb_by_id(folder: Path, contents: list[bytes], vectors: NDArray[np.float32], batches: int) -> float:
    keys = [
        [record_id(f"{number}/{row}").encode() for row in range(len(contents))] for number in range(batches)
    ]
    return _lmdb(folder, keys, contents, vectors, append=False)


def _lmdb_appended(folder: Path, contents: list[bytes], vectors: NDArray[np.float32], batches: int) -> float:
    size = len(contents)
    keys = [[(number * size + row).to_bytes(8, "big") for row in range(size)] for number in range(batches)]
    return _lmdb(folder, keys, contents, vectors, append=True)


def _lmdb(
    folder: Path,
    keys: list[list[bytes]],
    contents: list[bytes],
    vectors: NDArray[np.float32],
    *,
    append: bool,
) -> float:
    folder.mkdir()
    with lmdb.open(str(folder), map_size=_MAP_SIZE, max_dbs=2) as environment:
        documents, rows = environment.open_db(b"documents"), environment.open_db(b"vectors")

        def write() -> None:
            for batch in keys:
                with environment.begin(write=True) as transaction:
                    for key, content, vector in zip(batch, contents, vectors, strict=True):
                        transaction.put(key, content, append=append, db=documents)
                        transaction.put(key, vector.tobytes(), append=append, db=rows)

        return timed(write)


def _on_disk(options: Options) -> Path:
    """The workspace folder, because /tmp may be memory, where nothing is ever synced."""
    options.workspace.mkdir(parents=True, exist_ok=True)
    return options.workspace
