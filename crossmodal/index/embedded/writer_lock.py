"""The lock that lets one process at a time write a store, and says which one that is."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crossmodal.errors import StoreLocked, StoreUnwritable
from crossmodal.private_files import PRIVATE_FILE

__all__ = [
    "LOCK_FILE",
    "WriterLock",
    "file_of",
    "is_being_written",
    "no_locks",
    "no_writer",
    "wait_for_writer",
]

LOCK_FILE = "writer.lock"

# A reader that cannot share memory with writers holds the lock for the length of one read, so a refusal is
# tried again for a moment before it counts.
_PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.01
_WAIT_SECONDS = 0.1

_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


@functools.cache
def _forget_in_forked_children() -> None:
    """A forked child shares its parent's locks; it must not keep them alive after the parent has ended."""

    def forget() -> None:
        for lock in list(_held):
            lock.forget()

    os.register_at_fork(after_in_child=forget)


# What file systems without locks answer: some shared ones (NFS, SMB) and some made of other storage.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def no_locks(folder: Path, said: str | None) -> StoreUnwritable:
    """The error that says that the file system of ``folder`` has no locks."""
    return StoreUnwritable(
        f"The file system of {folder} has no locks ({said}), as shared ones (NFS, SMB) may lack them, and "
        "without them an index cannot be kept whole. Put the workspace on a local disk, with --workspace."
    )


def _lock(descriptor: int, how: int, folder: Path) -> None:
    """Locks without waiting; raises BlockingIOError where another has it, StoreUnwritable without locks."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise no_locks(folder, error.strerror) from error
        raise


def _holder(descriptor: int) -> str:
    pid, _, command = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip().partition("\n")
    if not pid:
        return "another process"
    if pid == str(os.getpid()):
        return f"this very process (pid {pid})"
    return f"process {pid} ({command})" if command else f"process {pid}"


class WriterLock:
    """An exclusive ``flock`` on ``writer.lock``; the kernel releases it however the holder ends.

    The file keeps its holder's process id and command, and stays behind (unlocked) afterwards: removing it
    would let two processes lock two different files of the same name.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_FILE
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise StoreUnwritable(
                f"{path} cannot be written ({error.strerror}). Give write permission to {folder}, or choose "
                "another folder with --workspace."
            ) from error
        self._path = path
        self._pid = os.getpid()
        try:
            self._acquire(folder)
        except BaseException:
            os.close(self._descriptor)
            raise
        _held.add(self)
        _forget_in_forked_children()

    def _acquire(self, folder: Path) -> None:
        patience = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                _lock(self._descriptor, fcntl.LOCK_EX, folder)
                break
            except BlockingIOError:
                if time.monotonic() > patience:
                    raise StoreLocked(
                        f"{folder} is being written by {_holder(self._descriptor)}. Wait until it has "
                        "finished or stop it, or choose another folder with --workspace."
                    ) from None
                time.sleep(_POLL_SECONDS)
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n{' '.join(sys.argv)[:1000]}\n".encode(), 0)
        except OSError as error:
            raise StoreUnwritable(
                f"{folder / LOCK_FILE} cannot be written ({error.strerror}). Free some space, or choose "
                "another folder with --workspace."
            ) from error

    @property
    def held(self) -> bool:
        """Whether the locked file is still the one that others would lock."""
        try:
            mine, found = os.fstat(self._descriptor), self._path.stat()
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)

    def forget(self) -> None:
        """Close this process's descriptor without unlocking what a forked relative still holds."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def release(self) -> None:
        """Let the next writer in; does nothing the second time, or in a forked child."""
        if self._descriptor >= 0 and self._pid == os.getpid():
            os.ftruncate(self._descriptor, 0)
            self.forget()


@contextmanager
def file_of(folder: Path, *, replace: bool = False) -> Iterator[None]:
    """Held while the index's file is opened, and, with ``replace``, while another takes its place.

    SQLite finds the files beside it by their names: who opens one in that moment would share those of the
    other. A file system without locks is told of elsewhere.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX if replace else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def wait_for_writer(folder: Path, seconds: float) -> None:
    """Returns once no process writes the index in ``folder``, or after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and is_being_written(folder):
        time.sleep(_WAIT_SECONDS)


@contextmanager
def no_writer(folder: Path) -> Iterator[None]:
    """Keeps writers out while the caller reads without sharing memory with them.

    Raises ``StoreLocked`` if one is at work.
    """
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            _lock(descriptor, fcntl.LOCK_SH, folder)
        except BlockingIOError:
            raise StoreLocked(
                f"{folder} is being written by {_holder(descriptor)}, and reading beside a writer needs "
                "permission to write there. Give that permission, or wait until it has finished."
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_being_written(folder: Path) -> bool:
    """Whether a process holds the writer's lock at this moment."""
    try:
        with no_writer(folder):
            return False
    except StoreLocked:
        return True
