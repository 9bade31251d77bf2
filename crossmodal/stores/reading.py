"""What is read in a transaction, by readers and before a change alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from crossmodal.errors import StoreFormat
from crossmodal.stores.environment import Environment
from crossmodal.stores.keys import LONGEST_ID_BYTES, id_key, unpack_number
from crossmodal.stores.state import State
from crossmodal.stores.stored_document import StoredDocument

__all__ = [
    "read_dimension",
    "read_document",
    "read_documents",
    "read_number",
    "read_state",
    "walk_documents",
]


def read_state(environment: Environment, transaction: Any) -> State:
    """The counters; raises ``StoreFormat`` if they are missing or damaged."""
    value = transaction.get(b"state", db=environment.databases["meta"])
    if value is None:
        raise StoreFormat("its counters are missing")
    return State.from_bytes(value)


def read_dimension(environment: Environment, transaction: Any) -> int | None:
    """The length of each vector; None until the store has an identity or a vector."""
    value = transaction.get(b"dimension", db=environment.databases["meta"])
    return None if value is None else int(bytes(value))


def read_number(environment: Environment, transaction: Any, id: str) -> memoryview | None:
    """The number of the document ``id`` as a key; None if it isn't stored."""
    key = id_key(id)
    if not 0 < len(key) <= LONGEST_ID_BYTES:
        return None
    number: memoryview | None = transaction.get(key, db=environment.databases["ids"])
    return number


def read_document(environment: Environment, transaction: Any, id: str) -> StoredDocument | None:
    """The document ``id``, None if it isn't stored; raises ``StoreFormat`` if it is damaged or lost."""
    return read_documents(environment, transaction, (id,))[0]


def read_documents(
    environment: Environment, transaction: Any, ids: Iterable[str]
) -> list[StoredDocument | None]:
    """Each of ``ids`` as ``read_document`` reads it."""
    numbers, documents = environment.databases["ids"], environment.databases["documents"]
    found: list[StoredDocument | None] = []
    for id in ids:
        # As ``id_key``, without the call: this is what a search does most often.
        key = id.encode("utf-8", "surrogatepass")
        place = transaction.get(key, db=numbers) if 0 < len(key) <= LONGEST_ID_BYTES else None
        if place is None:
            found.append(None)
            continue
        number = int.from_bytes(place, "big")
        value = transaction.get(place, db=documents)
        if value is None:
            raise StoreFormat(f"the document {id!r}, number {number}, is missing")
        try:
            document = StoredDocument.from_bytes(number, value)
        except StoreFormat as error:
            raise StoreFormat(f"the document {id!r} cannot be read: {error}") from error
        if document.record.id != id:
            raise StoreFormat(
                f"number {number} is noted for {id!r} but is the document {document.record.id!r}"
            )
        found.append(document)
    return found


def walk_documents(environment: Environment, transaction: Any) -> Iterator[StoredDocument]:
    """All documents in the order of their numbers; raises ``StoreFormat`` at one that is damaged."""
    with transaction.cursor(environment.databases["documents"]) as cursor:
        for key, value in cursor:
            yield StoredDocument.from_bytes(unpack_number(key), value)
