"""Connections that say nothing, or say it a byte at a time, are closed, and nobody else is held up."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from conftest import Server
from uvicorn import Config
from uvicorn import Server as Uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from crossmodal.server import connections
from crossmodal.server.connections import Connections, limited_handshakes, limited_protocol, raise_file_limit

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # it is not among what is required
    PROTOCOLS = [H11Protocol]
else:
    PROTOCOLS = [H11Protocol, HttpToolsProtocol]

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers with its length; with 32 MB where the path is /large."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-size", b"%d" % size)]})
    large = scope["path"] == "/large"
    await send({"type": "http.response.body", "body": bytes(32_000_000) if large else b"done"})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits within a second."""
    for name, seconds in (
        ("_LOOK_SECONDS", 0.05),
        ("HEADER_SECONDS", 0.4),
        ("BODY_WINDOW_SECONDS", 0.4),
        ("ANSWER_SECONDS", 0.5),
    ):
        monkeypatch.setattr(connections, name, seconds)


@pytest.fixture(params=PROTOCOLS, ids=lambda kind: kind.__name__)
def protocol(request: pytest.FixtureRequest) -> Any:
    return request.param


Connect = Callable[[], Awaitable[tuple[Reader, Writer]]]


def served(protocol: Any, limits: Connections, use: Callable[[Connect], Awaitable[None]]) -> None:
    """Calls ``use`` with what connects to a server that keeps to ``limits``."""

    async def run() -> None:
        kind = limited_protocol(protocol, limits)
        config = Config(app, http=kind, port=0, lifespan="off", log_config=None, timeout_keep_alive=30)
        server = Uvicorn(config)
        server.install_signal_handlers = lambda: None
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        opened: list[Writer] = []

        async def connect() -> tuple[Reader, Writer]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append(writer)
            return reader, writer

        try:
            await use(connect)
        finally:
            await closed(opened)
            server.should_exit = server.force_exit = True
            await task

    asyncio.run(run())


async def closed(writers: Iterable[Writer]) -> None:
    """Closes connections at this end."""
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def ended(reader: Reader, seconds: float = 10.0) -> bytes:
    """What comes until the server closes the connection."""
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    except ConnectionError:
        return b""


def test_silent_and_slow_connections_are_closed_and_others_answered(protocol: Any) -> None:
    limits = Connections()

    async def use(connect: Connect) -> None:
        silent, slow, later = await connect(), await connect(), await connect()
        later[1].write(REQUEST)
        assert b"200 OK" in await later[0].readuntil(b"done")

        async def drip() -> None:
            for number in range(1000):
                slow[1].write(REQUEST[:20] if number == 0 else b"x")
                await asyncio.sleep(0.05)

        async def drip_the_next() -> None:
            for _ in range(1000):
                later[1].write(b"G")
                await asyncio.sleep(0.05)

        dripping = [asyncio.create_task(drip()), asyncio.create_task(drip_the_next())]
        try:
            started = time.monotonic()
            assert await ended(silent[0]) == b""
            await ended(slow[0])
            # The headers of a later request have their time as well.
            await ended(later[0])
            assert time.monotonic() - started < 5
        finally:
            for task in dripping:
                task.cancel()
        other = await connect()
        other[1].write(REQUEST)
        assert b"200 OK" in await other[0].readuntil(b"done")

    served(protocol, limits, use)
    assert limits.closed >= 2
    assert limits.status()["open"] == 0


