"""``ingest``: documents of 50 KB with a vector each, on disk when they are acknowledged."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from bench.harness import Options, Result, at_least, compared, in_turns, timed
from bench.vectors import DIMENSION
from crossmodal.index.embedded.schema import PAGE_BYTES
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, Record, record_id

__all__ = ["run"]

_DOCUMENT_BYTES = 50_000

# What the index Flow commits at once.
_BATCH = 64

_SHARE = 0.8
_MAP_SIZE = 1 << 36


def run(options: Options) -> list[Result]:
    """Durable documents/s of the store against bare tables and bare LMDB with the same bytes and commits."""
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
                "sqlite": lambda: measured_in(_sqlite),
                "lmdb": lambda: measured_in(_lmdb),
            },
            until=options.until(),
        )
    return [
        compared(
            "ingest",
            "documents/s",
            rounds["store"].rate(),
            "SQLite alone, same batches",
            rounds["sqlite"].rate(),
            goal=at_least(_SHARE),
        ),
        compared(
            "ingest, against LMDB",
            "documents/s",
            rounds["store"].rate(),
            "LMDB alone, same batches",
            rounds["lmdb"].rate(),
            note="which writes once what SQLite writes to its log and then to its file",
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
    with EmbeddedStore.open_writer(folder) as store:
        return timed(lambda: [store.put(records, vectors) for records in prepared])


def _keys(contents: list[bytes], batches: int) -> list[list[bytes]]:
    return [
        [record_id(f"{number}/{row}").encode() for row in range(len(contents))] for number in range(batches)
    ]


def _sqlite(folder: Path, contents: list[bytes], vectors: NDArray[np.float32], batches: int) -> float:
    folder.mkdir()
    with closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE documents (row INTEGER PRIMARY KEY, id BLOB UNIQUE, content BLOB)")
        connection.execute("CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB)")

        def write() -> None:
            for batch in _keys(contents, batches):
                with connection:
                    connection.execute("BEGIN")
                    connection.executemany(
                        "INSERT INTO documents (id, content) VALUES (?, ?)", zip(batch, contents, strict=True)
                    )
                    connection.executemany(
                        "INSERT INTO vectors (vector) VALUES (?)", [(row.tobytes(),) for row in vectors]
                    )

        return timed(write)


def _lmdb(folder: Path, contents: list[bytes], vectors: NDArray[np.float32], batches: int) -> float:
    folder.mkdir()
    with lmdb.open(str(folder), map_size=_MAP_SIZE, max_dbs=2) as environment:
        documents, rows = environment.open_db(b"documents"), environment.open_db(b"vectors")

        def write() -> None:
            for batch in _keys(contents, batches):
                with environment.begin(write=True) as transaction:
                    for key, content, vector in zip(batch, contents, vectors, strict=True):
                        transaction.put(key, content, db=documents)
                        transaction.put(key, vector.tobytes(), db=rows)

        return timed(write)


def _on_disk(options: Options) -> Path:
    """The workspace folder, because /tmp may be memory, where nothing is ever synced."""
    options.workspace.mkdir(parents=True, exist_ok=True)
    return options.workspace
