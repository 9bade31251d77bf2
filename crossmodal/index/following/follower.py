"""Brings what an index committed into a vector database, in a thread, and knows how far it has come."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from crossmodal.errors import BackendUnavailable, CrossmodalError
from crossmodal.index.embedded.compared import EXTRA
from crossmodal.index.embedded.schema import vector_table
from crossmodal.index.embedded.vector_source import VectorSnapshot, VectorSource
from crossmodal.index.following.database import Position, Row, VectorDatabase
from crossmodal.index.following.rows import rows_to_write
from crossmodal.index.following.state import position_of
from crossmodal.private_files import PRIVATE_FILE

__all__ = ["Follower", "Standing"]

_logger = logging.getLogger(__name__)

# How long the thread sleeps where nothing happened, and after its first failure in a row; the longest sleep.
_IDLE_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.25
_LONGEST_RETRY_SECONDS = 5.0

_CLOSING_SECONDS = 5.0

# Rows that were written in this time are asked for as fresh.
_FRESH_SECONDS = 10.0


class Standing(NamedTuple):
    """A database that answers, how far it has come, whether that was a moment ago, and which making it is."""

    database: VectorDatabase
    position: Position
    fresh: bool
    making: int


class _Chunk(NamedTuple):
    """What one step writes: rows that went, rows that came, and the position behind them."""

    removed: Sequence[int]
    added: Sequence[Row]
    position: Position


class Follower:
    """Keeps the collection that ``connect`` opens as ``source`` is; ``name`` is the collection's.

    One process at a time does so, the one that has the lock ``derived/NAME.following``; the others read how
    far it has come. Safe to use from several threads.
    """

    def __init__(self, source: VectorSource, name: str, connect: Callable[[], VectorDatabase]) -> None:
        self._source = source
        self._connect = connect
        self._lock_path = source.folder / "derived" / f"{name}.following"
        self._lock_file: int | None = None
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._database: VectorDatabase | None = None
        self._position: Position | None = None
        self._moved = 0.0
        self._error: CrossmodalError | None = None
        self._checked = False
        self._making = 0
        self._thread = threading.Thread(target=self._run, name=f"follow {name}", daemon=True)
        self._thread.start()

    @property
    def error(self) -> CrossmodalError | None:
        """Why the database can't be followed now; None where it can."""
        return self._error

    def standing(self) -> Standing | None:
        """What can be searched now; None before the database answers, or while it is made again."""
        with self._changed:
            if self._database is None or self._position is None:
                return None
            fresh = time.monotonic() - self._moved < _FRESH_SECONDS
            return Standing(self._database, self._position, fresh, self._making)

    def wait(self, seconds: float) -> None:
        """Waits until something has changed, at most so long."""
        self._wake.set()
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """Lets the thread look for what is new."""
        self._wake.set()

    def failed(self, database: VectorDatabase, error: BackendUnavailable) -> None:
        """Notes that a search failed, so that others don't wait for the same; the thread connects again."""
        with self._changed:
            if self._database is database:
                self._database = None
                self._error = error
                self._changed.notify_all()
        self._wake.set()

    def close(self) -> None:
        """Ends the thread and lets go of the database."""
        self._ended.set()
        self._wake.set()
        # It may be in a call that no server answers.
        self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        retry = _FIRST_RETRY_SECONDS
        connected: VectorDatabase | None = None
        try:
            while not self._ended.is_set():
                if connected is not None and self._database is None:
                    self._leave(connected)
                    connected = None
                try:
                    connected = connected or self._opened()
                    more = self._step(connected) if connected is not None else False
                except CrossmodalError as error:
                    self._leave(connected)
                    connected = None
                    if self._error is None:
                        _logger.warning("The vector database is behind: %s", error)
                    self._tell(error=error)
                    self._ended.wait(retry)
                    retry = min(2 * retry, _LONGEST_RETRY_SECONDS)
                    continue
                retry = _FIRST_RETRY_SECONDS
                if not more:
                    self._wake.wait(_IDLE_SECONDS)
                    self._wake.clear()
        finally:
            self._leave(connected)
            if self._lock_file is not None:
                os.close(self._lock_file)

    def _opened(self) -> VectorDatabase | None:
        """The database with the position it says; None while the index has no vectors."""
        with self._source.snapshot() as snapshot:
            if snapshot.dimension is None:
                return None
        database = self._connect()
        try:
            position = position_of(database)
        except BaseException:
            database.close()
            raise
        with self._changed:
            self._database, self._error = database, None
            self._checked = False
        self._tell(position=position)
        return database

    def _leave(self, database: VectorDatabase | None) -> None:
        with self._changed:
            self._database = self._position = None
            self._changed.notify_all()
        if database is not None:
            with suppress(BackendUnavailable):
                database.close()

    def _tell(self, *, position: Position | None = None, error: CrossmodalError | None = None) -> None:
        with self._changed:
            if error is not None:
                self._error = error
            else:
                self._error = None
                self._position = position
                self._moved = time.monotonic()
            self._changed.notify_all()

    def _step(self, database: VectorDatabase) -> bool:
        """Takes over one more block of what was committed; whether there may be more."""
        position = self._position
        with self._source.snapshot() as snapshot:
            if snapshot.dimension is None or (position is not None and self._is_at(position, snapshot)):
                return False
            had_lock = self._lock_file is not None
            if not self._has_lock() or not had_lock:
                # Another process has brought it this far.
                if (theirs := position_of(database)) != position:
                    self._tell(position=theirs)
                return not had_lock and self._lock_file is not None
            chunk = None if position is None else self._chunk(position, snapshot)
            start = Position(snapshot.store_id, snapshot.sequence, 0, database.made_with)
            dimension = snapshot.dimension
        if chunk is None:
            with self._changed:
                self._position = None
                self._making += 1
            database.reset(dimension + EXTRA)
            database.note(start)
            self._checked = True
            self._tell(position=start)
            return True
        if chunk.removed:
            database.remove(chunk.removed)
        if chunk.added:
            database.write(chunk.added)
        database.note(chunk.position)
        self._tell(position=chunk.position)
        return True

    def _is_at(self, position: Position, snapshot: VectorSnapshot) -> bool:
        """Whether the database has everything, looked at once by number: a server may have lost its tail."""
        there = position.store, position.sequence, position.next_row
        if there != (snapshot.store_id, snapshot.sequence, snapshot.next_row):
            return False
        if not self._checked and self._has_lock() and self._database is not None:
            held, wanted = self._database.count(), _count(snapshot)
            if held != wanted:
                _logger.warning("The vector database has %d rows of %d; it is filled again.", held, wanted)
                self._position = None
                return False
            self._checked = True
        return True

    def _chunk(self, position: Position, snapshot: VectorSnapshot) -> _Chunk | None:
        """What comes behind ``position``; None where only a new beginning helps."""
        if position.store != snapshot.store_id or self._position is None:
            return None
        removed = snapshot.rows_removed(position.sequence)
        if removed is None:
            return None
        block = next(snapshot.blocks(position.next_row), None)
        next_row = snapshot.next_row if block is None else int(block.rows[-1]) + 1
        return _Chunk(
            removed[removed < position.next_row].tolist(),
            [] if block is None else rows_to_write(snapshot, block),
            Position(snapshot.store_id, snapshot.sequence, next_row, position.made_with),
        )

    def _has_lock(self) -> bool:
        """Whether this process is the one that writes; the kernel frees the lock however its holder ends."""
        if self._lock_file is not None:
            return True
        try:
            self._lock_path.parent.mkdir(exist_ok=True)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError:
            # Of an index that cannot be written, somebody else's process has to be the one.
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock_file = descriptor
        return True


def _count(snapshot: VectorSnapshot) -> int:
    """How many rows there are of the source."""
    if snapshot.source.shards > 1:
        return sum(len(block) for block in snapshot.blocks())
    table = vector_table(snapshot.source.modality)
    (count,) = snapshot.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)
