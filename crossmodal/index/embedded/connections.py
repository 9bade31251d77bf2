"""Connections to one SQLite file: a pool for reading, one for writing, and a sentence for each error."""

from __future__ import annotations

import codecs
import os
import shutil
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from crossmodal.errors import StoreDamaged, StoreError, StoreFormat, StoreMissing, StoreUnwritable
from crossmodal.index.embedded.damage import DamageList
from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.schema import (
    APPLICATION_ID,
    DOCUMENTS_FILE,
    FORMAT,
    INDEX_FILE,
    PAGE_BYTES,
    SCHEMA,
)
from crossmodal.index.embedded.sqlite_dialect import SQLiteConnection
from crossmodal.index.embedded.writer_lock import file_of, is_being_written, no_locks, no_writer
from crossmodal.private_files import touch_private

__all__ = ["Connections", "UnusualText", "damage_advice", "require_own_file", "storable", "sync_folder"]

_BUSY_SECONDS = 30.0
_CACHE_KIB = 8_192
_LOG_WAIT_MS = 500

# The write-ahead log is cut to this length when it starts over, after a reader has held it back.
_LOG_BYTES = 64 << 20

# After a commit that leaves more than this in it, it is written into the file: the reserve has to hold that.
_LOG_PAGES = 160

_NEARLY_FULL_BYTES = 1 << 20

# Copied without a look at signals, 64 MiB.
_PAGES_AT_ONCE = 4096

# By the beginning of SQLite's names for errors (https://www.sqlite.org/rescode.html).
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
_FULL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_TOOBIG")
_UNREADABLE = ("SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_FSTAT")
_NO_LOCKS = (
    *(f"SQLITE_IOERR_{what}" for what in ("LOCK", "RDLOCK", "UNLOCK", "CHECKRESERVEDLOCK", "SHMLOCK")),
    "SQLITE_NOLFS",
)
_REFUSED = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")

# A forked child must neither use nor close the connections of its parent, so they are held here for ever.
_inherited: list[SQLiteConnection] = []


def damage_advice(folder: Path) -> str:
    """The second sentence of every message about a damaged index in ``folder``."""
    return (
        f"Look at the disk; then restore a backup with: crossmodal restore FILE --replace, or delete the "
        f"index in {folder} and index again."
    )


class UnusualText(bytes):
    """A text that is no UTF-8, with its halves of characters, as names of files have them."""


def storable(text: str | None) -> str | bytes | None:
    """``text`` as a statement can take it, in a place that says ``CAST(? AS TEXT)``.

    Halves of characters, as names of files have them that are no UTF-8, travel as bytes.
    """
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return UnusualText(text.encode("utf-8", "surrogatepass"))
    return text


def require_own_file(folder: Path) -> None:
    """Raises StoreError where a database has the documents of the index in ``folder``, and no file."""
    if (folder / DOCUMENTS_FILE).exists():
        raise StoreError(
            f"The documents of the index in {folder} are in a database, where the programs of that do this: "
            "pg_dump, pg_restore, VACUUM. dump and load work for either."
        )


