"""How a gateway asks the process that started it for an index Flow: a socket that only its own user can use.

A connection is a lease. Whoever writes opens one and is told, in one line of JSON, the port of the index
Flow, or what kept it from starting; for as long as the connection is open, the Flow runs. Should either end
die, the connection closes, and nothing has to be cleaned up: the address is a name of Linux's abstract
namespace, not a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import selectors
import socket
import struct
import weakref
from functools import cache

from crossmodal.errors import (
    CrossmodalError,
    ModelError,
    ModelMismatch,
    ServiceError,
    StoreError,
    StoreFormat,
    StoreLocked,
    StoreUnwritable,
)

__all__ = ["Lease", "LeaseServer", "open_lease"]

# An abstract name begins with NUL, which not every way of passing a text on would survive.
_ABSTRACT = "\0"

_ERRORS = {
    kind.__name__: kind
    for kind in (
        *(StoreLocked, StoreUnwritable, StoreFormat, StoreError),
        *(ModelMismatch, ModelError, ServiceError),
    )
}

# struct ucred: process id, user id, group id; see unix(7).
_CREDENTIALS = struct.Struct("3i")

_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class LeaseServer:
    """The end of the process that starts the index Flow; all of it happens in the calls of its methods."""

    def __init__(self) -> None:
        self.address = f"crossmodal-{secrets.token_hex(16)}"
        self._listening = _not_inherited(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self._listening.bind(_ABSTRACT + self.address)
        self._listening.listen()
        self._listening.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        # Whether each lease has been answered.
        self._leases: dict[socket.socket, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._leases)

    @property
    def waiting(self) -> bool:
        """Whether a lease has not been answered yet."""
        return not all(self._leases.values())

    def wait(self, seconds: float) -> None:
        """Takes up new leases and drops those that were given back, for at most so many seconds."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listening:
                with contextlib.suppress(BlockingIOError):
                    self._accept(self._listening.accept()[0])
            elif isinstance(key.fileobj, socket.socket):
                self._read(key.fileobj)

    def grant(self, port: int) -> None:
        """Tells every lease that waits where the index Flow listens."""
        for lease in self._unanswered():
            self._answer(lease, {"port": port})

    def refuse(self, error: CrossmodalError) -> None:
        """Tells every lease that waits why there is none, and ends it."""
        for lease in self._unanswered():
            self._answer(lease, {"error": type(error).__name__, "message": str(error)})
            self._drop(lease)

    def stop_listening(self) -> None:
        """Takes up no more leases."""
        if self._listening.fileno() >= 0:
            self._selector.unregister(self._listening)
            self._listening.close()

    def end_leases(self) -> None:
        """Closes every lease: its index Flow is no more."""
        for lease in list(self._leases):
            self._drop(lease)

    def close(self) -> None:
        """Closes every lease and the address."""
        self.end_leases()
        self.stop_listening()
        self._selector.close()

    def _accept(self, lease: socket.socket) -> None:
        _, user, _ = _CREDENTIALS.unpack(
            lease.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if user != os.getuid():
            lease.close()
            return
        lease.setblocking(False)
        self._leases[_not_inherited(lease)] = False
        self._selector.register(lease, selectors.EVENT_READ)

    def _read(self, lease: socket.socket) -> None:
        try:
            given_back = not lease.recv(1)
        except BlockingIOError:
            return
        except OSError:
            given_back = True
        if given_back:
            self._drop(lease)

    def _answer(self, lease: socket.socket, answer: dict[str, object]) -> None:
        self._leases[lease] = True
        # Whoever has gone away is dropped as soon as its end is read.
        with contextlib.suppress(OSError):
            lease.sendall(json.dumps(answer).encode() + b"\n")

    def _unanswered(self) -> list[socket.socket]:
        return [lease for lease, answered in self._leases.items() if not answered]

    def _drop(self, lease: socket.socket) -> None:
        del self._leases[lease]
        self._selector.unregister(lease)
        lease.close()


class Lease:
    """The gateway's end: the index Flow on the local ``port`` runs until ``give_back`` or ``ended``."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self._writer = writer
        self._end = asyncio.ensure_future(_end_of(reader))

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when the index Flow has ended by itself."""
        return self._end

    def give_back(self) -> None:
        """Lets the index Flow end, unless others hold it."""
        self._end.cancel()
        self._writer.close()


async def open_lease(address: str) -> Lease:
    """A lease from the ``LeaseServer`` at ``address``, as soon as the index Flow runs.

    Raises what kept it from running, such as StoreLocked, and ServiceError where nobody answers.
    """
    connecting = _not_inherited(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    connecting.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connecting, _ABSTRACT + address)
        reader, writer = await asyncio.open_unix_connection(sock=connecting)
    except OSError as error:
        connecting.close()
        raise ServiceError(
            f"The process that starts the index Flow does not answer ({error.strerror}); "
            "start the server again."
        ) from error
    try:
        line = await _line_of(reader)
        if not line:
            raise ServiceError("The index Flow ended while it was starting; try again.")
        answer = json.loads(line)
        if "error" in answer:
            raise _ERRORS.get(answer["error"], ServiceError)(answer["message"])
    except BaseException:
        writer.close()
        raise
    return Lease(answer["port"], reader, writer)


async def _line_of(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.readline()
    return b""


async def _end_of(reader: asyncio.StreamReader) -> None:
    while await _line_of(reader):
        continue


def _not_inherited(held: socket.socket) -> socket.socket:
    """``held``, which processes forked from here close: a copy of theirs would keep it open for ever."""
    _close_in_children()
    _sockets.add(held)
    return held


# A hook cannot be taken back, so there is one however many sockets are held.
@cache
def _close_in_children() -> None:
    os.register_at_fork(after_in_child=_close_inherited)


def _close_inherited() -> None:
    for held in list(_sockets):
        held.close()
