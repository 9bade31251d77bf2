"""Of a CSV file, which columns hold numbers: decided by all cells of a column and not by each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crossmodal.data_sets.rows import Row
from crossmodal.data_sets.values import cell_number, printable
from crossmodal.records import Failure

__all__ = ["NumberColumns"]

_SHOWN_CHARACTERS = 40


@dataclass(slots=True)
class _Column:
    """How many cells of a column are numbers, how many are not, and the first that is not."""

    numbers: int = 0
    others: int = 0
    first_other: str = ""
    line: int = 0


class NumberColumns:
    """The columns whose cells are all numbers, those apart that are empty or ``NaN``."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}

    @classmethod
    def of(cls, rows: Iterable[Row | Failure], apart: Collection[str | None]) -> NumberColumns:
        """Reads all rows; ``apart`` are columns that are no tags. Memory holds one row."""
        columns = cls()
        for row in rows:
            if isinstance(row, Row):
                columns._add(row, apart)
        return columns

    def tags(self, cells: Mapping[str, str]) -> dict[str, Any]:
        """The cells as tags: numbers in columns of numbers, text elsewhere; none for an empty cell."""
        tags: dict[str, Any] = {}
        for name, cell in cells.items():
            column = self._columns.get(name)
            if column is None or column.others:
                if cell:
                    tags[name] = cell
            elif (number := cell_number(cell)) is not None:
                tags[name] = number
        return tags

    def notes(self, table: str) -> list[str]:
        """A sentence for each column that a few cells make one of text although most are numbers."""
        return [
            f"{table}: the column {name} is text, because {_counted(column.others)} no number, such as "
            f"{printable(column.first_other[:_SHOWN_CHARACTERS])!r} in line {column.line}; the other "
            f"{column.numbers:,} are numbers, and compare as text"
            for name, column in self._columns.items()
            if 0 < column.others < column.numbers
        ]

    def _add(self, row: Row, apart: Collection[str | None]) -> None:
        for name, cell in row.cells.items():
            if name in apart or _holds_nothing(cell):
                continue
            column = self._columns.setdefault(name, _Column())
            if cell_number(cell) is not None:
                column.numbers += 1
                continue
            if not column.others:
                column.first_other, column.line = cell, row.line
            column.others += 1


def _holds_nothing(cell: str) -> bool:
    """Whether it is empty, or NaN, which is how programs write that a number is missing."""
    text = cell.strip()
    return not text or text.lower() == "nan"


def _counted(number: int) -> str:
    return "1 cell is" if number == 1 else f"{number:,} cells are"
