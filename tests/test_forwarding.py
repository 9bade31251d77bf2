"""Writes that another process does: many slow ones don't keep others from being forwarded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from crossmodal.server.forwarding import ForwardedWrites

SLOW = 130


async def post(forwarded: ForwardedWrites, path: str) -> tuple[int, bytes]:
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 1),
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost")],
    }
    parts = [{"type": "http.request", "body": b"x", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(60)
        return parts.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await forwarded(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_slow_uploads_do_not_keep_out_other_writes(tmp_path: Path) -> None:
    """More of them than a client has connections if it isn't told otherwise."""

    async def run() -> None:
        arrived = 0
        leave = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal arrived
            head = await reader.readuntil(b"\r\n\r\n")
            arrived += 1
            if b"/slow" in head.split(b"\r\n")[0]:
                await leave.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
            writer.close()

        async def no_app(*asked: Any) -> None:
            raise AssertionError("it was not forwarded")

        server = await asyncio.start_unix_server(answer, tmp_path / "writer.sock")
        forwarded = ForwardedWrites(no_app, str(tmp_path / "writer.sock"))
        try:
            slow = [asyncio.create_task(post(forwarded, "/slow")) for _ in range(SLOW)]
            async with asyncio.timeout(60):
                while arrived < SLOW:
                    await asyncio.sleep(0.02)
                assert await post(forwarded, "/v1/documents") == (200, b"ok")
                leave.set()
                assert set(await asyncio.gather(*slow)) == {(200, b"ok")}
        finally:
            leave.set()
            server.close()
            await forwarded._client.aclose()

    asyncio.run(run())
