"""Where originals and thumbnails lie: in the rows of the index, or in an object store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

__all__ = ["ObjectGone", "ObjectStorage", "Reference", "RowStorage", "Stored", "is_reference", "size_of"]

# What a row of the index holds: the bytes themselves, or the text of a ``Reference``.
Stored = bytes | str

# With a size of up to twenty digits.
_LONGEST = 102

_WRITTEN = re.compile(r"([0-9a-f]{16})/([0-9a-f]{64}):([0-9]+)")


class ObjectGone(Exception):
    """An object store has nothing under a reference, or has other bytes there."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Bytes in an object store, by their content: ``digest`` is their SHA-256, ``size`` their number.

    ``folder`` is that of the index that wrote them; ``str`` gives what stands in a row.
    """

    folder: str
    digest: str
    size: int

    @classmethod
    def to(cls, content: bytes, folder: str) -> Reference:
        """The reference to ``content`` in a folder."""
        return cls(folder, sha256(content).hexdigest(), len(content))

    @classmethod
    def of(cls, text: str) -> Reference:
        """The reverse of ``str``; raises ObjectGone for a text that is none."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise ObjectGone(f"{text[:80]!r} is no reference")
        return cls(found[1], found[2], int(found[3]))

    def __str__(self) -> str:
        return f"{self.folder}/{self.digest}:{self.size}"


def is_reference(held: bytes) -> bool:
    """Whether bytes are the text of a ``Reference``, as no photo is."""
    return len(held) <= _LONGEST and _WRITTEN.fullmatch(held.decode("ascii", "replace")) is not None


def size_of(stored: Stored) -> int:
    """The number of the bytes that are stored; raises ObjectGone for a text that is no reference."""
    return len(stored) if isinstance(stored, bytes) else Reference.of(stored).size


class ObjectStorage(Protocol):
    """Bytes that are safe once ``put`` has returned. Safe to use from several threads.

    ``get`` gives back what ``put`` was given, or raises ObjectGone. ``list`` gives what there is, with
    ``start`` that of which the digest begins with these two digits, and ``delete`` removes some of it. All
    may raise ObjectsUnavailable.
    """

    def put(self, contents: Sequence[bytes]) -> list[Stored]: ...

    def get(self, stored: Stored) -> bytes: ...

    def list(self, start: str = "") -> set[str]: ...

    def delete(self, stored: Sequence[str]) -> None: ...


class RowStorage:
    """Bytes in the rows themselves, which come and go with them."""

    def put(self, contents: Sequence[bytes]) -> list[Stored]:
        """The bytes as they are."""
        return [*contents]

    def get(self, stored: Stored) -> bytes:
        """The bytes as they are."""
        if isinstance(stored, str):
            raise ObjectGone("a reference stands in the place of bytes")
        return stored

    def list(self, start: str = "") -> set[str]:
        """Nothing: what no row has isn't there."""
        return set()

    def delete(self, stored: Sequence[str]) -> None:
        """Nothing is left to delete."""
