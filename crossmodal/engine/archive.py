"""Originals of an index as one zip, made while it is read: one photo at a time is in memory."""

from __future__ import annotations

import mimetypes
import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import IO, cast
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from crossmodal.errors import DataError, ObjectsUnavailable, OriginalGone, StoreDamaged
from crossmodal.metadata.locations import without_location
from crossmodal.metadata.video_locations import blanked, location_spans
from crossmodal.private_files import private_opener
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.videos.formats import is_video_type
from crossmodal.videos.moments import video_of
from crossmodal.workspace import Workspace

__all__ = ["MISSING_FILE", "PhotoArchive", "write_archive"]

# The file of an archive that says what is not in it, and why.
MISSING_FILE = "missing.txt"

# Of a video, which has no limit that fits into memory.
_VIDEO_PART = 1 << 20

# What no system has in the name of a file, or only some have.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
# Of the name that a client gave.
_LONGEST_NAME = 200

# The years that a zip can say.
_YEARS = range(1980, 2108)
_NO_DATE = (1980, 1, 1, 0, 0, 0)

_READABLE_BY_ALL = 0o644 << 16


class PhotoArchive:
    """The photos of an index with these ``ids``, and the videos of moments, as the parts of a zip, in order.

    Files are stored as they are, below the path from their root, with " (2)" in a name that came before. What
    cannot be had is in ``missing``, and in the file MISSING_FILE. Without ``locations`` they don't say where
    they were taken; a photo of which that cannot be taken out is missing. ``photos`` counts what is in it so
    far. To be read once. Where ``awaited`` is set and an empty part comes, the next one comes when that has
    ended: a video has to be read as a whole first.
    """

    def __init__(self, workspace: Workspace, ids: Iterable[str], *, locations: bool = True) -> None:
        self._workspace = workspace
        self._ids = dict.fromkeys(map(video_of, ids))
        self._locations = locations
        self._names = _Names()
        self.photos = 0
        self.missing: list[Failure] = []
        self.awaited: Future[None] | None = None

    def parts(self) -> Generator[bytes, None, None]:
        """Its bytes; raises StoreError where the index cannot be read, OSError where a video ends early."""
        sink = _Sink()
        with ZipFile(cast("IO[bytes]", sink), "w", ZIP_STORED) as zipped:
            for id in self._ids:
                record, reason = None, "There is no such photo."
                try:
                    record = self._workspace.get(id, IMAGE)
                    if record is not None:
                        yield from self._add(zipped, sink, record)
                        continue
                except (_Missing, OriginalGone, ObjectsUnavailable, StoreDamaged) as error:
                    reason = str(error)
                self.missing.append(Failure(id if record is None else record.file or id, reason))
            if self.missing:
                lines = [f"{failure.source}: {failure.reason}\n" for failure in self.missing]
                zipped.writestr(
                    _entry(self._names.unique(MISSING_FILE)),
                    "".join(lines).encode("utf-8", "replace"),
                )
        yield from sink.take()

    def _add(self, zipped: ZipFile, sink: _Sink, record: Record) -> Iterator[bytes]:
        if is_video_type(record.mime_type):
            yield from self._add_video(zipped, sink, record)
        else:
            # It is held by nobody but who sends it.
            zipped.writestr(self._entry_of(record), self._content(record))
        self.photos += 1
        yield from sink.take()

    def _content(self, record: Record) -> bytes:
        found = self._workspace.content(record.id)
        content = None if found is None else found[0]
        if content is None:
            raise _Missing("There is no such photo.")
        if not self._locations and (content := without_location(content)) is None:
            raise _Missing("Where it was taken cannot be taken out of its file.")
        return content

    def _add_video(self, zipped: ZipFile, sink: _Sink, record: Record) -> Iterator[bytes]:
        reading = self._workspace.reading_video(record.id, locations=self._locations)
        if reading is not None:
            self.awaited = reading
            yield b""
            self.awaited = None
            reading.result()
        found = self._workspace.video(record.id)
        if found is None:
            raise _Missing("There is no such video.")
        descriptor, mime_type = found
        try:
            size = os.fstat(descriptor).st_size
            spans = [] if self._locations else location_spans(descriptor, mime_type)
            if spans is None:
                raise _Missing("Where it was made cannot be taken out of its file.")
            entry = self._entry_of(record)
            # With it the entry's header has room for as much.
            entry.file_size = size
            with zipped.open(entry, "w") as file:
                for start in range(0, size, _VIDEO_PART):
                    end = min(start + _VIDEO_PART, size)
                    part = os.pread(descriptor, end - start, start)
                    if len(part) < end - start:
                        raise OSError(f"the video {record.id!r} became shorter while it was read")
                    file.write(blanked(part, start, spans))
                    yield from sink.take()
        finally:
            os.close(descriptor)

    def _entry_of(self, record: Record) -> ZipInfo:
        return _entry(self._names.unique(_path_of(record)), str(record.all_tags.get("taken", "")))


def write_archive(archive: PhotoArchive, path: Path) -> None:
    """Writes the archive into a new file that only its owner can read; nothing stays where that fails.

    Raises DataError where there is such a file, OSError, and as ``PhotoArchive.parts``.
    """
    try:
        os.close(private_opener(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise DataError(f"{path} is there already; choose another name.") from None
    try:
        with open(path, "wb") as file, closing(archive.parts()) as parts:
            for part in parts:
                file.write(part)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Missing(Exception):
    """Why a photo is not in the archive."""


class _Sink:
    """A file that cannot be sought in, of which the caller takes what was written to it."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()

    def write(self, data: bytes | memoryview) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> Iterator[bytes]:
        """What was written, which is not kept."""
        while self._parts:
            yield self._parts.popleft()


class _Names:
    """The paths in one archive, each once, whatever its case."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def unique(self, path: str) -> str:
        """``path``, or with a number before its ending where it is taken."""
        start, dot, ending = path.rpartition(".")
        if not start or "/" in ending:
            start, dot, ending = path, "", ""
        found = path
        while found.casefold() in self._taken:
            number = self._taken[path.casefold()] = self._taken[path.casefold()] + 1
            found = f"{start} ({number}){dot}{ending}"
        self._taken[found.casefold()] = 1
        return found


def _entry(path: str, taken: str = "") -> ZipInfo:
    """The entry of a file that was taken at that time, as ISO 8601 has it."""
    date = _NO_DATE
    try:
        moment = datetime.fromisoformat(taken)
    except ValueError:
        pass
    else:
        if moment.year in _YEARS:
            date = moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second
    entry = ZipInfo(path, date)
    entry.external_attr = _READABLE_BY_ALL
    return entry


def _path_of(record: Record) -> str:
    """Where a photo lies below its root, or what its file was called, as every system can have it."""
    if record.local is not None:
        path = record.local.path
    elif record.file:
        path = record.file.replace("\\", "/").rstrip("/").rpartition("/")[2][:_LONGEST_NAME]
    else:
        path = ""
    written = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    parts = [_UNSAFE.sub("_", part).rstrip(". ") for part in written.split("/")]
    named = "/".join(part for part in parts if part)
    return named or f"photo-{_UNSAFE.sub('_', record.id).replace('/', '_')}{_ending_of(record)}"


def _ending_of(record: Record) -> str:
    return mimetypes.guess_extension(record.mime_type or "") or ""
