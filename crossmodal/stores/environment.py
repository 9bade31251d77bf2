"""One LMDB environment: opening it safely, sharing it inside a process, and naming its errors."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lmdb

from crossmodal.errors import StoreError, StoreFormat, StoreMissing, StoreUnwritable
from crossmodal.stores.file_check import (
    DATA_FILE,
    check_data_file,
    damage_advice,
    is_blank,
)
from crossmodal.stores.writer_lock import no_writer

__all__ = ["DATABASES", "Environment"]

# The names of the trees inside an environment; see store.py for what each one holds.
DATABASES = ("meta", "ids", "documents", "contents", "thumbnails", "captions", "blocks", "dead", "deaths")

# Trees with several values under one key.
_WITH_DUPLICATES = ("captions",)

# The largest size a store can grow to. LMDB reserves this much address space (of 128 TiB on 64-bit Linux),
# neither memory nor disk; the file is as long as what is in it. So there is never a map to be resized under
# readers.
_MAP_SIZE = 1 << 40

# One slot of 64 bytes for each process and thread reading at one moment, after a header of less than 1 KiB.
_MAX_READERS = 1024
_LOCK_FILE_BYTES = 64 * _MAX_READERS + 1024

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NO_PERMISSION = (errno.EROFS, errno.EACCES, errno.EPERM)
_NEARLY_FULL_BYTES = 1 << 20

_open_environments: dict[tuple[int, int, int], Environment] = {}
_opening = threading.RLock()


def _reserve_lock_file(folder: Path) -> bool:
    """Give LMDB's table of readers its disk space; False if this process can't write it.

    LMDB maps the file sparse, so on a full disk its first touch would end the process with SIGBUS.
    """
    try:
        descriptor = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, _LOCK_FILE_BYTES)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _engine(data_file: Path) -> dict[str, Any]:
    """LMDB 0.9 for a new file, whatever ``LMDB_DEFAULT_LIB_VERSION`` says; else the file's own."""
    return {"lib_version": 0} if data_file.stat().st_size == 0 else {}


