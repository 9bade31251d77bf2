"""Connections to a serving process: how many there may be, and how long each may take to say what it wants.

uvicorn waits for the headers of a request and for its body as long as a client likes. Here one look a second
at all connections closes those that are silent or send a byte at a time, and those that never read their
answer.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crossmodal.hosts import is_loopback

__all__ = ["Connections", "limited_handshakes", "limited_protocol", "raise_file_limit"]

# From the connection, or from the first byte of a later request, to the end of the headers; a TLS handshake
# may take as long before that.
HEADER_SECONDS = 10.0
HEADER_BYTES = 64 << 10

# Between two requests of a connection.
IDLE_SECONDS = 30

# A body, while the server is ready to read it, has to bring so many bytes in each window.
BODY_WINDOW_SECONDS = 15.0
BODY_BYTES_A_WINDOW = 8 << 10

# An answer of which the client takes nothing for so long is given up.
ANSWER_SECONDS = 30.0

# In all, and from one address; this machine's own programs, a proxy among them, share what there is.
MOST = 4096
MOST_FROM_ONE = 256

_LOOK_SECONDS = 1.0

# What is written in one turn of the event loop is sent together, up to so many bytes.
_TOGETHER_BYTES = 64 << 10

# Files that the index, its originals and the pipes of a serving process need.
_OTHER_FILES = 256

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"
)
_BUSY_BODY = (
    b'{"type":"/problems/503","title":"The server is not ready","status":503,'
    b'"detail":"There are too many connections; try again in a moment."}'
)


def raise_file_limit() -> int:
    """Lets this process open more files where that is allowed; how many connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft - _OTHER_FILES))


class Connections:
    """All connections of one serving process; ``most`` of them, and ``most_from_one`` address."""

    def __init__(self, most: int = MOST, most_from_one: int = MOST_FROM_ONE) -> None:
        self.most = most
        self._most_from_one = most_from_one
        self._open: dict[Any, None] = {}
        self._from: Counter[str] = Counter()
        self._looking: asyncio.TimerHandle | None = None
        self.refused = 0
        self.closed = 0

    def admit(self, protocol: Any, address: str | None) -> bool:
        """Whether another connection may come from ``address``; None is a socket file.

        Where all are taken, the one that has waited longest without a request makes room.
        """
        if address is not None and not is_loopback(address) and self._from[address] >= self._most_from_one:
            self.refused += 1
            return False
        if len(self._open) >= self.most:
            idle = next((other for other in self._open if not other.in_request), None)
            if idle is None:
                self.refused += 1
                return False
            self.end(idle)
        self._open[protocol] = None
        if address is not None:
            self._from[address] += 1
        if self._looking is None:
            self._look_later()
        return True

    def end(self, protocol: Any) -> None:
        """Closes a connection at once, whatever it has still to send."""
        self.closed += 1
        protocol.transport.abort()

    def forget(self, protocol: Any, address: str | None) -> None:
        """Notes that a connection has ended."""
        if protocol in self._open:
            del self._open[protocol]
            if address is not None:
                self._from[address] -= 1
                self._from += Counter()

    def status(self) -> dict[str, int]:
        """How many are ``open``, the ``most`` there may be, and how many were ``refused`` and ``closed``."""
        return {"open": len(self._open), "most": self.most, "refused": self.refused, "closed": self.closed}

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = None
        now = time.monotonic()
        for protocol in list(self._open):
            if protocol.overdue(now):
                self.end(protocol)
        if self._open:
            self._look_later()


@contextmanager
def limited_handshakes() -> Iterator[None]:
    """Makes servers that the event loop creates meanwhile close connections whose TLS handshake takes long.

    asyncio tells the protocol of a connection only after the handshake, for which it gives a minute; uvicorn
    has no option for that.
    """
    loop: Any = asyncio.get_running_loop()
    create = loop.create_server

    async def limited(*arguments: Any, ssl: Any = None, **options: Any) -> Any:
        seconds = HEADER_SECONDS if ssl else None
        return await create(*arguments, ssl=ssl, ssl_handshake_timeout=seconds, **options)

    loop.create_server = limited
    try:
        yield
    finally:
        del loop.create_server


class _Together:
    """A transport that sends together what is written in one turn of the event loop.

    uvicorn writes the head of an answer and its body one after the other, and each would be a packet, a call
    of the system, and something that wakes the client up.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends ``data`` when the event loop comes around, at once where much is waiting."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._bytes += len(data)
        if self._bytes > _TOGETHER_BYTES:
            self._send()

    def close(self) -> None:
        """Sends what is waiting, and closes the connection once that has gone."""
        self._send()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """How many bytes were written and not sent."""
        return self._bytes + int(self._transport.get_write_buffer_size())

    def _send(self) -> None:
        held, self._held, self._bytes = self._held, [], 0
        # Its client may have gone meanwhile.
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))


def limited_protocol(protocol: Any, connections: Connections) -> Any:
    """uvicorn's class ``protocol`` for HTTP, with connections that keep to the limits of ``connections``."""

    class Limited(protocol):  # type: ignore[misc]  # uvicorn is not looked into
        """One connection."""

        def connection_made(self, transport: Any) -> None:
            """Takes a connection, or refuses it with a 503."""
            peer = transport.get_extra_info("peername")
            self._address: str | None = peer[0] if isinstance(peer, tuple) else None
            self._waiting_since: float | None = time.monotonic()
            self._header_bytes = 0
            self._window_since, self._window_bytes = self._waiting_since, 0
            self._unread, self._unread_since = 0, self._waiting_since
            self._refused = not connections.admit(self, self._address)
            if self._refused:
                transport.write(_BUSY % (len(_BUSY_BODY), _BUSY_BODY))
                transport.close()
            else:
                super().connection_made(_Together(transport))

        def connection_lost(self, error: Exception | None) -> None:
            """Forgets it."""
            if not self._refused:
                connections.forget(self, self._address)
                super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            """Takes what came, and counts it."""
            if self._refused:
                return
            before = self.in_request
            super().data_received(data)
            self._window_bytes += len(data)
            if self.in_request:
                self._waiting_since, self._header_bytes = None, 0
                if not before:
                    self._window_since, self._window_bytes = time.monotonic(), 0
                return
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                connections.end(self)

        def eof_received(self) -> None:
            """Takes the end of a half-closed connection as its end where nothing is under way."""
            if not self._refused:
                super().eof_received()

        @property
        def in_request(self) -> bool:
            """Whether a request has come whose answer is not complete."""
            return self.cycle is not None and not self.cycle.response_complete

        def overdue(self, now: float) -> bool:
            """Whether the client has taken too long for headers, for a body or for reading an answer."""
            if self._is_unread(now):
                return True
            if not self.in_request:
                return self._waiting_since is not None and now - self._waiting_since > HEADER_SECONDS
            if not self.cycle.more_body or self.flow.read_paused:
                # What isn't read because this server is busy is not the client's fault.
                self._window_since, self._window_bytes = now, 0
            elif now - self._window_since > BODY_WINDOW_SECONDS:
                if self._window_bytes < BODY_BYTES_A_WINDOW:
                    return True
                self._window_since, self._window_bytes = now, 0
            return False

        def _is_unread(self, now: float) -> bool:
            unread = self.transport.get_write_buffer_size()
            if not unread or unread != self._unread:
                self._unread, self._unread_since = unread, now
                return False
            return now - self._unread_since > ANSWER_SECONDS

    return Limited
