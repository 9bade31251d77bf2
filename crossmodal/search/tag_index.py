"""Which documents of a store match a filter, answered from columns in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.filters import (
    And,
    Exists,
    Filter,
    Not,
    OneOf,
    Or,
    Range,
    collect_values,
    field_name,
    number_of,
    tag_name,
)
from crossmodal.search.tag_column import TagColumn
from crossmodal.search.tag_fields import TagField, tag_field
from crossmodal.stores import VectorSnapshot

__all__ = ["TagIndex"]

# Below this many documents the dead ones are not worth a compaction.
_FEW_SLOTS = 1024


class TagIndex:
    """The tags and modality of every document with a vector, following a store from snapshot to snapshot.

    A document is known by the number of its row, which changes with its tags. Not safe to use from several
    threads at once.
    """

    def __init__(self) -> None:
        self._clear("")

    def _clear(self, store_id: str) -> None:
        self._store_id = store_id
        self._sequence = -1
        self._next_row = 0
        # A slot is a place in these two; columns speak of slots.
        self._rows: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._alive: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._columns: dict[str, TagColumn] = {}
        self._modality = TagColumn()
        self._fields: dict[int | None, list[TagField]] = {}
        self._slots_of: tuple[NDArray[np.uint64], NDArray[np.intp]] | None = None

    def __len__(self) -> int:
        return int(np.count_nonzero(self._alive))

    @property
    def sequence(self) -> int:
        """The sequence number of the store's commit that the index shows; -1 before the first."""
        return self._sequence

    def follow(self, snapshot: VectorSnapshot) -> None:
        """Take over the state of ``snapshot``; of a store that is still the same only what changed is read.

        After an error (``StoreFormat``) the index is empty, and the next call loads everything.
        """
        if (snapshot.store_id, snapshot.sequence) == (self._store_id, self._sequence):
            return
        died = snapshot.deaths_after(self._sequence) if snapshot.store_id == self._store_id else None
        if died is None:
            self._clear(snapshot.store_id)
        try:
            if died is not None and len(died):
                self._alive &= ~np.isin(self._rows, died)
            self._read(snapshot)
        except BaseException:
            self._clear("")
            raise
        self._slots_of = None
        self._fields = {}
        self._sequence = snapshot.sequence
        self._next_row = snapshot.next_row
        if len(self._rows) > max(_FEW_SLOTS, 2 * len(self)):
            self._compact()

    def mask(self, wanted: Filter, rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether the document of each of the living ``rows`` (n,) matches: bool (n,)."""
        return self._holds(wanted)[self._slots(rows)]

    def fields(self, limit_values: int | None = 50) -> list[TagField]:
        """Every tag that has values, in order of the names, with its ``limit_values`` most frequent ones.

        None keeps all values. A document counts once for each different element of a list.
        """
        if limit_values not in self._fields:
            found = []
            for name in sorted(self._columns, key=field_name):
                strings, numbers, booleans, count = self._columns[name].counts(self._alive)
                if count:
                    found.append(tag_field(field_name(name), count, strings, numbers, booleans, limit_values))
            # Only the last answer is kept: a page asks again and again for the same.
            self._fields = {limit_values: found}
        return list(self._fields[limit_values])

    def _read(self, snapshot: VectorSnapshot) -> None:
        first = len(self._rows)
        rows: list[int] = []
        for row, record in snapshot.documents(self._next_row):
            slot = first + len(rows)
            rows.append(row)
            self._modality.add_string(slot, record.modality)
            if record.tags:
                self._add(slot, record.tags)
        self._rows = np.concatenate([self._rows, np.array(rows, np.uint64)])
        self._alive = np.concatenate([self._alive, np.ones(len(rows), np.bool_)])

    def _add(self, slot: int, tags: Mapping[str, Any]) -> None:
        nested = {name: value for name, value in tags.items() if isinstance(value, dict | list)}
        if nested:
            found = collect_values(nested)
            if not found.keys().isdisjoint(tags.keys() - nested.keys()):
                # One name in two spellings, whose equal values must count once.
                nested, found = dict(tags), collect_values(tags)
            for name, values in found.items():
                self._column(name).add(slot, values)
        # What follows is collect_values for the usual tags, in a third of the time.
        for name, value in tags.items():
            if name in nested:
                continue
            if isinstance(value, str):
                self._column(name).add_string(slot, value)
            elif isinstance(value, bool):
                self._column(name).add_boolean(slot, value)
            elif value is not None:
                self._column(name).add_number(slot, number_of(value))

    def _column(self, name: str) -> TagColumn:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = TagColumn()
        return column

    def _holds(self, wanted: Filter) -> NDArray[np.bool_]:
        """Which slots match: bool (slots,). Those of dead documents may say anything."""
        slots = len(self._rows)
        match wanted:
            case And(parts):
                mask = np.ones(slots, np.bool_)
                for part in parts:
                    mask &= self._holds(part)
            case Or(parts):
                mask = np.zeros(slots, np.bool_)
                for part in parts:
                    mask |= self._holds(part)
            case Not(part):
                mask = ~self._holds(part)
            case OneOf() | Range() | Exists():
                tag = tag_name(wanted.field)
                column = self._modality if tag is None else self._columns.get(tag)
                if column is None:
                    mask = np.zeros(slots, np.bool_)
                elif isinstance(wanted, OneOf):
                    mask = column.equal(wanted, slots)
                elif isinstance(wanted, Range):
                    mask = column.within(wanted, slots)
                else:
                    mask = column.present(slots)
            case _:
                raise TypeError(f"{type(wanted).__name__} is no filter that parse_filter makes")
        return mask

    def _slots(self, rows: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The slot of each of ``rows``; kept, as an index asks for the same rows again and again."""
        if self._slots_of is None or self._slots_of[0] is not rows:
            order = np.argsort(self._rows)
            places = np.searchsorted(self._rows, rows, sorter=order)
            if not np.array_equal(self._rows[order[places[places < len(order)]]], rows):
                raise StoreFormat(
                    "Some vectors of the index have no document that names their row. Delete the index and "
                    "index again, or restore it from a copy."
                )
            self._slots_of = rows, np.asarray(order[places], np.intp)
        return self._slots_of[1]

    def _compact(self) -> None:
        """Forget the dead documents."""
        slots = np.cumsum(self._alive, dtype=np.int32) - np.int32(1)
        for column in (self._modality, *self._columns.values()):
            column.keep(self._alive, slots)
        self._columns = {name: column for name, column in self._columns.items() if len(column)}
        self._rows = self._rows[self._alive]
        self._alive = np.ones(len(self._rows), np.bool_)
