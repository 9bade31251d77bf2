"""The tree ``captions`` of a store: which captions describe which photo.

A key is a photo's id, its sorted duplicates are the ids of the captions that name it as their ``photo_id``.
The photo itself lies in another store and need not exist.
"""

from __future__ import annotations

import re
from typing import Any

from crossmodal.records import TEXT, Record
from crossmodal.stores.environment import Environment
from crossmodal.stores.keys import id_key, id_of, usable_key

__all__ = ["PhotoCaptions", "described_photo", "natural_order", "natural_sorted"]

_DIGITS = re.compile(r"([0-9]+)")


def described_photo(record: Record | None) -> str | None:
    """The photo under which ``record`` is found: None for a photo, and where the name could be no id."""
    if record is None or record.modality != TEXT or record.photo_id is None:
        return None
    return record.photo_id if usable_key(record.photo_id) else None


def natural_order(id: str) -> tuple[list[str | tuple[int, str]], str]:
    """A key that sorts ``42-2`` before ``42-10``: runs of digits by their number, then by the id itself."""
    parts: list[str | tuple[int, str]] = list(_DIGITS.split(id))
    # A number's length and digits order it as its value does, without a limit to its length.
    for position in range(1, len(parts), 2):
        digits = str(parts[position]).lstrip("0")
        parts[position] = len(digits), digits
    return parts, id


def natural_sorted(ids: list[str]) -> list[str]:
    """``ids`` in their natural order."""
    if len(ids) < 2:
        return ids
    start = ids[0].rpartition("-")[0] + "-"
    numbers = [id[len(start) :] for id in ids if id.startswith(start)]
    together = "".join(numbers)
    if len(numbers) == len(ids) and together.isascii() and together.isdigit() and all(numbers):
        # As data sets number them, ten times as quick.
        return [id for _, id in sorted(zip(map(int, numbers), ids, strict=True))]
    return sorted(ids, key=natural_order)


class PhotoCaptions:
    """The tree as one transaction sees it."""

    def __init__(self, environment: Environment, transaction: Any) -> None:
        self._transaction = transaction
        self._tree = environment.databases["captions"]

    def replace(self, id: str, old: Record | None, new: Record | None) -> None:
        """Note that the document ``id`` was ``old`` and is now ``new``; None where there is none."""
        before, after = described_photo(old), described_photo(new)
        if before == after:
            return
        if before is not None:
            self._transaction.delete(id_key(before), id_key(id), db=self._tree)
        if after is not None:
            self._transaction.put(id_key(after), id_key(id), db=self._tree)

    def of(self, photo_id: str) -> list[str]:
        """The ids of the captions of ``photo_id``, in natural order."""
        if not usable_key(photo_id):
            return []
        with self._transaction.cursor(self._tree) as cursor:
            found = cursor.set_key(id_key(photo_id))
            ids = [id_of(id) for id in cursor.iternext_dup()] if found else []
        return natural_sorted(ids)

    def pairs(self) -> set[tuple[str, str]]:
        """Every photo id with each of its captions' ids."""
        with self._transaction.cursor(self._tree) as cursor:
            return {(id_of(photo_id), id_of(id)) for photo_id, id in cursor}
