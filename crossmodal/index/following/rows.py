"""Reads the rows of an index that a vector database is to hold, and those that a search looks at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreDamaged, StoreFormat
from crossmodal.filters import Filter
from crossmodal.index.embedded.compared import EXTRA, compared
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.embedded.stored_document import checksum, document_in_row
from crossmodal.index.embedded.vector_source import VectorBlock, VectorSnapshot
from crossmodal.index.following.conditions import numbers_of, values_of
from crossmodal.index.following.database import Row

__all__ = ["Candidates", "candidates", "fitting", "later_rows", "rows_to_write"]

# Unit vectors in float32 are as long as this.
_LENGTH_TOLERANCE = 1e-3

# Values of one statement; SQLite before 3.32 takes 999.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Candidates:
    """Living rows with their ``ids`` and what is compared of them, float32 (n, dimension + EXTRA)."""

    rows: Sequence[int]
    ids: Sequence[str]
    vectors: NDArray[np.float32]


def rows_to_write(snapshot: VectorSnapshot, block: VectorBlock) -> list[Row]:
    """The rows of ``block`` as a database stores them.

    Raises StoreDamaged at a damaged document, StoreFormat at a vector that is not of length 1.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", block.vectors, block.vectors, dtype=np.float64))
    if (odd := np.flatnonzero(np.abs(lengths - 1) > _LENGTH_TOLERANCE)).size:
        raise StoreFormat(
            f"The vector of {block.ids[odd[0]]!r} has the length {lengths[odd[0]]:.4g}; a vector database "
            "compares by angle, which says the same only for vectors of length 1. Search without --backend."
        )
    rows = []
    for row, vector in zip(block.rows.tolist(), compared(block.vectors, block.hubness), strict=True):
        tags = _tags(snapshot.connection, row)
        rows.append(Row(row, vector, values_of(tags), *numbers_of(tags)))
    return rows


def candidates(snapshot: VectorSnapshot, rows: Sequence[int]) -> Candidates:
    """Those of ``rows`` that are alive, by their row; raises StoreDamaged at a damaged one."""
    table = vector_table(snapshot.source.modality)
    length = 4 * (snapshot.dimension or 0)
    alive, ids, vectors, hubness = list[int](), list[str](), list[bytes](), list[float]()
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        listed = ", ".join("?" * len(part))
        select = (
            f"SELECT row, id, vector, checksum, hubness FROM {table} WHERE row IN ({listed}) ORDER BY row"
        )
        for row, id, vector, known, own in snapshot.connection.execute(select, part):
            if len(vector) != length or checksum(vector, row) != known:
                raise StoreDamaged("vector", id, row, modality=snapshot.source.modality)
            alive.append(row)
            ids.append(id)
            vectors.append(vector)
            hubness.append(own)
    rows_of_vectors = np.frombuffer(b"".join(vectors), "<f4").reshape(len(ids), snapshot.dimension or 0)
    return Candidates(alive, ids, compared(rows_of_vectors, np.array(hubness, np.float32)))


def later_rows(snapshot: VectorSnapshot, first_row: int) -> Candidates:
    """All rows from ``first_row`` on; raises StoreDamaged at a damaged one."""
    blocks = list(snapshot.blocks(first_row))
    if not blocks:
        return Candidates([], [], np.empty((0, (snapshot.dimension or 0) + EXTRA), np.float32))
    return Candidates(
        [row for block in blocks for row in block.rows.tolist()],
        [id for block in blocks for id in block.ids],
        np.concatenate([compared(block.vectors, block.hubness) for block in blocks]),
    )


def fitting(snapshot: VectorSnapshot, found: Candidates, filter: Filter | None) -> Candidates:
    """Those whose tags fulfil ``filter``: by the index, whatever a database said."""
    if filter is None:
        return found
    kept = [place for place, row in enumerate(found.rows) if _fits(snapshot, row, filter)]
    return Candidates(
        [found.rows[place] for place in kept], [found.ids[place] for place in kept], found.vectors[kept]
    )


def _fits(snapshot: VectorSnapshot, row: int, filter: Filter) -> bool:
    if (document := document_in_row(snapshot.connection, row)) is None:
        return filter.matches(snapshot.source.modality, {})
    record = document.record
    return filter.matches(snapshot.source.modality, record.all_tags, {record.id, record.photo_id})


def _tags(connection: Connection, row: int) -> dict[str, object]:
    document = document_in_row(connection, row)
    return {} if document is None else dict(document.record.all_tags)
