"""The order of ids that people expect: ``42-2`` before ``42-10``."""

from __future__ import annotations

import re

__all__ = ["natural_order", "natural_sorted"]

_DIGITS = re.compile(r"([0-9]+)")


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
