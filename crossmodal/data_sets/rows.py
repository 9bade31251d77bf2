"""The rows of a CSV or JSONL file as dictionaries, one at a time, with the line that each begins on.

A row that cannot be used is a failure, and the rows after it are read."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal.data_sets.text_lines import Encoding, Line, encoding_of, read_lines
from crossmodal.data_sets.values import has_lone_surrogate, json_kind
from crossmodal.errors import DataError, DataSetError
from crossmodal.limits import CSV_LINE, CSV_ROW
from crossmodal.records import Failure

__all__ = [
    "CAPTION_COLUMNS",
    "IMAGE_COLUMNS",
    "Row",
    "caption_column",
    "csv_rows",
    "image_column",
    "jsonl_rows",
]

# In this order: of two columns that both fit, the earlier name wins and the other becomes a tag.
IMAGE_COLUMNS = (
    "image", "image_path", "path", "file_path", "filepath", "filename", "file_name", "file", "image_file",
    "image_name", "uri", "url", "image_uri", "image_url", "photo", "img",
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences", "description", "comment")
_DELIMITERS = (",", ";", "\t", "|")


def image_column(names: Iterable[str]) -> str | None:
    """The name, as it is spelled in ``names``, of the column that holds a photo's path or URI."""
    return _first_known(names, IMAGE_COLUMNS)


def caption_column(names: Iterable[str]) -> str | None:
    """The name, as it is spelled in ``names``, of the column that holds a caption."""
    return _first_known(names, CAPTION_COLUMNS)


def _first_known(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    spellings = {
        name.strip().lower().replace("-", "_").replace(" ", "_"): name for name in reversed(list(names))
    }
    return next((spellings[name] for name in known if name in spellings), None)


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row by column name, and the ``line`` (from 1) that it begins on."""

    line: int
    cells: dict[str, Any]


def csv_rows(path: Path, encoding: Encoding | None = None) -> Iterator[Row | Failure]:
    """Yields the rows below the header of a CSV file; its delimiter is a comma, semicolon, tab or bar.

    Every cell is text, with its backslashes; ``encoding`` is that of the file where it is known. A row that
    cannot be used (too many or too few columns, bytes that are no characters, a quotation mark without its
    partner) is a failure, and reading goes on at the next line. Blank lines are passed over. Raises
    DataSetError for a file without a usable header.
    """
    encoding = encoding or encoding_of(path)
    source = _PushBack(read_lines(path, CSV_LINE.most, encoding))
    header, delimiter = _header(path, source)
    while (first := source.next()) is not None:
        where = f"{path}, line {first.number}"
        try:
            cells = _csv_cells(first, source, delimiter)
            if not any(cell.strip() for cell in cells):
                continue
            _check_unicode(cells, encoding)
            if len(cells) != len(header):
                hint = (
                    "; a caption with a comma needs quotation marks around it"
                    if len(cells) > len(header)
                    else ""
                )
                raise DataError(
                    f"the row has {len(cells)} columns, and the header has {len(header)} "
                    f"({', '.join(header)}){hint}"
                )
        except DataError as error:
            yield Failure(where, str(error))
            continue
        yield Row(first.number, dict(zip(header, cells, strict=True)))


def jsonl_rows(
    path: Path, max_line_characters: int, encoding: Encoding | None = None
) -> Iterator[Row | Failure]:
    """Yields the objects of a file that holds one JSON object a line; keys are the columns.

    A line that is no such object is a failure, and reading goes on at the next one. Raises DataSetError
    where the file cannot be read.
    """
    encoding = encoding or encoding_of(path)
    for line in read_lines(path, max_line_characters, encoding):
        if not line.text.strip():
            continue
        try:
            yield Row(line.number, _json_object(line, encoding))
        except DataError as error:
            yield Failure(f"{path}, line {line.number}", str(error))


class _PushBack:
    """Lines that can be given back, so that reading can go on after a row that went wrong."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._returned: deque[Line] = deque()

    def next(self) -> Line | None:
        return self._returned.popleft() if self._returned else next(self._lines, None)

    def give_back(self, lines: list[Line]) -> None:
        self._returned.extendleft(reversed(lines))


def _header(path: Path, source: _PushBack) -> tuple[list[str], str]:
    first = source.next()
    while first is not None and not first.text.strip():
        first = source.next()
    if first is None:
        raise DataSetError(f"{path} is empty: its first line must name the columns, such as image,caption")
    if first.too_long:
        raise DataSetError(
            f"{path} is not a table: its first line has more than {CSV_LINE.most:,} characters"
        )
    for delimiter in _DELIMITERS:
        names = [name.strip() for name in next(csv.reader([first.text], delimiter=delimiter), [])]
        names = [name or f"column_{number}" for number, name in enumerate(names, start=1)]
        if image_column(names) is None:
            continue
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataSetError(f"{path} has more than one column named {', '.join(repeated)}")
        return names, delimiter
    found = first.text.strip()[:200]
    raise DataSetError(
        f"{path} has no column for the photos: its first line is {found!r}, and it must name one of "
        f"{', '.join(IMAGE_COLUMNS)} (and for captions one of {', '.join(CAPTION_COLUMNS)})"
    )


def _csv_cells(first: Line, source: _PushBack, delimiter: str) -> list[str]:
    """The cells of the row that begins with ``first``; reads on where quotation marks span lines."""
    taken: list[Line] = []
    unclosed = False

    def lines() -> Iterator[str]:
        nonlocal unclosed
        yield first.text
        while len(taken) < CSV_ROW.most and (line := source.next()) is not None:
            taken.append(line)
            yield line.text
        unclosed = True

    if first.too_long:
        raise DataError(f"the line has more than {CSV_LINE.most:,} characters")
    try:
        cells = next(csv.reader(lines(), delimiter=delimiter), [])
    except csv.Error as error:
        source.give_back(taken)
        raise DataError(f"the row is not CSV: {error} (a long data: URI needs a JSONL file)") from None
    if unclosed:
        source.give_back(taken)
        raise DataError("a quotation mark opens and is never closed")
    return cells


def _check_unicode(cells: list[str], encoding: Encoding) -> None:
    for cell in cells:
        if has_lone_surrogate(cell):
            raise DataError(f"the row is not valid {encoding.label}: {cell[:200]}")


def _json_object(line: Line, encoding: Encoding) -> dict[str, Any]:
    if line.too_long:
        raise DataError("the line is longer than a photo of the largest allowed size would make it")
    if has_lone_surrogate(line.text):
        raise DataError(f"the line is not valid {encoding.label}: {line.text.strip()[:200]}")
    try:
        value = json.loads(line.text.strip(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DataError(f"the line is not JSON: {error.msg} at character {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line is not JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"the line is not a JSON object but {json_kind(value)}")
    if has_lone_surrogate(value):
        raise DataError("the line has an escape that is half a surrogate pair, which is not a character")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
