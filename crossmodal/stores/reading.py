"""What is read in a transaction, by readers and before a change alike."""

from __future__ import annotations

from typing import Any

from crossmodal.errors import StoreFormat
from crossmodal.stores.environment import Environment
from crossmodal.stores.state import State
from crossmodal.stores.stored_document import StoredDocument

__all__ = ["LONGEST_ID_BYTES", "document_key", "read_dimension", "read_document", "read_state", "usable_key"]

# LMDB's own limit for a key (MDB_MAXKEYSIZE).
LONGEST_ID_BYTES = 511


def document_key(id: str) -> bytes:
    """The key of a document in LMDB."""
    return id.encode("utf-8", "surrogatepass")


def usable_key(id: str) -> bool:
    """Whether LMDB can have ``id`` as a key: 1 to 511 bytes of UTF-8."""
    return 0 < len(document_key(id)) <= LONGEST_ID_BYTES


def read_state(environment: Environment, transaction: Any) -> State:
    """The counters; raises ``StoreFormat`` if they are missing or damaged."""
    value = transaction.get(b"state", db=environment.database("meta"))
    if value is None:
        raise StoreFormat("its counters are missing")
    return State.from_bytes(value)


def read_dimension(environment: Environment, transaction: Any) -> int | None:
    """The length of each vector; None until the store has an identity or a vector."""
    value = transaction.get(b"dimension", db=environment.database("meta"))
    return None if value is None else int(bytes(value))


def read_document(environment: Environment, transaction: Any, id: str) -> StoredDocument | None:
    """The document ``id``, None if it isn't stored; raises ``StoreFormat`` if it is damaged."""
    if not usable_key(id):
        return None
    value = transaction.get(document_key(id), db=environment.database("documents"))
    return None if value is None else StoredDocument.from_bytes(id, value)
