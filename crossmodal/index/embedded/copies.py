"""Whole copies of an index: backups, what is restored from them, and the compacted file.

A copy is written beside its place, checked in full, and only then renamed to its name. So a name stands for a
whole and sound index, or for nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_IMODE

from crossmodal.errors import StoreError, StoreFormat, StoreUnwritable
from crossmodal.index.embedded.connections import Connections, require_own_file, sync_folder
from crossmodal.index.embedded.objects import ObjectPlaces, read_places, write_places
from crossmodal.index.embedded.schema import INDEX_FILE
from crossmodal.index.embedded.sqlite_dialect import SQLiteConnection
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.writer_lock import LOCK_FILE, WriterLock, file_of
from crossmodal.private_files import make_private_folder, touch_private

__all__ = [
    "back_up",
    "compact",
    "made_beside",
    "publish",
    "replace_by_copy",
    "require_absent",
    "require_whole",
    "restore",
]

_FOLDER = "derived"

# Beyond the size of the copy: the files beside it while it is checked.
_SPARE_BYTES = 1 << 20


def back_up(folder: Path, target: Path) -> int:
    """Copies the index in ``folder`` as of one commit to the file ``target``; returns its bytes.

    Others may read and write the index meanwhile. Raises StoreMissing, StoreFormat where the index is
    damaged, StoreError where ``target`` exists, StoreUnwritable.
    """
    require_absent(target)
    connections = Connections.open(folder)
    with closing(connections), made_beside(target) as made:
        _require_space(made, _bytes_of(folder))
        connections.copy_to(made / INDEX_FILE)
        _prepare(made / INDEX_FILE)
        _require_sound(made, f"The copy of the index in {folder}")
        return publish(made / INDEX_FILE, target)


def restore(backup: Path, folder: Path, *, replace: bool = False) -> None:
    """Makes the file ``backup`` the index in ``folder``, under a new identity.

    With ``replace`` it takes the place of the index that is there, also while that is searched. Raises
    StoreError where there is one otherwise, or no backup; StoreFormat where the backup is no sound index of
    today's format; StoreLocked; StoreUnwritable.
    """
    if not backup.is_file():
        raise StoreError(f"There is no backup {backup}.")
    require_own_file(folder)
    target = folder / INDEX_FILE
    if not replace and target.exists():
        raise StoreError(
            f"There is an index in {folder} already. Give --replace to put the backup in its place, or "
            "choose another folder with --workspace."
        )
    with made_beside(target) as made, _writing(folder):
        _require_space(made, backup.stat().st_size)
        try:
            touch_private(made / INDEX_FILE)
            shutil.copyfile(backup, made / INDEX_FILE)
        except OSError as error:
            raise StoreUnwritable(
                f"{backup} cannot be copied into {folder} ({error.strerror}). Free some space, or choose "
                "another folder with --workspace."
            ) from error
        _require_sound(made, f"The backup {backup}")
        # Who knows the index that this is a copy of must not take later commits of it for the other's.
        _prepare(made / INDEX_FILE, id=uuid.uuid4().hex, replaces=_object_places(folder))
        if target.exists():
            # What is replaced may be damaged.
            with suppress(StoreError):
                Connections.open_writer(folder).close()
        _take_the_place(made / INDEX_FILE, folder)
        shutil.rmtree(folder / _FOLDER, ignore_errors=True)


def compact(folder: Path) -> tuple[int, int]:
    """Gives the space of what was deleted back to the disk; returns the bytes before and after.

    Others may read meanwhile. Raises StoreFormat where the index is damaged, which is left as it is,
    StoreLocked, and StoreUnwritable, also where the disk has no space for the copy.
    """
    Connections.open(folder).close()
    with _copied(folder, compacted=True) as copy:
        before = _bytes_of(folder)
        _prepare(copy)
        _require_sound(copy.parent, f"The compacted copy of the index in {folder}")
        _take_the_place(copy, folder)
    return before, _bytes_of(folder)


def replace_by_copy(folder: Path, change: Callable[[Path], None]) -> None:
    """Makes a copy of the index in ``folder`` that ``change`` has worked on the index, under a new identity.

    Others may read meanwhile; they open the new one when they ask next. What is damaged in the index stays
    damaged. Raises StoreLocked, StoreUnwritable, and what ``change`` raises; then the index is as it was.
    """
    with _copied(folder) as copy:
        change(copy)
        _prepare(copy, id=uuid.uuid4().hex)
        _take_the_place(copy, folder)
        shutil.rmtree(folder / _FOLDER, ignore_errors=True)


@contextmanager
def _copied(folder: Path, *, compacted: bool = False) -> Iterator[Path]:
    """A copy of the index that may take its place, which nobody can write to until then."""
    with made_beside(folder / INDEX_FILE) as made, _writing(folder):
        connections = Connections.open_writer(folder)
        with closing(connections):
            with connections.read() as connection:
                pages, free, size = (
                    connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("page_count", "freelist_count", "page_size")
                )
            _require_space(made, (pages - free if compacted else pages) * size)
            connections.copy_to(made / INDEX_FILE, compacted=compacted)
        if _log(folder).exists() and _log(folder).stat().st_size:
            # Without its log, which goes, the index of before would not be whole if this ended here.
            raise StoreError(
                f"The index in {folder} is being read at this moment by a search or a copy that takes long; "
                f"{'compact' if compacted else 'convert'} it again when that has ended."
            )
        yield made / INDEX_FILE


def require_absent(target: Path) -> None:
    """Raises StoreError where there is something at ``target``."""
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} exists; delete it, or choose another name.")


@contextmanager
def made_beside(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` in which it is made; deleted at the end, or by the next one after a kill.

    Raises StoreUnwritable, and StoreLocked where another process makes the same.
    """
    folder = target.with_name(f"{target.name}.making")
    try:
        # Such as a workspace that there was none of.
        make_private_folder(folder.parent)
        make_private_folder(folder)
    except OSError as error:
        raise StoreUnwritable(
            f"{target} cannot be written ({error.strerror}). Give write permission or free some space, or "
            "choose another place."
        ) from error
    lock = WriterLock(folder)
    try:
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK_FILE:
                left.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def publish(made: Path, target: Path) -> int:
    """Gives the synced file ``made`` its name, where nothing has that yet; returns its bytes."""
    try:
        descriptor = os.open(made, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # Unlike a rename, never over another file.
            os.link(made, target)
        except FileExistsError:
            require_absent(target)
        except OSError:
            # A file system without links.
            require_absent(target)
            made.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreUnwritable(
            f"{target} cannot be written ({error.strerror}). Free some space, or choose another place."
        ) from error
    return target.stat().st_size


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    lock = WriterLock(folder)
    try:
        yield
    finally:
        lock.release()


def _take_the_place(made: Path, folder: Path) -> None:
    """Puts the index ``made`` in the place of the one in ``folder``; the caller has the writer's lock."""
    with file_of(folder, replace=True):
        # They belong to the file of before; who still reads that has them open.
        for name in (_log(folder), folder / f"{INDEX_FILE}-shm"):
            name.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            # Whoever may read the index of before may read this one.
            made.chmod(S_IMODE((folder / INDEX_FILE).stat().st_mode))
        made.rename(folder / INDEX_FILE)
    sync_folder(folder)


def _log(folder: Path) -> Path:
    return folder / f"{INDEX_FILE}-wal"


def _prepare(file: Path, *, id: str | None = None, replaces: ObjectPlaces | None = None) -> None:
    """Makes a copied file an index like any other, on disk: in WAL mode, perhaps under a new identity.

    One that ``replaces`` another index, or lies where none was, goes on with the object folders of that one.
    """
    try:
        with closing(sqlite3.connect(file, isolation_level=None, factory=SQLiteConnection)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            if id is not None:
                connection.execute("UPDATE meta SET value = ? WHERE name = 'id'", (id,))
            if replaces is not None:
                write_places(connection, read_places(connection).instead_of(replaces))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise StoreUnwritable(
            f"{file} cannot be written ({error}). Free some space, or choose another place."
        ) from error
    require_whole(file.parent)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _object_places(folder: Path) -> ObjectPlaces:
    """Where the index in ``folder`` has its objects, as far as there is one that can be read."""
    try:
        with closing(Connections.open(folder)) as connections, connections.read() as connection:
            return read_places(connection)
    except StoreError:
        return ObjectPlaces()


def require_whole(folder: Path) -> None:
    """Raises StoreUnwritable where a part of the index is still in its log, for a reader or a full disk."""
    if _log(folder).exists() and (left := _log(folder).stat().st_size):
        raise StoreUnwritable(
            f"The new index in {folder} is not in one file yet ({_log(folder).name} has {left:,} bytes): the "
            "disk is full, or another process reads it. What was there before is untouched; free some space "
            "and try again."
        )


def _require_sound(folder: Path, what: str) -> None:
    try:
        with EmbeddedStore.open_reader(folder) as copy:
            # Its objects are no part of it.
            found = copy.verify(objects=False)
    except StoreError as error:
        found = [str(error)]
    if found:
        more = f", and {len(found) - 1:,} more" if len(found) > 1 else ""
        raise StoreFormat(
            f"{what} is not sound, so it was dropped: {found[0]}{more}. crossmodal verify names all that is "
            "damaged, and indexing it again repairs what it names."
        )


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise StoreUnwritable(
            f"The copy in {shlex.quote(str(folder.parent))} needs {needed + _SPARE_BYTES:,} bytes, and "
            f"{free:,} are free. Free some space, or choose another place."
        )


def _bytes_of(folder: Path) -> int:
    size = 0
    for name in (INDEX_FILE, f"{INDEX_FILE}-wal"):
        with suppress(FileNotFoundError):
            size += (folder / name).stat().st_size
    return size
