"""Captions without photos, from which a sentence's side learns what a teacher says of them."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from crossmodal.errors import DataSetError
from crossmodal.home_folder import expanded

__all__ = ["extra_texts", "read_captions", "spelling"]

_COLUMN = "caption"


def extra_texts(files: Iterable[str], withheld: Iterable[str]) -> list[str]:
    """The captions in ``files``, each once, without those spelled like one of ``withheld``.

    Collections of captions overlap: one that belongs to a dev photo would make the dev results look better
    than they are. Raises DataSetError as ``read_captions`` does, and where nothing is left.
    """
    files = list(files)
    spellings = {spelling(text) for text in withheld}
    found = list(dict.fromkeys(text for path in files for text in read_captions(expanded(path))))
    kept = [text for text in found if spelling(text) not in spellings]
    if files and not kept:
        raise DataSetError(f"All {len(found)} captions in {', '.join(files)} belong to dev photos too.")
    return kept


def spelling(text: str) -> str:
    """``text`` in lower case with everything but letters and digits as single spaces."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def read_captions(path: Path) -> list[str]:
    """The captions in a .txt file, one a line, or in a CSV file's column ``caption``; either may be .gz.

    Raises DataSetError where the file cannot be read or has no captions.
    """
    try:
        with _open(path) as file:
            if path.name.removesuffix(".gz").endswith(".txt"):
                lines = [line.strip() for line in file]
            else:
                table = csv.DictReader(file)
                if _COLUMN not in (table.fieldnames or []):
                    raise DataSetError(f"The caption file {path} has no column {_COLUMN!r}.")
                lines = [(row[_COLUMN] or "").strip() for row in table]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"The caption file {path} cannot be read: {error}.") from error
    captions = list(dict.fromkeys(line for line in lines if line))
    if not captions:
        raise DataSetError(f"The caption file {path} has no captions.")
    return captions


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
        yield text
