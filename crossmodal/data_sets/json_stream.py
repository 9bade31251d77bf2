"""One large JSON object, read array element by array element, so that memory holds one element at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from crossmodal.errors import DataSetError
from crossmodal.limits import JSON_VALUE

__all__ = ["array_elements", "top_level_keys"]

_WHITE_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER_PART = re.compile(r"[-+.0-9eE]*")
_CHUNK_CHARACTERS = 1 << 20
# No image or annotation entry comes near this; without a limit a damaged file would be read whole.


def array_elements(path: Path, key: str) -> Iterator[Any]:
    """Yields the elements of the array at top-level ``key`` of the JSON object in the file ``path``.

    Nothing where the key is absent or holds no array. Raises DataSetError where the file cannot be
    read or is no JSON object, with the position where it goes wrong; what came before was yielded.
    """
    for found, element in _walk(path):
        if found == key and element is not _KEY:
            yield element


def top_level_keys(path: Path, limit: int = 20) -> list[str]:
    """The first keys of the JSON object in the file ``path``; raises DataSetError like ``array_elements``."""
    keys: list[str] = []
    for key, element in _walk(path):
        if element is _KEY:
            keys.append(key)
            if len(keys) == limit:
                break
    return keys


_KEY = object()


def _walk(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields ``(key, _KEY)`` for each top-level key, then ``(key, element)`` for each of its elements."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            reader = _Reader(file, path)
            reader.expect("{")
            if reader.take_if("}"):
                return
            while True:
                key = reader.value()
                if not isinstance(key, str):
                    raise reader.damaged("a key is not text")
                reader.expect(":")
                yield key, _KEY
                if reader.take_if("["):
                    if not reader.take_if("]"):
                        while True:
                            yield key, reader.value()
                            if not reader.take_if(","):
                                break
                        reader.expect("]")
                else:
                    reader.value()
                if not reader.take_if(","):
                    break
            reader.expect("}")
    except UnicodeDecodeError as error:
        raise DataSetError(f"{path} is not valid UTF-8: {error.reason}") from None
    except OSError as error:
        raise DataSetError(f"{path} cannot be read: {error.strerror}") from None


class _Reader:
    """A window of text that moves over the file; ``value`` decodes the JSON value at its start."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._text = ""
        self._at = 0
        self._passed = 0
        self._ended = False
        self._decoder = json.JSONDecoder()

    def take_if(self, character: str) -> bool:
        """Takes ``character`` where it comes next after white space."""
        self._skip_white_space()
        if self._text[self._at : self._at + 1] != character:
            return False
        self._at += 1
        return True

    def expect(self, character: str) -> None:
        if not self.take_if(character):
            found = self._text[self._at : self._at + 1]
            raise self.damaged(
                f"{character!r} should stand there, not " + (repr(found) if found else "the end")
            )

    def value(self) -> Any:
        self._skip_white_space()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._read_more():
                    raise self.damaged(getattr(error, "msg", str(error))) from None
                continue
            # A number at the end of the window may go on behind it: of "0.5" the window may hold "0.".
            if _NUMBER_PART.fullmatch(self._text, end) and self._read_more():
                continue
            self._at = end
            return value

    def damaged(self, reason: str) -> DataSetError:
        return DataSetError(
            f"{self._path} is not a JSON object that can be read: at character "
            f"{self._passed + self._at:,}, {reason}"
        )

    def _skip_white_space(self) -> None:
        while True:
            self._at = _WHITE_SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read_more():
                return

    def _read_more(self) -> bool:
        """Moves the window: drops what was read and adds a chunk; False at the end of the file."""
        if self._ended or len(self._text) - self._at > JSON_VALUE.most:
            return False
        # At least as much again as is waiting, so that a large value is not decoded once for each chunk.
        chunk = self._file.read(max(_CHUNK_CHARACTERS, len(self._text) - self._at))
        self._ended = not chunk
        self._passed += self._at
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)