class Environment:
    """An open LMDB environment, one for each folder in a process however many stores use it.

    LMDB must not be opened twice in one process: its locks belong to the process, and closing one would
    release the other's.
    """

    def __init__(self, folder: Path, key: tuple[int, int, int]) -> None:
        self.folder = folder
        self._key = key
        self._users = 0
        data_file = folder / DATA_FILE
        self._registered = _reserve_lock_file(folder)
        self._readonly = not os.access(data_file, os.W_OK)
        with self._named_errors():
            self._lmdb = lmdb.open(
                str(folder),
                map_size=_MAP_SIZE,
                max_dbs=len(DATABASES),
                max_readers=_MAX_READERS,
                readonly=self._readonly,
                lock=self._registered,
                create=False,
                meminit=False,
                max_spare_txns=1,
                **_engine(data_file),
            )
            if self._registered:
                self._lmdb.reader_check()
            # The handle of each of ``DATABASES``.
            self.databases: dict[str, Any] = {}
            self._find_databases()

    def _find_databases(self) -> None:
        # Handles last only if their transaction is committed, and py-lmdb commits no reading transaction of
        # ours: so they are opened in an empty writing one, all at once, to wait for a busy writer only once.
        with nullcontext() if self._readonly else self._lmdb.begin(write=True) as transaction:
            for name in DATABASES:
                try:
                    self.databases[name] = self._lmdb.open_db(name.encode(), txn=transaction, create=False)
                except (lmdb.NotFoundError, lmdb.ReadonlyError):
                    # A store of another format may lack a tree; then its format is what there is to say.
                    if name == "meta":
                        return

    @classmethod
    def open(cls, folder: Path, *, create: bool) -> Environment:
        """The environment in ``folder``, the one that this process has open already if there is one.

        Raises ``StoreMissing``, ``StoreFormat`` (damaged) or ``StoreUnwritable`` (cannot be created).
        """
        data_file = folder / DATA_FILE
        with _opening:
            try:
                if create:
                    # LMDB then finds an empty file and takes it for a new environment.
                    os.close(os.open(data_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
                blank = is_blank(data_file)
                found = data_file.stat()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StoreMissing(
                    f"There is no index in {folder}. Make one with: crossmodal index"
                ) from error
            except OSError as error:
                kind = StoreUnwritable if create else StoreError
                raise kind(
                    f"{data_file} cannot be {'written' if create else 'read'} ({error.strerror}). Give "
                    "permission for it, or choose another folder with --workspace."
                ) from error
            if blank and not create:
                raise StoreMissing(
                    f"The index in {folder} was never finished and holds nothing. Run: crossmodal index"
                )
            key = (os.getpid(), found.st_dev, found.st_ino)
            environment = _open_environments.get(key)
            if environment is None:
                if found.st_size > 0:
                    check_data_file(data_file)
                environment = _open_environments[key] = cls(folder, key)
            environment._users += 1
            return environment

    @property
    def initialised(self) -> bool:
        """Whether the trees exist; not so if its maker was killed before the first commit."""
        with _opening:
            if not self.databases:
                self._find_databases()
            return bool(self.databases)

    @property
    def blank(self) -> bool:
        """Whether nothing was ever committed to it."""
        with self._named_errors():
            return bool(self._lmdb.stat()["entries"] == 0)

    def close(self) -> None:
        """Give back one ``open``; the files are closed after the last one, and the last ``read`` under way.

        A forked child leaves its parent's alone.
        """
        with _opening:
            self._users -= 1
            if self._users == 0 and self._key[0] == os.getpid():
                del _open_environments[self._key]
                self._lmdb.close()

    def is_in(self, folder: Path) -> bool:
        """Whether the file that is open here is still the one in ``folder``."""
        try:
            found = (folder / DATA_FILE).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._key[1:]

    @contextmanager
    def read(self) -> Iterator[Any]:
        """A consistent view of the last commit; values are memory views that end with it."""
        # Other threads may close the store meanwhile, and a view into a file that is no longer mapped would
        # end the process.
        with _opening:
            if self._users == 0:
                raise StoreError(f"The store {self.folder} is closed.")
            self._users += 1
        try:
            with (
                nullcontext() if self._registered else no_writer(self.folder),
                self._named_errors(),
                self._lmdb.begin(buffers=True) as transaction,
            ):
                yield transaction
        finally:
            self.close()

    def require_writable(self) -> None:
        """Raise ``StoreUnwritable`` if this process can only read."""
        if self._readonly:
            raise StoreUnwritable(
                f"{self.folder / DATA_FILE} is read-only. Make it writable, or choose another folder with "
                "--workspace."
            )
        if not self._registered:
            raise StoreUnwritable(
                f"{self.folder / 'lock.mdb'} cannot be written: the disk is full, or permission is missing. "
                "Free some space or give that permission, or choose another folder with --workspace."
            )

    @contextmanager
    def write(self) -> Iterator[Any]:
        """One transaction, committed and synced at the end of the block or wholly dropped by an exception."""
        with self._named_errors():
            with self._lmdb.begin(write=True, buffers=True) as transaction:
                yield transaction
            self._pad()

    def create_databases(self, transaction: Any) -> None:
        """Make the trees as part of ``transaction``; they are usable by others after its commit."""
        for name in DATABASES:
            self.databases[name] = self._lmdb.open_db(
                name.encode(), txn=transaction, dupsort=name in _WITH_DUPLICATES
            )

    def _pad(self) -> None:
        """Make the file as long as its header says, which LMDB doesn't if the last pages are free ones."""
        needed = (self._lmdb.info()["last_pgno"] + 1) * self._lmdb.stat()["psize"]
        data_file = self.folder / DATA_FILE
        if data_file.stat().st_size < needed:
            os.truncate(data_file, needed)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        data_file = self.folder / DATA_FILE
        try:
            yield
        except StoreFormat as error:
            if str(self.folder) in str(error):
                raise
            raise StoreFormat(f"{data_file} is damaged: {error}. {damage_advice(self.folder)}") from error
        except lmdb.MapFullError as error:
            raise StoreUnwritable(
                f"{data_file} has reached the largest size of a store, {_MAP_SIZE:,} bytes. "
                "Spread the index over more shards with JINA_SHARDS."
            ) from error
        except (
            lmdb.CorruptedError,
            lmdb.PageNotFoundError,
            lmdb.InvalidError,
            lmdb.VersionMismatchError,
            lmdb.IncompatibleError,
        ) as error:
            raise StoreFormat(f"{data_file} is damaged ({error}). {damage_advice(self.folder)}") from error
        except lmdb.BadRslotError as error:
            raise StoreError(
                f"The locks on {self.folder} were lost: this process has opened and closed a file in it by "
                "other means, to copy it for example. Open the index anew, and copy it in another process."
            ) from error
        except lmdb.ReadersFullError as error:
            raise StoreError(
                f"{data_file} is being read by {_MAX_READERS} processes and threads at once, which is the "
                "limit. Stop some of them."
            ) from error
        except (lmdb.Error, OSError) as error:
            raise self._system_error(error) from error

    def _system_error(self, error: Exception) -> StoreError:
        """LMDB passes the operating system's errors on as text, and a short write as EIO."""
        data_file = self.folder / DATA_FILE
        number = getattr(error, "errno", None) or getattr(error, "code", None)
        text = str(error)

        def matches(numbers: tuple[int, ...]) -> bool:
            return number in numbers or any(os.strerror(one) in text for one in numbers)

        if isinstance(error, lmdb.DiskError | lmdb.PanicError) or matches(_NO_SPACE):
            free = shutil.disk_usage(self.folder).free
            if free < _NEARLY_FULL_BYTES:
                return StoreUnwritable(
                    f"{data_file} cannot be written: the disk is full ({free:,} bytes free). Free some "
                    "space, or choose another folder with --workspace; what was indexed before is intact."
                )
            return StoreUnwritable(
                f"{data_file} cannot be written ({text}): the disk is full, a limit on the file size or a "
                f"quota is reached ({free:,} bytes free now), or the disk fails. Free some space, or choose "
                "another folder with --workspace; what was indexed before is intact."
            )
        if isinstance(error, lmdb.ReadonlyError) or matches(_NO_PERMISSION):
            return StoreUnwritable(
                f"{data_file} cannot be opened ({text}). Give permission for {self.folder} and what is in "
                "it, or choose another folder with --workspace."
            )
        return StoreError(f"{data_file} cannot be used ({text}).")
