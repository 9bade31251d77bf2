"""A CSV or JSONL file: a photo's path or URI, a caption, and further columns that become tags."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from crossmodal.data_sets.data_set import DataSet, Limits, Mention, same_split
from crossmodal.data_sets.photos import resolve
from crossmodal.data_sets.rows import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    Row,
    caption_column,
    count_lines,
    csv_rows,
    image_column,
    jsonl_rows,
)
from crossmodal.data_sets.values import cell_value, json_value
from crossmodal.errors import DataError, DataSetError
from crossmodal.records import Failure

__all__ = ["JSONL_EXTENSIONS", "TABLE_EXTENSIONS", "Table"]

JSONL_EXTENSIONS = frozenset({".jsonl", ".ndjson"})
TABLE_EXTENSIONS = JSONL_EXTENSIONS | {".csv", ".tsv", ".txt"}

# Enough rows to estimate how many captions a photo has, few enough to read at once.
_SAMPLED_ROWS = 200


class Table(DataSet):
    """A row names a photo (relative to ``folders``) and, where the column exists, says a caption of it.

    In CSV, cells that are clean numbers become numbers and empty ones no tag. In JSONL a caption may be a
    list of captions, and null or no caption at all makes a photo without one. A photo gets the tags of its
    first row, a caption those of its own row.
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
        self.folders = folders
        self._split = split
        self._check_first_rows()

    def mentions(self) -> Iterator[Mention | Failure]:
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
                yield self._mention(row, where)
            except DataError as error:
                yield Failure(where, str(error))

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
                said = row.cells.get(caption) if caption else None
                captions += len(said) if isinstance(said, list) else said is not None
                rows += 1
        if rows == 0:
            return 0
        if rows < _SAMPLED_ROWS:
            return len(photos) + captions
        return round((count_lines(self.path) - (not self._jsonl)) * (len(photos) + captions) / rows)

    def _rows(self) -> Iterator[Row | Failure]:
        if self._jsonl:
            # A data: URI is base64, 4 characters for 3 bytes, beside captions and tags.
            return jsonl_rows(self.path, self.limits.max_file_bytes // 3 * 4 + (1 << 20))
        return csv_rows(self.path)

    def _check_first_rows(self) -> None:
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
        if self._split is not None:
            self._check_split(self._split)

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

    def _mention(self, row: Row, where: str) -> Mention:
        image, caption = image_column(row.cells), caption_column(row.cells)
        reference = row.cells[image] if image else None
        said = row.cells[caption] if caption else None
        if not isinstance(reference, str) or not reference.strip():
            raise DataError(
                "caption without a photo: the row names none" if said else "the row names no photo"
            )
        captions = () if said is None else tuple(said) if isinstance(said, list) else (said,)
        tags = {
            key: json_value(value) if self._jsonl else cell_value(value)
            for key, value in row.cells.items()
            if key not in (image, caption) and value not in (None, "")
        }
        return Mention(resolve(reference.strip(), self.folders), where, captions, tags)
