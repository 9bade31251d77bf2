"""What commands write: stdout, whole or with an error; JSON; failures; and the folder of ``--output``."""

from __future__ import annotations

import io
import json
import os
import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.errors import OutputError, ReaderGone, StoreUnwritable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["json_bytes", "make_folder", "open_streams", "print_failures", "print_json", "write"]

_FAILURES_SHOWN = 20


def open_streams() -> None:
    """Opens standard streams that are closed (``2>&-``), and makes stdout write everything or raise.

    With ``PYTHONUNBUFFERED`` Python's own stdout drops what a pipe does not take at once. Writing to this
    one raises ReaderGone or OutputError; after that it discards what follows, so that nothing is raised again
    when the interpreter ends.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Otherwise the next file opened, which may be the index, has its number, and libraries print
            # into that. It gets the lowest number that is free, and stays open to the end.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    stdout = sys.stdout
    if stdout is sys.__stdout__ and isinstance(stdout, io.TextIOWrapper):
        stdout.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_WholeWrites(stdout.fileno())),
            encoding=stdout.encoding,
            errors=stdout.errors,
            line_buffering=stdout.line_buffering or stdout.write_through,
        )


def write(content: bytes) -> None:
    """Writes ``content`` to stdout as it is, at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def write_lines(lines: Iterable[str]) -> None:
    """Writes lines to stdout; what it has no character for, as in names of files, with escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        write(f"{line}\n".encode(encoding, "backslashreplace"))


def json_bytes(value: Any) -> bytes:
    """``value`` as one line of JSON in UTF-8; bytes of paths that are no text become escapes."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def print_json(value: Any) -> None:
    """Writes ``value`` to stdout as one line of JSON."""
    write(json_bytes(value))


def print_failures(failures: Sequence[Mapping[str, str]]) -> None:
    """Prints ``source`` and ``reason`` of the first 20 records that failed on stderr, and how many more."""
    for failure in failures[:_FAILURES_SHOWN]:
        print(f"failed: {failure['source']}: {failure['reason']}", file=sys.stderr)
    if len(failures) > _FAILURES_SHOWN:
        print(f"and {len(failures) - _FAILURES_SHOWN} more; --json lists all of them", file=sys.stderr)


def make_folder(folder: Path) -> None:
    """Makes ``folder`` with its parents; raises StoreUnwritable where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnwritable(
            f"The folder {folder} cannot be made ({error.strerror}); choose another with --output."
        ) from error


class _WholeWrites(io.RawIOBase):
    """A file descriptor, owned elsewhere, whose ``write`` takes every byte or raises."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left and not self._failed:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except BrokenPipeError as error:
                self._failed = True
                # Not as it is: rich would end the program on it, with a code of its own.
                raise ReaderGone("The reader of stdout has gone.") from error
            except OSError as error:
                self._failed = True
                raise OutputError(
                    f"The output cannot be written to stdout: {error.strerror}. It is not complete."
                ) from error
        return size
