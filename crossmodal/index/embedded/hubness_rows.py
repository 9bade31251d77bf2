"""The hubness of each document, stored beside its vector, and the banks that it is computed with.

An index has a copy of its model's banks, so that it needs no model to take over a document with its vector:
one of a dump, of the trash, of an older format. Without banks every hubness is 0, and documents are ranked
by their cosines.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

import numpy as np

from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.schema import vector_table
from crossmodal.models.hubness import Banks
from crossmodal.records import MODALITIES, Modality

__all__ = ["banks_fingerprint", "banks_in", "hubness_of", "take_banks"]

# Rows whose hubness is computed at once: 2 MiB at 512 dimensions.
_ROWS = 1024

# The banks that were read last: each batch of documents needs them.
_READ: dict[str, Banks] = {}
_READ_AT_MOST = 4
_reading = threading.Lock()


def banks_fingerprint(connection: Connection) -> str:
    """Which banks the index has, as in ``ModelIdentity.hubness``; empty where it has none."""
    found = connection.execute("SELECT fingerprint FROM banks").fetchone()
    return "" if found is None else str(found[0])


def banks_in(connection: Connection) -> Banks | None:
    """The banks of the index; None where it has none. Raises ModelError where they are damaged."""
    fingerprint = banks_fingerprint(connection)
    if not fingerprint:
        return None
    with _reading:
        if fingerprint not in _READ:
            (content,) = connection.execute("SELECT content FROM banks").fetchone()
            while len(_READ) >= _READ_AT_MOST:
                del _READ[next(iter(_READ))]
            _READ[fingerprint] = Banks.from_bytes(content)
        return _READ[fingerprint]


def hubness_of(banks: Banks | None, vectors: Sequence[bytes], modality: Modality) -> list[float]:
    """The hubness of documents of ``modality`` with the stored ``vectors``."""
    rows = [np.frombuffer(vector, "<f4") for vector in vectors]
    if banks is None or not rows or len(rows[0]) != banks.dimension:
        return [0.0] * len(rows)
    found: list[float] = banks.hubness(np.stack(rows), modality).tolist()
    return found


def take_banks(connection: Connection, banks: Banks) -> int:
    """Gives the index ``banks`` in the place of those it has; returns for how many documents.

    Their hubness is computed from their vectors; the index then has another id, so that no search goes on
    with what it knows.
    """
    connection.execute("DELETE FROM banks")
    connection.execute("INSERT INTO banks VALUES (?, ?)", (banks.fingerprint, banks.to_bytes()))
    done = 0
    for modality in MODALITIES:
        table, last = vector_table(modality), -1
        select = f"SELECT row, vector FROM {table} WHERE row > ? ORDER BY row LIMIT {_ROWS}"
        while part := connection.execute(select, (last,)).fetchall():
            # A damaged vector may have any length; it is found when it is read.
            whole = [(row, vector) for row, vector in part if len(vector) == 4 * banks.dimension]
            hubness = hubness_of(banks, [vector for _, vector in whole], modality)
            rows = [(value, row) for value, (row, _) in zip(hubness, whole, strict=True)]
            connection.executemany(f"UPDATE {table} SET hubness = ? WHERE row = ?", rows)
            last, done = part[-1][0], done + len(rows)
    if done:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'id'", (uuid.uuid4().hex,))
        connection.execute("UPDATE state SET sequence = sequence + 1")
    return done