def test_headers_without_end_are_not_collected(protocol: Any) -> None:
    async def use(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\n")
        for _ in range(200):
            writer.write(b"x-more: " + b"y" * 1000 + b"\r\n")
            await asyncio.sleep(0)
        assert b"200" not in await ended(reader)

    served(protocol, Connections(), use)


def test_a_body_has_to_arrive_at_some_rate(protocol: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(connect: Connect) -> None:
        slow, steady = await connect(), await connect()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        slow[1].write(head)
        steady[1].write(head)
        for _ in range(20):
            slow[1].write(b"x")
            steady[1].write(b"y" * 5000)
            await asyncio.sleep(0.05)
        assert b"x-size: 100000" in await steady[0].readuntil(b"done")
        assert b"200" not in await ended(slow[0])

    monkeypatch.setattr(connections, "BODY_BYTES_A_WINDOW", 2000)
    served(protocol, Connections(), use)


def test_an_answer_that_nobody_reads_is_given_up(protocol: Any) -> None:
    limits = Connections()

    async def use(connect: Connect) -> None:
        _, writer = await connect()
        writer.transport.pause_reading()
        writer.write(REQUEST.replace(b"GET /", b"GET /large"))
        deadline = time.monotonic() + 10
        while not limits.closed and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        writer.transport.abort()

    served(protocol, limits, use)
    assert limits.closed == 1


def test_the_longest_idle_connection_makes_room(protocol: Any) -> None:
    limits = Connections(most=3)

    async def use(connect: Connect) -> None:
        first, *_ = [await connect() for _ in range(3)]
        fourth = await connect()
        fourth[1].write(REQUEST)
        assert b"200 OK" in await fourth[0].readuntil(b"done")
        assert await ended(first[0], 5) == b""

    served(protocol, limits, use)


def test_an_address_has_its_share_and_this_machine_all() -> None:
    limits = Connections(most_from_one=2)

    class Stand:
        in_request = True

    async def admit_all() -> list[bool]:
        addresses = ["192.0.2.7"] * 3 + ["192.0.2.8"] + ["127.0.0.1"] * 5
        return [limits.admit(Stand(), address) for address in addresses]

    assert asyncio.run(admit_all()) == [True, True, False, *[True] * 6]
    assert limits.status() == {"open": 8, "most": connections.MOST, "refused": 1, "closed": 0}


def test_there_is_room_for_connections_within_the_files_that_may_be_open() -> None:
    assert 1 <= raise_file_limit() <= connections.MOST


def test_a_real_server_closes_two_hundred_of_each(toy_server: Server) -> None:
    host, _, port = toy_server.url.removeprefix("http://").partition(":")

    async def drip(writer: Writer) -> None:
        for byte in b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n" + b"x" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.2)

    async def all_of_them() -> list[float]:
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
        dripping = [asyncio.create_task(drip(writer)) for _, writer in slow]
        closing = asyncio.gather(*(ended(reader, 60) for reader, _ in silent + slow))
        waited = []
        while not closing.done():
            started = time.monotonic()
            status, answer = await asyncio.to_thread(toy_server.request, "/v1/search", {"text": "a dog"})
            assert (status, len(answer["results"])) == (200, 1)
            waited.append(time.monotonic() - started)
            await asyncio.sleep(0.5)
        await closing
        for task in dripping:
            task.cancel()
        await closed(writer for _, writer in silent + slow)
        return waited

    waited = sorted(asyncio.run(all_of_them()))
    assert waited[len(waited) // 2] < 2
    assert json.dumps(toy_server.request("/healthz")[1]) == '{"status": "ok", "flow": "query"}'


def test_who_never_ends_the_tls_handshake_is_closed() -> None:
    async def run() -> None:
        # Who says nothing doesn't get to see that there is no certificate.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        loop = asyncio.get_running_loop()
        with limited_handshakes():
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=tls)
            plain = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with server, plain:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await ended(reader) == b""
            await closed([writer])
        assert "create_server" not in vars(loop)

    asyncio.run(run())


def test_head_and_body_of_an_answer_are_sent_together(protocol: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transport: Any = asyncio.selector_events._SelectorSocketTransport
    send, sent = transport.write, list[bytes]()

    def write(self: Any, data: bytes) -> None:
        sent.append(bytes(data))
        send(self, data)

    monkeypatch.setattr(transport, "write", write)

    async def use(connect: Connect) -> None:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(REQUEST)
            assert (await reader.read(1 << 16)).endswith(b"done\r\n0\r\n\r\n")
        answers = [data for data in sent if data != REQUEST]
        assert [data[:12] for data in answers] == [b"HTTP/1.1 200"] * 3
        # What is larger than is held back comes whole, and before the end of its connection.
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert body.endswith(b"\r\n0\r\n\r\n")
        assert len(body) > 32_000_000

    served(protocol, Connections(), use)
