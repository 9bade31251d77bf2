"""The lines of a text file, one at a time, whatever its encoding, its line ends and its damage."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossmodal.errors import DataSetError

__all__ = ["Encoding", "Line", "count_lines", "encoding_of", "read_lines"]

# Enough of a line that is too long to recognise it by in a message.
_KEPT_OF_A_LONG_LINE = 100
_CHUNK_BYTES = 1 << 20
# The longest marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
# Windows-1252 and Latin-1 differ only there.
_OUTSIDE_80_TO_9F = bytes(byte for byte in range(256) if not 0x80 <= byte <= 0x9F)


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a file is read as: Python's name of the codec, and people's."""

    codec: str
    label: str


_UTF_8 = Encoding("utf-8-sig", "UTF-8")


@dataclass(frozen=True, slots=True)
class Line:
    """Line ``number`` (from 1) with its line end.

    Bytes that are no characters are lone surrogates in ``text``. ``too_long`` marks a line over the limit;
    its ``text`` is only the beginning.
    """

    number: int
    text: str
    too_long: bool = False


def encoding_of(path: Path) -> Encoding:
    """The encoding of a text file: by its mark (BOM), else UTF-8 where that fits, else a guess.

    A file without a mark is read through. With zero bytes at every other place it is UTF-16. Where more bytes
    are not UTF-8 than characters beyond ASCII are, it is Windows-1252, which is called Latin-1 where the two
    don't differ. Raises DataSetError where it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
            for mark, codec, label in _MARKS:
                if start.startswith(mark):
                    return Encoding(codec, label)
            zeros = start[0::2].count(0), start[1::2].count(0)
            if max(zeros) > max(2, len(start) // 5):
                return Encoding("utf-16-le" if zeros[1] > zeros[0] else "utf-16-be", "UTF-16")
            file.seek(0)
            return _without_mark(iter(lambda: file.read(_CHUNK_BYTES), b""))
    except OSError as error:
        raise DataSetError(f"{path} cannot be read: {error.strerror}") from None


def _without_mark(chunks: Iterator[bytes]) -> Encoding:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    fitting = unfitting = 0
    label = "Latin-1"
    for chunk in chunks:
        text = decoder.decode(chunk)
        if text.isascii():
            continue
        characters = text.encode("utf-8", "ignore").decode()
        fitting += len(characters) - len(characters.encode("ascii", "ignore"))
        unfitting += len(text) - len(characters)
        if chunk.translate(None, _OUTSIDE_80_TO_9F):
            label = "Windows-1252"
    unfitting += len(decoder.decode(b"", final=True))
    if unfitting <= fitting:
        return _UTF_8
    return Encoding("cp1252", label)


def read_lines(path: Path, max_characters: int, encoding: Encoding | None = None) -> Iterator[Line]:
    """Yields the lines of a text file, with LF, CRLF or CR line ends.

    ``encoding`` is ``encoding_of`` the file where it is known already. Raises DataSetError where the file
    cannot be opened or read.
    """
    codec = (encoding or encoding_of(path)).codec
    try:
        with open(path, encoding=codec, errors=_ERRORS) as file:
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
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))
    except OSError:
        return 0


def _as_surrogates(error: UnicodeError) -> tuple[str, int]:
    """Each byte that is no character as the lone surrogate that ``surrogateescape`` makes of it.

    That handler itself leaves out bytes below 128, of which UTF-16 can have some. The five bytes that
    Windows-1252 leaves open are control characters, as in https://encoding.spec.whatwg.org/#windows-1252.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    if error.encoding == "charmap":
        return wrong.decode("latin-1"), error.end
    return "".join(chr(0xDC00 + (byte | 0x80)) for byte in wrong), error.end


_ERRORS = "crossmodal-surrogates"
codecs.register_error(_ERRORS, _as_surrogates)
