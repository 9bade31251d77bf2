"""Lines of a text file, one at a time, whatever its line ends and however damaged it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossmodal.errors import DataSetError

__all__ = ["Line", "count_lines", "read_lines"]

# Enough to recognise the line by in a message.
_KEPT_OF_A_LONG_LINE = 100


@dataclass(frozen=True, slots=True)
class Line:
    """Line ``number`` (from 1) with its line end; bytes that are not UTF-8 are lone surrogates in ``text``.

    ``too_long`` marks a line over the limit; its ``text`` is only the beginning.
    """

    number: int
    text: str
    too_long: bool = False


def read_lines(path: Path, max_characters: int) -> Iterator[Line]:
    """Yields the lines of a UTF-8 file, with or without byte order mark, with LF, CRLF or CR line ends.

    Raises DataSetError where the file cannot be opened or read, or is UTF-16.
    """
    try:
        with open(path, "rb") as start:
            if start.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise DataSetError(f"{path} is encoded in UTF-16: save it as UTF-8")
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            number = 0
            while text := file.readline(max_characters):
                number += 1
                too_long = False
                last = text
                while len(last) == max_characters and not last.endswith("\n"):
                    last = file.readline(max_characters)
                    too_long = too_long or bool(last)
                yield Line(number, text[:_KEPT_OF_A_LONG_LINE] if too_long else text, too_long)
    except OSError as error:
        raise DataSetError(f"{path} cannot be read: {error.strerror}") from None


def count_lines(path: Path) -> int:
    """The number of line feeds in a file, which is near its number of lines; 0 where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0
