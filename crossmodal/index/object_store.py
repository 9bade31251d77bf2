"""Originals and thumbnails in an object store that fsspec knows: S3 and what speaks it, or a folder.

Each call is given up after a time that grows with what it moves. After one that failed, the others fail at
once, and one a second tries again, so that a store that is away holds up few threads, and nobody for long.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crossmodal.addresses import check_address, is_address, missing_package
from crossmodal.errors import DataSetError, ObjectsUnavailable, SettingsError
from crossmodal.index.embedded.connections import sync_folder
from crossmodal.index.in_time import in_time
from crossmodal.index.objects import ObjectGone, Reference, Stored

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["ObjectStore", "checked_objects", "object_store"]

_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A call may take so long, and a second more for each 2 MiB of it and for each four objects.
_LEAST_SECONDS = 2.0
_BYTES_A_SECOND = 2 << 20
_OBJECTS_A_SECOND = 4

# To load the client of a service, which takes seconds where much else runs; and to list objects, or to delete
# some of them.
_LOADING_SECONDS = 30.0
_LONG_SECONDS = 60.0

# How long calls fail without being tried after one that did, and how long what is known of it is told.
_AWAY_SECONDS = 1.0
_KNOWN_SECONDS = 5.0

# Of S3: how long a connection may be silent, which nobody waits for any more then, and how many there are.
_SILENT_SECONDS = 20.0
_CONNECTIONS = 32

_PUT_AT_ONCE = 16
_DELETED_AT_ONCE = 500

# Lies there from the first moment on: where it is missing, the store is another one, or was emptied.
_MARKER = "crossmodal-objects"

_WHO = "The object store that holds originals and thumbnails"


def checked_objects(address: str) -> str:
    """The address that ``--objects`` names, without a slash at its end; "" for embedded.

    Raises SettingsError for what cannot be one.
    """
    if address in ("", "embedded"):
        return ""
    if not is_address(address):
        raise SettingsError(
            f"--objects is {address!r}; it must be embedded, or an address such as s3://BUCKET/FOLDER or "
            "file:///FOLDER."
        )
    try:
        return check_address(address)
    except DataSetError as error:
        raise SettingsError(f"--objects: {error}") from None


@cache
def object_store(address: str, folder: str) -> ObjectStore:
    """The store at ``address`` and a ``folder`` of it: one in this process, so that it is known once whether
    it is away."""
    return ObjectStore(address, folder)


class ObjectStore:
    """An ``ObjectStorage`` in ``folder`` below ``address``, such as ``s3://bucket/photos``.

    Beside what the protocol says, all raise MissingExtra where the package for that address is missing.
    """

    def __init__(self, address: str, folder: str) -> None:
        self.address = address
        self._folder = folder
        self._loading, self._asking, self._trying = threading.Lock(), threading.Lock(), threading.Lock()
        self._loaded = False
        # When it failed last, and why, until it answers; and when it last answered.
        self._failed: tuple[float, ObjectsUnavailable] | None = None
        self._answered = -math.inf

    def begin(self) -> None:
        """Prepares the address for its first use; raises SettingsError where nothing can be written there."""
        try:
            self._call(_LEAST_SECONDS, "write", partial(self._write, {_MARKER: b"The photos of an index.\n"}))
        except ObjectsUnavailable as error:
            raise SettingsError(
                f"Nothing can be written to {self.address}, which --objects names: {error.__cause__ or error}"
            ) from error

    def put(self, contents: Sequence[bytes]) -> list[Stored]:
        """References to ``contents``, which are in the store."""
        references = [str(Reference.to(content, self._folder)) for content in contents]
        new = [*{_key(each): content for each, content in zip(references, contents, strict=True)}.items()]
        for first in range(0, len(new), _PUT_AT_ONCE):
            part = dict(new[first : first + _PUT_AT_ONCE])
            seconds = _seconds(sum(map(len, part.values()))) + len(part) / _OBJECTS_A_SECOND
            self._call(seconds, "write", partial(self._write, part))
        return [*references]

    def get(self, stored: Stored) -> bytes:
        """The bytes of a reference, compared with its SHA-256."""
        if isinstance(stored, bytes):
            raise ObjectGone("bytes stand in the place of a reference")
        reference = Reference.of(stored)
        content = self._call(_seconds(reference.size), "read", partial(self._read, _key(str(reference))))
        if content is None or Reference.to(content, reference.folder) != reference:
            raise ObjectGone(f"{self.address}/{_key(str(reference))}")
        return content

    def list(self, start: str = "") -> set[str]:
        """References to what is in the folder, also to what a killed process left half written."""
        return self._call(_LONG_SECONDS, "list", partial(self._list, start))

    def delete(self, stored: Sequence[str]) -> None:
        """Deletes what there is of the references."""
        for first in range(0, len(stored), _DELETED_AT_ONCE):
            keys = [*map(_key, stored[first : first + _DELETED_AT_ONCE])]
            self._call(_LONG_SECONDS, "delete", partial(self._delete, keys))

    def state(self) -> dict[str, Any]:
        """``where`` it is, its ``state``, ready or away, and what is wrong (``error``, or None).

        It is asked, for two seconds at most, unless it answered within the last five, or somebody asks it.
        """
        if time.monotonic() - self._answered > _KNOWN_SECONDS and self._asking.acquire(blocking=False):
            try:
                with suppress(ObjectsUnavailable):
                    self._call(_LEAST_SECONDS, "read", partial(self._read, _MARKER))
            finally:
                self._asking.release()
        failed = self._failed
        return {
            "where": self.address,
            "state": "ready" if failed is None else "away",
            "error": None if failed is None else str(failed[1]),
        }

    def _call(self, seconds: float, verb: str, work: Callable[[], _Result]) -> _Result:
        if (failed := self._failed) is None:
            return self._answer(seconds, verb, work)
        if time.monotonic() - failed[0] < _AWAY_SECONDS or not self._trying.acquire(blocking=False):
            raise ObjectsUnavailable(str(failed[1]))
        try:
            return self._answer(seconds, verb, work)
        finally:
            self._trying.release()

    def _answer(self, seconds: float, verb: str, work: Callable[[], _Result]) -> _Result:
        began = time.monotonic()
        try:
            self._load()
            found = in_time(seconds, _WHO, work, late=ObjectsUnavailable)
        except ImportError as error:
            raise missing_package(self.address, error) from error
        except ObjectsUnavailable as error:
            self._note(error, error, began)
            raise
        except Exception as error:
            # A service's own errors, such as botocore's. What they say names addresses, which clients of a
            # server don't learn.
            away = ObjectsUnavailable(
                f"{_WHO} could not {verb} ({type(error).__name__}). It is tried again; nothing is lost "
                "meanwhile."
            )
            self._note(away, error, began)
            raise away from error
        if self._failed is not None:
            _logger.warning("The object store %s answers again.", self.address)
        self._failed, self._answered = None, time.monotonic()
        return found

    def _note(self, error: ObjectsUnavailable, cause: Exception, began: float) -> None:
        if self._answered > began:
            # Others had their answer meanwhile: this one was too much, or too slow.
            return
        if self._failed is None:
            _logger.warning("The object store %s is away: %s", self.address, cause)
        self._failed, self._answered = (time.monotonic(), error), -math.inf

    def _load(self) -> None:
        """Loads the client before anything is timed; it connects to nothing."""
        with self._loading:
            if not self._loaded:
                in_time(_LOADING_SECONDS, _WHO, self._connect, late=ObjectsUnavailable)
                self._loaded = True

    def _connect(self) -> None:
        fs, _ = self._opened()
        if (connect := getattr(fs, "connect", None)) is not None:
            connect()

    def _write(self, contents: Mapping[str, bytes]) -> None:
        from fsspec.implementations.local import LocalFileSystem

        fs, path = self._opened()
        if isinstance(fs, LocalFileSystem):
            if _MARKER not in contents:
                # What is mounted there may not be.
                (Path(path) / _MARKER).stat()
            for key, content in contents.items():
                _write_file(Path(path) / key, content)
        else:
            fs.pipe({f"{path}/{key}": content for key, content in contents.items()})

    def _read(self, key: str) -> bytes | None:
        fs, path = self._opened()
        try:
            content: bytes = fs.cat_file(f"{path}/{key}")
        except FileNotFoundError:
            if key != _MARKER and fs.exists(f"{path}/{_MARKER}"):
                return None
            raise
        return content

    def _list(self, start: str) -> set[str]:
        fs, path = self._opened()
        folder = f"{path}/{self._folder}/{start}".rstrip("/")
        # As it is now, and not as this process saw it before.
        fs.invalidate_cache(folder)
        fs.info(f"{path}/{_MARKER}")
        found: Mapping[str, Mapping[str, Any]] = fs.find(folder, detail=True)
        return {f"{self._folder}/{name.rpartition('/')[2]}:{info['size']}" for name, info in found.items()}

    def _delete(self, keys: Sequence[str]) -> None:
        fs, path = self._opened()
        fs.rm([f"{path}/{key}" for key in keys])

    def _opened(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        if not self.address.startswith(("s3://", "s3a://")):
            fs, path = url_to_fs(self.address)
            return fs, path.rstrip("/")
        # Who waits is told in time, and tries again.
        config = {
            "connect_timeout": _LEAST_SECONDS,
            "read_timeout": _SILENT_SECONDS,
            "retries": {"max_attempts": 1},
            "max_pool_connections": _CONNECTIONS,
        }
        fs, path = url_to_fs(self.address, config_kwargs=config)
        fs.retries = 2
        return fs, path.rstrip("/")


def _key(reference: str) -> str:
    """Where an object lies below the address."""
    folder, _, name = reference.rpartition(":")[0].partition("/")
    return f"{folder}/{name[:2]}/{name}"


def _seconds(size: int) -> float:
    return _LEAST_SECONDS + size / _BYTES_A_SECOND


def _write_file(path: Path, content: bytes) -> None:
    """Whole and on disk, or not at all, as an object store writes."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.parents[1:3]:
            sync_folder(folder)
    made = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with made.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
    sync_folder(path.parent)
