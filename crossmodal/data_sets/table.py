"""A CSV or JSONL file: a photo's path or URI, a caption, and further columns that become tags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from crossmodal.data_sets.columns import NumberColumns
from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.photos import plain_path, resolve
from crossmodal.data_sets.rows import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    Row,
    caption_column,
    csv_rows,
    image_column,
    jsonl_rows,
)
from crossmodal.data_sets.text_lines import count_lines, encoding_of
from crossmodal.data_sets.values import json_value, printable, same_split
from crossmodal.errors import DataError, DataSetError
from crossmodal.records import Failure

__all__ = ["JSONL_EXTENSIONS", "TABLE_EXTENSIONS", "Table"]

JSONL_EXTENSIONS = frozenset({".jsonl", ".ndjson"})
TABLE_EXTENSIONS = JSONL_EXTENSIONS | {".csv", ".tsv", ".txt"}

# Enough rows to estimate how many captions a photo has, few enough to read at once.
_SAMPLED_ROWS = 200
_SHOWN_COLUMNS = 12


class Table(DataSet):
    """A row names a photo (relative to ``folders``) and, where the column exists, says a caption of it.

    An empty caption is none. In CSV a column is of numbers or of text as a whole (``columns``), and empty
    cells are no tag; in JSONL values stay as they are, and a caption may be a list of captions. A photo gets
    the tags of its first row, a caption those of its own row.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        folders: list[Path],
        *,
        split: str | None,
        limits: Limits,
        content: bool,
    ) -> None:
        self._jsonl = path.suffix.lower() in JSONL_EXTENSIONS
        super().__init__(name, f"{'JSONL' if self._jsonl else 'CSV'} file {path}", limits, content)
        self.path = path
        self.root = Path(plain_path(path)).parent
        self.origin = plain_path(path)
        self.folders = folders
        self._split = split
        self._encoding = encoding_of(path)
        self._column_names = self._check_first_rows()
        if split is not None:
            self._check_split(split)

    def mentions(self) -> Iterator[Mention | Failure]:
        self.notes += self._encoding_notes()
        try:
            numbers = self._number_columns()
        except DataSetError as error:
            yield Failure(str(self.path), str(error))
            return
        self.notes += numbers.notes(str(self.path))
        rows = self._rows()
        while True:
            try:
                row = next(rows, None)
            except DataSetError as error:  # the disk failed, or the file went away
                yield Failure(str(self.path), str(error))
                return
            if row is None:
                return
            if isinstance(row, Failure):
                yield row
                continue
            if self._split is not None and not same_split(row.cells.get("split"), self._split):
                continue
            where = f"{self.path}, line {row.line}"
            try:
                yield self._mention(row, where, numbers)
            except DataError as error:
                yield Failure(where, str(error))

    def columns(self) -> str:
        """Which columns are taken for what, in words."""
        image, caption = image_column(self._column_names), caption_column(self._column_names)
        tags = sorted(self._column_names - {str(image), str(caption)})
        parts = [f"photos in the column {image}", f"captions in {caption}" if caption else "no captions"]
        if tags:
            shown = ", ".join(tags[:_SHOWN_COLUMNS])
            more = f" and {len(tags) - _SHOWN_COLUMNS} more" if len(tags) > _SHOWN_COLUMNS else ""
            parts.append(f"tags in {shown}{more}")
        return printable(", ".join(parts))

    def has_rows(self) -> bool:
        """Whether there is any row below the header, usable or not."""
        return next(self._rows(), None) is not None

    def len_hint(self) -> int | None:
        if self._split is not None:
            return None
        photos: set[Any] = set()
        rows = captions = 0
        for row in islice(self._rows(), _SAMPLED_ROWS):
            if isinstance(row, Row):
                image, caption = image_column(row.cells), caption_column(row.cells)
                photos.add(str(row.cells.get(image)) if image else None)
                captions += len(_captions(row.cells.get(caption) if caption else None))
                rows += 1
        if rows == 0:
            return 0
        if rows < _SAMPLED_ROWS:
            return len(photos) + captions
        return round((count_lines(self.path) - (not self._jsonl)) * (len(photos) + captions) / rows)

    def _rows(self) -> Iterator[Row | Failure]:
        if self._jsonl:
            # A data: URI is base64, 4 characters for 3 bytes, beside captions and tags.
            longest = self.limits.max_file_bytes // 3 * 4 + (1 << 20)
            return jsonl_rows(self.path, longest, self._encoding)
        return csv_rows(self.path, self._encoding)

    def _number_columns(self) -> NumberColumns:
        """The columns of numbers; reads the table once where it has any column of tags in CSV."""
        apart = (image_column(self._column_names), caption_column(self._column_names))
        if self._jsonl or (self._column_names and self._column_names <= set(apart)):
            return NumberColumns()
        return NumberColumns.of(self._rows(), apart)

    def _encoding_notes(self) -> list[str]:
        label = self._encoding.label
        if label.startswith("UTF-8"):
            return []
        if label.startswith("UTF"):
            return [f"{self.path}: read as {label}"]
        return [
            f"{self.path}: read as {label}, because it isn't UTF-8; if letters are wrong, save it as UTF-8"
        ]

    def _check_first_rows(self) -> set[str]:
        """The columns' names, in JSONL those of the first rows; raises DataSetError for unusable ones."""
        found: set[str] = set()
        for row in islice(self._rows(), _SAMPLED_ROWS):
            if isinstance(row, Row):
                found.update(row.cells)
        if not found and self._jsonl:
            raise DataSetError(f"{self.path} has no JSON object on any of its first lines")
        if found and image_column(found) is None:
            raise DataSetError(
                f"{self.path} has no column for the photos: it has {', '.join(sorted(found))}, and "
                f"needs one of {', '.join(IMAGE_COLUMNS)} (for captions one of {', '.join(CAPTION_COLUMNS)})"
            )
        return found

    def _check_split(self, split: str) -> None:
        found: dict[str, None] = {}
        for row in self._rows():
            if isinstance(row, Row) and row.cells.get("split"):
                if same_split(row.cells["split"], split):
                    return
                found[str(row.cells["split"])] = None
        raise DataSetError(
            f"The split {split} is not in {self.path}: "
            + (f"its splits are {', '.join(found)}." if found else "it has no column named split.")
        )

    def _mention(self, row: Row, where: str, numbers: NumberColumns) -> Mention:
        image, caption = image_column(row.cells), caption_column(row.cells)
        reference = row.cells[image] if image else None
        captions = _captions(row.cells[caption] if caption else None)
        if not isinstance(reference, str) or not reference.strip():
            raise DataError(
                "caption without a photo: the row names none" if captions else "the row names no photo"
            )
        further = {key: value for key, value in row.cells.items() if key not in (image, caption)}
        if self._jsonl:
            tags = {key: json_value(value) for key, value in further.items() if value not in (None, "")}
        else:
            tags = numbers.tags(further)
        return Mention(
            self._located(reference.strip()),
            where,
            captions,
            tags,
            # A known photo's row with an empty caption and no tags has nothing that would be lost.
            sweep=caption is not None and not captions and not tags,
        )

    def _located(self, reference: str) -> str:
        """The photo that ``reference`` means; tables from Windows part folders by backslashes."""
        photo = resolve(reference, self.folders)
        if "\\" not in reference or os.path.lexists(photo):
            return photo
        with_slashes = resolve(reference.replace("\\", "/"), self.folders)
        return with_slashes if os.path.lexists(with_slashes) else photo


def _captions(said: Any) -> tuple[Any, ...]:
    """The captions that a row says; empty ones are none."""
    each = said if isinstance(said, list) else () if said is None else (said,)
    return tuple(caption for caption in each if not isinstance(caption, str) or caption.strip())
