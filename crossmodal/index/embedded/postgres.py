"""Connections to a PostgreSQL database with the documents of an index, in the place of ``index.sqlite``.

The folder of such an index says in the file ``documents`` where that is, and else holds nothing that could
not be made again. Processes on any hosts write: each write transaction holds a lock of the database, so that
they come one after the other, and rows become visible in the order of their numbers.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.string import StrDumper, StrDumperUnknown

from crossmodal.errors import (
    DocumentsUnavailable,
    SettingsError,
    StoreDamaged,
    StoreError,
    StoreFormat,
    StoreLocked,
    StoreUnwritable,
)
from crossmodal.index.embedded.connections import UnusualText
from crossmodal.index.embedded.damage import DamageList
from crossmodal.index.embedded.dialect import Connection, Found
from crossmodal.index.embedded.postgres_dialect import (
    POSTGRES_SCHEMA,
    EncodedNumber,
    PostgreSQL,
    decoded,
    encoded,
    numbered,
)
from crossmodal.index.embedded.schema import DOCUMENTS_FILE, FORMAT
from crossmodal.index.objects import is_reference

__all__ = ["PostgresConnections"]

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 2
_LOCK_SECONDS = 30

# A writer that stands still, or whose host is gone, loses the lock after this.
_IDLE_SECONDS = 120

# Of the lock that each write transaction holds: "crsm".
_LOCK = 0x6372736D

_SETTINGS = (
    f"-c lock_timeout={_LOCK_SECONDS}s"
    " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)


class _TextDumper(StrDumperUnknown):
    def dump(self, obj: str) -> bytes:
        return encoded(obj).encode()


class _UnusualTextDumper(StrDumper):
    def dump(self, obj: Any) -> bytes:
        return encoded(obj.decode("utf-8", "surrogatepass")).encode()


class _NumberDumper(StrDumper):
    def dump(self, obj: str) -> bytes:
        return obj.encode()


class _TextLoader(Loader):
    format = Format.BINARY

    def load(self, data: Any) -> Any:
        return decoded(bytes(data).decode())


class _BytesLoader(Loader):
    format = Format.BINARY

    def load(self, data: Any) -> Any:
        held = bytes(data)
        return held.decode() if is_reference(held) else held


class _Connection:
    """A connection as ``dialect.Connection`` says."""

    dialect = PostgreSQL()

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw
        self._statements: dict[str, bytes] = {}

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Found:
        cursor = psycopg.RawCursor(self.raw)
        return cursor.execute(self._numbered(statement), values or None, binary=True)

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> None:
        if listed := list(values):
            psycopg.RawCursor(self.raw).executemany(self._numbered(statement), listed)

    def _numbered(self, statement: str) -> bytes:
        if (known := self._statements.get(statement)) is None:
            known = self._statements[statement] = numbered(statement).encode()
        return known


class PostgresConnections:
    """The database at ``address``, for the index in ``folder``; the counterpart of ``Connections``."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        try:
            self._conninfo = psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.Error as error:
            raise SettingsError(
                f"--documents cannot be used ({str(error).strip()}). Delete {folder / DOCUMENTS_FILE} to "
                "name another address."
            ) from error
        self.path = folder / DOCUMENTS_FILE
        self.damage = DamageList(folder)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False
        self._pid = os.getpid()
        self._let_go_later()

    @property
    def initialised(self) -> bool:
        """Whether the tables are there."""
        with self.read() as connection:
            return self.has_tables(connection)

    def has_tables(self, connection: Connection) -> bool:
        """Whether the tables are there, as ``connection`` sees it."""
        # Not by to_regclass: what that remembers may be older than this transaction's lock.
        found = connection.execute(
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'word_totals'"
        )
        return found.fetchone() is not None

    @property
    def format(self) -> int:
        """The number of the format of what is stored."""
        with self.read() as connection:
            found = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        return 0 if found is None else int(found[0])

    def make_tables(self, connection: Connection) -> None:
        """Makes the tables of a new index, and notes its format."""
        for statement in POSTGRES_SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))

    @property
    def superseded(self) -> bool:
        """Whether this was closed."""
        return self._closed

    @contextmanager
    def read(self, *, once: bool = False) -> Iterator[_Connection]:
        """One consistent view of the last commit."""
        with self._named_errors(), self._borrowed() as connection:
            if not once:
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    @contextmanager
    def write(self) -> Iterator[_Connection]:
        """One transaction, on disk at the end of the block, or wholly dropped by an exception."""
        with self._named_errors(), self._borrowed() as connection:
            connection.raw.execute(
                "BEGIN ISOLATION LEVEL READ COMMITTED;"
                f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'"
            )
            connection.execute("SELECT pg_advisory_xact_lock(?, hashtext(current_schema()))", (_LOCK,))
            yield connection
            connection.execute("COMMIT")

    def empty_log(self) -> None:
        """Nothing: the database sees to its own log."""

    def close(self) -> None:
        """Closes all connections; harmless when repeated, and in a forked child."""
        with self._lock:
            self._closed = True
            _let_go(self._idle, self._pid)

    def _let_go_later(self) -> None:
        # As of the file: who drops an index without closing it leaves no connections behind.
        self._finalizer = weakref.finalize(self, _let_go, self._idle, self._pid)
        self._finalizer.atexit = False

    @contextmanager
    def _borrowed(self) -> Iterator[_Connection]:
        with self._lock:
            if self._closed:
                raise StoreError(f"The index in {self.folder} is closed.")
            if self._pid != os.getpid():
                _let_go(self._idle, self._pid)
                self._pid = os.getpid()
                self._finalizer.detach()
                self._let_go_later()
            connection = self._idle.pop() if self._idle else None
        if connection is None or not _is_alive(connection):
            connection = self._connect()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _give_back(self, connection: _Connection) -> None:
        with suppress(psycopg.Error):
            if connection.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            with self._lock:
                if not self._closed and not connection.raw.closed:
                    self._idle.append(connection)
                    return
        connection.raw.close()

    def _connect(self) -> _Connection:
        given = self._conninfo.get("options") or ""
        raw = psycopg.connect(
            self.address,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            # Of what is sent to a host that went, nothing is confirmed.
            tcp_user_timeout=1000 * _CONNECT_SECONDS,
            # What is given here takes the place of what the address has, such as a search_path.
            options=f"{_SETTINGS} {given}",
            client_encoding="utf8",
            application_name="crossmodal",
        )
        for kind, dumper in (
            (str, _TextDumper),
            (UnusualText, _UnusualTextDumper),
            (EncodedNumber, _NumberDumper),
        ):
            raw.adapters.register_dumper(kind, dumper)
        raw.adapters.register_loader("text", _TextLoader)
        raw.adapters.register_loader("bytea", _BytesLoader)
        return _Connection(raw)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except StoreDamaged as error:
            self.damage.note(error)
            raise
        except psycopg.Error as error:
            raise self._named(error) from error

    def _named(self, error: psycopg.Error) -> StoreError:
        state, said = error.sqlstate or "", str(error).strip().split("\n")[0]
        where = self._conninfo
        place = f"The database {where.get('dbname', '')} at {where.get('host', 'this machine')}"
        if state.startswith("28") or "password" in said or "authentication" in said:
            return StoreUnwritable(
                f"{place} lets nobody in so ({said}). Name the user in --documents, and its password in "
                "$PGPASSWORD or ~/.pgpass."
            )
        if state == "3D000" or ("does not exist" in said and not state):
            return StoreError(f"{place} is not there ({said}). Make it with: createdb")
        if state == "55P03":
            return StoreLocked(
                f"{place} is being written by another process for {_LOCK_SECONDS} s. Try again."
            )
        if state.startswith(("53", "25006", "42501")):
            return StoreUnwritable(f"{place} cannot be written ({said}).")
        if state.startswith("XX"):
            return StoreFormat(f"{place} is damaged ({said}). Restore a backup of it, made by pg_dump.")
        if not state or state.startswith(("08", "57")):
            # Strangers see this sentence; where the database is concerns its operator.
            _logger.warning("%s is away: %s", place, said)
            return DocumentsUnavailable(
                "The database with the documents is away. Look whether its server runs; the log says which."
            )
        return StoreError(f"{place} cannot be used ({said}).")


def _is_alive(connection: _Connection) -> bool:
    """Whether a connection that lay idle can be used; one whose server was restarted cannot."""
    if connection.raw.closed:
        return False
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        connection.raw.close()
        return False
    return True


def _let_go(connections: list[_Connection], pid: int) -> None:
    """Closes what the process ``pid`` opened; in one forked from it, keeps it open for ever."""
    held, connections[:] = connections[:], []
    if pid != os.getpid():
        _inherited.extend(held)
        return
    for connection in held:
        connection.raw.close()


# A forked child must neither use nor close the connections of its parent.
_inherited: list[_Connection] = []
