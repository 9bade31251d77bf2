"""The values that a store's documents have under one name, in columns."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.filters import COMPARISONS, OneOf, Range, TagValues

__all__ = ["TagColumn"]


class TagColumn:
    """Which of the numbered documents have which values: pairs of a slot and a value for each kind.

    A slot is a document's place in the ``TagIndex``. A pair takes 8 bytes for a string, besides each distinct
    string once, 12 for a number and 4 for a boolean.
    """

    __slots__ = (
        "_bare",
        "_codes",
        "_false",
        "_number_slots",
        "_numbers",
        "_string_codes",
        "_string_slots",
        "_true",
    )

    def __init__(self) -> None:
        # Growable and compact; views of them must be gone before they grow.
        self._codes: dict[str, int] = {}
        self._string_slots = array("i")
        self._string_codes = array("i")
        self._number_slots = array("i")
        self._numbers = array("d")
        self._true = array("i")
        self._false = array("i")
        # Documents that have the name, but none of these kinds under it.
        self._bare = array("i")

    def add(self, slot: int, values: TagValues) -> None:
        """Note all that one document has under this name."""
        for string in values.strings:
            self.add_string(slot, string)
        for number in values.numbers:
            self.add_number(slot, number)
        for boolean in values.booleans:
            self.add_boolean(slot, boolean)
        if not (values.strings or values.numbers or values.booleans):
            self._bare.append(slot)

    def add_string(self, slot: int, value: str) -> None:
        """Note one string of a document."""
        self._string_slots.append(slot)
        self._string_codes.append(self._codes.setdefault(value, len(self._codes)))

    def add_number(self, slot: int, value: float) -> None:
        """Note one number of a document."""
        self._number_slots.append(slot)
        self._numbers.append(value)

    def add_boolean(self, slot: int, value: bool) -> None:
        """Note one boolean of a document."""
        (self._true if value else self._false).append(slot)

    def equal(self, wanted: OneOf, slots: int) -> NDArray[np.bool_]:
        """Which documents have one of the wanted values: bool (slots,)."""
        mask = np.zeros(slots, np.bool_)
        codes = [self._codes[string] for string in wanted.strings if string in self._codes]
        if codes:
            mask[_view(self._string_slots)[_is_in(_view(self._string_codes), codes)]] = True
        if wanted.numbers:
            mask[_view(self._number_slots)[_is_in(_view(self._numbers), list(wanted.numbers))]] = True
        for boolean in wanted.booleans:
            mask[_view(self._true if boolean else self._false)] = True
        return mask

    def within(self, wanted: Range, slots: int) -> NDArray[np.bool_]:
        """Which documents have a value on that side of the bound: bool (slots,)."""
        mask = np.zeros(slots, np.bool_)
        compare, bound = COMPARISONS[wanted.operator], wanted.bound
        if isinstance(bound, str):
            fitting = np.fromiter(
                (compare(string, bound) for string in self._codes), np.bool_, len(self._codes)
            )
            mask[_view(self._string_slots)[fitting[_view(self._string_codes)]]] = True
        else:
            mask[_view(self._number_slots)[compare(_view(self._numbers), bound)]] = True
        return mask

    def present(self, slots: int) -> NDArray[np.bool_]:
        """Which documents have the name: bool (slots,)."""
        mask = np.zeros(slots, np.bool_)
        for part in (self._string_slots, self._number_slots, self._true, self._false, self._bare):
            mask[_view(part)] = True
        return mask

    def counts(
        self, alive: NDArray[np.bool_]
    ) -> tuple[dict[str, int], dict[float, int], dict[bool, int], int]:
        """How many living documents have each string, each number and each boolean, and any of them.

        ``alive`` is bool (slots,). Numbers that JSON cannot write (NaN and the infinite) are left out.
        """
        strings = np.bincount(
            _view(self._string_codes)[alive[_view(self._string_slots)]], minlength=len(self._codes)
        )
        living = _view(self._numbers)[alive[_view(self._number_slots)]]
        numbers, times = np.unique(living[np.isfinite(living)], return_counts=True)
        booleans = {
            value: int(np.count_nonzero(alive[_view(part)]))
            for value, part in ((False, self._false), (True, self._true))
        }
        mask = np.zeros(len(alive), np.bool_)
        for part in (self._string_slots, self._number_slots, self._true, self._false):
            mask[_view(part)] = True
        return (
            {string: count for string, count in zip(self._codes, strings.tolist(), strict=True) if count},
            dict(zip(numbers.tolist(), times.tolist(), strict=True)),
            {value: count for value, count in booleans.items() if count},
            int(np.count_nonzero(mask & alive)),
        )

    def keep(self, alive: NDArray[np.bool_], slots: NDArray[np.int32]) -> None:
        """Forget the documents that are not ``alive`` (slots,) and move the others to their new ``slots``."""
        kept = alive[_view(self._string_slots)]
        used, codes = np.unique(_view(self._string_codes)[kept], return_inverse=True)
        wanted = set(used.tolist())
        strings = [string for string, code in self._codes.items() if code in wanted]
        self._string_codes = _array("i", codes.astype(np.int32))
        self._string_slots = _array("i", slots[_view(self._string_slots)[kept]])
        self._codes = {string: code for code, string in enumerate(strings)}
        kept = alive[_view(self._number_slots)]
        self._numbers = _array("d", _view(self._numbers)[kept])
        self._number_slots = _array("i", slots[_view(self._number_slots)[kept]])
        for name in ("_true", "_false", "_bare"):
            part = _view(getattr(self, name))
            setattr(self, name, _array("i", slots[part[alive[part]]]))

    def __len__(self) -> int:
        return sum(map(len, (self._string_slots, self._number_slots, self._true, self._false, self._bare)))


def _view(values: array[Any]) -> NDArray[Any]:
    """The numbers of ``values`` without a copy."""
    return np.asarray(values)


def _array(code: str, values: NDArray[Any]) -> array[Any]:
    return array(code, values.tobytes())


def _is_in(values: NDArray[Any], wanted: list[Any]) -> NDArray[np.bool_]:
    if len(wanted) == 1:
        found: NDArray[np.bool_] = values == wanted[0]
        return found
    return np.isin(values, wanted)
