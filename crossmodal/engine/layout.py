"""Where the photos of an index lie on a map of them, computed in the background and kept beside the index."""

from __future__ import annotations

import fcntl
import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreError
from crossmodal.private_files import private_opener
from crossmodal.query.plane import laid_out, reduced
from crossmodal.records import IMAGE
from crossmodal.workspace import Workspace

__all__ = ["Layout", "Layouts"]

_FOLDER = "derived"
_FILE = "image.layout"
_LOCK_FILE = "image.layout.lock"

# It is computed anew where more than such a share of the photos came or went.
_CHANGED_SHARE = 0.05

# While another process computes it.
_AGAIN_SECONDS = 1.0

# Whoever waits for an answer comes before a map.
_NICENESS = 15


@dataclass(frozen=True, slots=True)
class Layout:
    """Places on a plane, float32 (n, 2) from 0 to 1, of the photos with these ``ids``: like lies by like.

    ``total`` is how many photos there are: some may have come since. ``computing`` says that places are being
    computed.
    """

    ids: tuple[str, ...]
    places: NDArray[np.float32]
    total: int
    computing: bool


_NOTHING = Layout((), np.empty((0, 2), np.float32), 0, False)


class _GivenUp(Exception):
    """What is being computed is not wanted any more."""


class Layouts:
    """The layout of the photos of an index, whatever becomes of them. Safe across threads.

    One process at a time computes it, in a thread that gives way to others, and the others read its file.
    Where nothing can be written, each computes its own.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        # Of what is being computed.
        self._given_up = threading.Event()
        self._places: dict[str, NDArray[np.float32]] = {}
        self._read: tuple[int, int] | None = None
        self._state: tuple[str, int] | None = None
        self._known = _NOTHING
        # The state of the index of which it was computed last, whatever came of it.
        self._tried: tuple[str, int] | None = None

    def close(self) -> None:
        """Gives up what is being computed; a later call begins anew."""
        with self._changing:
            thread, self._thread, self._tried = self._thread, None, None
            self._given_up.set()
        if thread is not None:
            thread.join()

    def current(self, *, wait: bool = False) -> Layout:
        """The layout of the photos that there are; with ``wait`` it is not said before it is computed."""
        found = self._current()
        while wait and found.computing and (thread := self._thread) is not None:
            given_up = self._given_up
            thread.join()
            if given_up.is_set():
                break
            found = self._current()
        return found

    def _current(self) -> Layout:
        with self._changing:
            state = self._workspace.state()
            if state is None:
                return _NOTHING
            if self._read_file(state[0]) or self._state != state:
                self._known, self._state = self._described(), state
            layout = self._known
            missing = layout.total - len(layout.ids) + len(self._places) - len(layout.ids)
            if not missing or missing <= _CHANGED_SHARE * layout.total:
                return layout
            if self._thread is None or not self._thread.is_alive():
                if self._tried == state:
                    # The index is damaged.
                    return layout
                given_up = threading.Event()
                thread = threading.Thread(target=self._compute, args=(given_up,), name="layout", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # There are too many threads already.
                    return layout
                self._tried, self._thread, self._given_up = state, thread, given_up
            return Layout(layout.ids, layout.places, layout.total, True)

    def _described(self) -> Layout:
        ids = list(self._workspace.ids(IMAGE))
        placed = tuple(id for id in ids if id in self._places)
        places = np.stack([self._places[id] for id in placed]) if placed else _NOTHING.places
        return Layout(placed, places, self._workspace.vector_count(IMAGE), False)

    def _compute(self, given_up: threading.Event) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        with suppress(StoreError, _GivenUp), self._alone() as alone:
            if not alone:
                # It is looked again after a while.
                given_up.wait(_AGAIN_SECONDS)
                self._tried = None
                return
            ids: list[str] = []
            with self._workspace.require().vector_source(IMAGE).snapshot() as snapshot:

                def blocks() -> Iterator[NDArray[np.float32]]:
                    ids.clear()
                    for block in snapshot.blocks():
                        if given_up.is_set():
                            raise _GivenUp
                        ids.extend(block.ids)
                        yield block.vectors

                points, store_id = reduced(blocks), snapshot.store_id
            places = laid_out(points, lambda: not given_up.is_set())
            if places is not None and not given_up.is_set():
                self._keep(store_id, ids, places)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process computes it."""
        try:
            lock = private_opener(str(self._path(_LOCK_FILE)), os.O_RDWR | os.O_CREAT)
        except OSError:
            # On a disk that is read-only.
            yield True
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        try:
            yield alone
        finally:
            os.close(lock)

    def _keep(self, store_id: str, ids: list[str], places: NDArray[np.float32]) -> None:
        out = io.BytesIO()
        np.savez(out, places=places, ids=np.frombuffer(json.dumps([store_id, ids]).encode(), np.uint8))
        path = self._path(_FILE)
        made = path.with_name(f"{_FILE}.{os.getpid()}")
        try:
            with open(made, "wb", opener=private_opener) as file:
                file.write(out.getvalue())
            made.replace(path)
        except OSError:
            made.unlink(missing_ok=True)
            with self._changing:
                self._places, self._state = dict(zip(ids, places, strict=True)), None

    def _read_file(self, store_id: str) -> bool:
        """Reads what was computed last, here or elsewhere, where that is new; says whether it was."""
        path = self._path(_FILE)
        try:
            status = path.stat()
        except OSError:
            return False
        if self._read == (status.st_ino, status.st_mtime_ns):
            return False
        self._read = status.st_ino, status.st_mtime_ns
        try:
            with np.load(io.BytesIO(path.read_bytes())) as kept:
                made_of, ids = json.loads(kept["ids"].tobytes())
                places = kept["places"]
            if made_of != store_id or places.shape != (len(ids), 2):
                raise ValueError(made_of)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            # It is made again.
            had, self._places = bool(self._places), {}
            return had
        self._places = dict(zip(ids, places.astype(np.float32), strict=True))
        return True

    def _path(self, name: str) -> Path:
        return self._workspace.path / _FOLDER / name