def sync_folder(path: Path) -> None:
    """Makes what was made or renamed in the folder ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Connections:
    """The file ``index.sqlite`` in ``folder``, opened when it is first used.

    Safe to use from several threads; ``write`` is for one at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / INDEX_FILE
        self.damage = DamageList(folder)
        self._lock = threading.Lock()
        self._idle: list[SQLiteConnection] = []
        self._writer: SQLiteConnection | None = None
        self._closed = False
        self._pid = os.getpid()
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _no_file(self.path)
        self._file = found.st_dev, found.st_ino
        # Who drops an index without closing it, as in a notebook, leaves no open files behind.
        weakref.finalize(self, _let_go, self._idle, self._pid).atexit = False

    @classmethod
    def open(cls, folder: Path) -> Connections:
        """For reading; raises ``StoreMissing`` where there is no file, or one without any commit."""
        try:
            connections = cls(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            require_own_file(folder)
            raise StoreMissing(f"There is no index in {folder}. Make one with: crossmodal index") from error
        except OSError as error:
            raise StoreError(
                f"{folder / INDEX_FILE} cannot be read ({error.strerror}). Give permission for it, or choose "
                "another folder with --workspace."
            ) from error
        if not connections.initialised:
            connections.close()
            raise StoreMissing(
                f"The index in {folder} was never finished and holds nothing. Run: crossmodal index"
            )
        return connections

    @classmethod
    def open_writer(cls, folder: Path) -> Connections:
        """For writing as well, by the one process that has the writer's lock; made if it is not there."""
        path = folder / INDEX_FILE
        try:
            # SQLite gives its log the same mode.
            touch_private(path)
        except IsADirectoryError:
            raise _no_file(path) from None
        except OSError as error:
            raise StoreUnwritable(
                f"{path} cannot be written ({error.strerror}). Make it writable, or choose another folder "
                "with --workspace."
            ) from error
        connections = cls(folder)
        try:
            with connections._named_errors():
                connections._writer = connections._open_writer()
            weakref.finalize(connections, _let_go, [connections._writer], os.getpid()).atexit = False
        except BaseException:
            connections.close()
            raise
        return connections

    @property
    def initialised(self) -> bool:
        """Whether anything was ever committed; not so where its maker was killed before. Raises StoreFormat
        for another program's file."""
        with self.read() as connection:
            return self.has_tables(connection)

    def has_tables(self, connection: Connection) -> bool:
        """The same, as ``connection`` sees it."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and tables:
            raise StoreFormat(
                f"{self.path} is an SQLite file, but not an index of this project. Choose another folder "
                "with --workspace."
            )
        return bool(application == APPLICATION_ID)

    @property
    def format(self) -> int:
        """The number of the format in which the index is stored, as ``schema.FORMAT``."""
        with self.read() as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        return int(found)

    def make_tables(self, connection: Connection) -> None:
        """Makes the tables of a new index, and notes its format, in a transaction of ``write``."""
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    @property
    def superseded(self) -> bool:
        """Whether the file was deleted or replaced since, or this was closed."""
        if self._closed:
            return True
        try:
            found = self.path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._file

    @contextmanager
    def read(self, *, once: bool = False) -> Iterator[SQLiteConnection]:
        """One consistent view of the last commit, usable to its end even where ``close`` comes before.

        Who asks ``once``, with a single statement, has one view without a transaction, in half the time.
        """
        with self._named_errors(), self._borrowed() as connection:
            if not once:
                connection.execute("BEGIN")
            try:
                yield connection
            finally:
                # An error may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[SQLiteConnection]:
        """One transaction, on disk at the end of the block, or wholly dropped by an exception."""
        connection = self._writer
        if self._closed or connection is None:
            raise StoreError(f"The index in {self.folder} is closed.")
        with self._named_errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def copy_to(self, path: Path, *, compacted: bool = False) -> None:
        """Copies the index as of one commit into the new file ``path``, while others read and write it.

        A ``compacted`` copy has no free space in it. Raises StoreUnwritable where ``path`` cannot be written.
        """
        with self._named_errors(), self._borrowed() as connection:
            try:
                touch_private(path)
                if compacted:
                    connection.execute("VACUUM INTO ?", (str(path),))
                    return
                # One view until all is copied, however often others commit meanwhile.
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM state").fetchone()
                with closing(sqlite3.connect(path)) as copy:
                    connection.backup(copy, pages=_PAGES_AT_ONCE)
            except (sqlite3.Error, OSError) as error:
                if getattr(error, "sqlite_errorname", "").startswith(_DAMAGED):
                    raise
                raise StoreUnwritable(
                    f"{path} cannot be written ({error}). Free some space, or choose another place."
                ) from error
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def empty_log(self) -> None:
        """Writes what is in the log into the file and gives its space back, as far as readers let that be."""
        if self._writer is None:
            return
        with suppress(sqlite3.Error):
            self._writer.execute(f"PRAGMA busy_timeout = {_LOG_WAIT_MS}")
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")

    def close(self) -> None:
        """Release the file, after what is being read; harmless when repeated, and in a forked child."""
        with self._lock:
            self._closed = True
            connections = [*self._idle, *([] if self._writer is None else [self._writer])]
            self._idle.clear()
        if self._pid == os.getpid():
            # Leaves one file behind, also where readers are still open, that a read-only disk can hold.
            self.empty_log()
            self._writer = None
        _let_go(connections, self._pid)

    @contextmanager
    def _borrowed(self) -> Iterator[SQLiteConnection]:
        with self._lock:
            if self._closed:
                raise StoreError(f"The index in {self.folder} is closed.")
            if self._pid != os.getpid():
                _let_go([*self._idle, *([] if self._writer is None else [self._writer])], self._pid)
                self._idle.clear()
                self._writer, self._pid = None, os.getpid()
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                with file_of(self.folder):
                    connection = self._connect("mode=ro")
                    # What opening leaves undone, this does.
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                    replaced = self.superseded and not self._closed
                if replaced:
                    connection.close()
                    raise StoreError(f"The index in {self.folder} was deleted or replaced; open it again.")
        except OSError as error:
            # No file handle is left, or the folder is gone.
            raise StoreError(f"{self.path} cannot be opened ({error.strerror}).") from error
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if not isinstance(error, sqlite3.OperationalError):
                raise
            with self._unshared() as connection:
                yield connection
            return
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _give_back(self, connection: SQLiteConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def _unshared(self) -> Iterator[SQLiteConnection]:
        """A connection without shared memory, for a full or read-only disk; keeps writers out meanwhile."""
        log = self.path.with_name(f"{INDEX_FILE}-wal")
        if not os.access(self.path, os.R_OK):
            raise StoreError(
                f"{self.path} cannot be read (Permission denied). Give permission for it, or choose another "
                "folder with --workspace."
            )
        if not is_being_written(self.folder) and log.exists() and log.stat().st_size:
            raise StoreError(
                f"The index in {self.folder} was not closed after its last change, and {log.name} cannot be "
                "taken over without permission to write. Open it once with that permission and some free "
                f"space, with: crossmodal status --workspace {self.folder}"
            )
        with no_writer(self.folder):
            connection = self._connect("mode=ro&immutable=1")
            try:
                yield connection
            finally:
                connection.close()

    def _open_writer(self) -> SQLiteConnection:
        connection = self._connect("mode=rw")
        try:
            # Before the first table; without effect later.
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            # Every commit is synced before it is acknowledged.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, parameters: str) -> SQLiteConnection:
        connection: SQLiteConnection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?{parameters}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            factory=SQLiteConnection,
            check_same_thread=False,
        )
        # In C: it is called for every text of every row.
        connection.text_factory = partial(str, encoding="utf-8", errors=_decoding_errors())
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # The file may come from others: it must not run anything, and damage is looked for.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except StoreDamaged as error:
            self.damage.note(error)
            raise
        except StoreFormat as error:
            if str(self.folder) in str(error):
                raise
            raise StoreFormat(f"{self.path} is damaged: {error}. {damage_advice(self.folder)}") from error
        except sqlite3.Error as error:
            raise self._named(error) from error

    def _named(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(_DAMAGED):
            # What cannot be read at all, SQLite calls damaged as well.
            return StoreFormat(
                f"{self.path} is damaged or its disk fails ({error}). {damage_advice(self.folder)}"
            )
        if name.startswith(_NO_LOCKS):
            return no_locks(self.folder, str(error))
        if name.startswith(_UNREADABLE):
            return StoreError(
                f"{self.path} cannot be read ({error}): the disk fails, or the file was cut off. Look at the "
                "disk; crossmodal verify tells what is damaged, and crossmodal restore brings a backup back."
            )
        free = shutil.disk_usage(self.folder).free
        if name.startswith(_FULL) or (name.startswith(_REFUSED) and free < _NEARLY_FULL_BYTES):
            reason = (
                "the disk is full"
                if free < _NEARLY_FULL_BYTES
                else f"{error}: the disk is full, a limit on the file size or a quota is reached, or it fails"
            )
            return StoreUnwritable(
                f"{self.path} cannot be written: {reason} ({free:,} bytes free now). Free some space, or "
                "choose another folder with --workspace; crossmodal verify tells whether the index is whole."
            )
        if name.startswith(_REFUSED):
            return StoreUnwritable(
                f"{self.path} cannot be written ({_refusal(self.folder) or error}). Give permission for "
                f"{self.folder} and what is in it, or choose another folder with --workspace."
            )
        return StoreError(f"{self.path} cannot be used ({error}).")


@cache
def _decoding_errors() -> str:
    """The name of a way to decode texts, as they are stored by ``storable``, that always gives a text.

    One with bytes that nothing here has written doesn't match its checksum afterwards.
    """
    whole = codecs.lookup_error("surrogatepass")

    def decode(error: UnicodeError) -> tuple[str | bytes, int]:
        try:
            return whole(error)
        except UnicodeDecodeError as damaged:
            return "\N{REPLACEMENT CHARACTER}", damaged.end

    name = "crossmodal-stored"
    codecs.register_error(name, decode)
    return name


def _let_go(connections: list[SQLiteConnection], pid: int) -> None:
    """Closes what the process ``pid`` opened; in one forked from it, keeps it open for ever."""
    if pid == os.getpid():
        for connection in connections:
            connection.close()
    else:
        _inherited.extend(connections)


def _no_file(path: Path) -> StoreFormat:
    return StoreFormat(
        f"{path} is a folder, or something else that is no file. Move it away, or choose another folder "
        "with --workspace."
    )


def _refusal(folder: Path) -> str | None:
    """What the system says of writing into ``folder``, which SQLite doesn't pass on."""
    probe = folder / f".{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror
    return None
