"""MCP over stdin and stdout: one client, the program that started this one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from crossmodal import limits
from crossmodal.errors import ReaderGone, RequestError
from crossmodal.http_shapes.values import read_json

__all__ = ["serve_stdio"]

# So long after the client's last line its requests are still answered.
_ANSWERED_SECONDS = 30.0

_PART = 1 << 16

_PARSE_ERROR, _INVALID_REQUEST = -32700, -32600


async def serve_stdio(protocol: Any) -> None:
    """Answers the client with ``protocol``, a ``Server`` of the SDK, until stdin ends.

    Raises ReaderGone where nobody reads stdout any more.
    """
    import anyio

    to_server, incoming = anyio.create_memory_object_stream[Any](0)
    outgoing, from_server = anyio.create_memory_object_stream[Any](0)
    with _own_stdout() as stdout:
        exchange = _Exchange(stdout)
        # A thread of its own, and none that anybody waits for: Ctrl-C ends it in the middle of a line.
        lines = _start_reading(sys.stdin.fileno())
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exchange.pass_in, lines, to_server)
                tasks.start_soon(exchange.pass_out, from_server)
                await protocol.run(incoming, outgoing, protocol.create_initialization_options())
        except BaseExceptionGroup as failed:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Ctrl-C: streams inside of the SDK break while they are closed.
                raise asyncio.CancelledError from None
            if failed.subgroup(BrokenPipeError) is None:
                raise
            raise ReaderGone("The reader of stdout has gone.") from None


class _Exchange:
    """Lines to messages and messages to lines, and which requests have no answer yet."""

    def __init__(self, stdout: BinaryIO) -> None:
        self._stdout = stdout
        self._waiting: set[str | int] = set()
        self._answered = asyncio.Event()

    async def pass_in(self, lines: asyncio.Queue[bytes | None], to_server: Any) -> None:
        """Passes messages on; answers lines that are none, of which the SDK says nothing to the client."""
        from mcp.shared.message import SessionMessage
        from mcp_types import JSONRPCRequest, jsonrpc_message_adapter

        async with to_server:
            while (line := await lines.get()) is not None:
                if not line:
                    continue
                if len(line) > limits.MCP_MESSAGE.most:
                    self._refuse(
                        _INVALID_REQUEST,
                        limits.MCP_MESSAGE.exceeded("The message", len(line), verb="has over"),
                    )
                    continue
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    self._refuse(*_fault_of(line))
                    continue
                if isinstance(message, JSONRPCRequest):
                    self._waiting.add(message.id)
                elif getattr(message, "method", None) == "notifications/cancelled":
                    self._waiting.discard((message.params or {}).get("requestId"))
                await to_server.send(SessionMessage(message))
            # At its end the SDK gives up what is still being answered.
            try:
                async with asyncio.timeout(_ANSWERED_SECONDS):
                    while self._waiting:
                        self._answered.clear()
                        await self._answered.wait()
            except TimeoutError:
                print(f"{len(self._waiting)} requests got no answer.", file=sys.stderr)

    async def pass_out(self, from_server: Any) -> None:
        """Writes messages, one a line."""
        async with from_server:
            async for item in from_server:
                message = item.message
                self._write(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
                if not hasattr(message, "method"):
                    self._waiting.discard(message.id)
                    self._answered.set()

    def _refuse(self, code: int, sentence: str) -> None:
        error = {"code": code, "message": sentence}
        self._write(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode())

    def _write(self, line: bytes) -> None:
        self._stdout.write(line + b"\n")
        self._stdout.flush()


def _fault_of(line: bytes) -> tuple[int, str]:
    """The code and the sentence for a line that is no message."""
    try:
        read_json(line, "The message")
    except RequestError as error:
        return _PARSE_ERROR, str(error)
    return (
        _INVALID_REQUEST,
        'The line is no message of JSON-RPC 2.0, such as {"jsonrpc": "2.0", "id": 1, ...}.',
    )


@contextmanager
def _own_stdout() -> Iterator[BinaryIO]:
    """What writes to stdout; whatever else in this process does finds stderr there."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "wb", closefd=False) as stdout:
            yield stdout
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _start_reading(descriptor: int) -> asyncio.Queue[bytes | None]:
    """The lines of a file as they come, None at their end; one that is too long is cut, and still is."""
    # Few: who sends faster than is answered waits in the pipe.
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(8)
    loop = asyncio.get_running_loop()

    def put(line: bytes | None) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        # The event loop may end first.
        with suppress(RuntimeError, CancelledError):
            for line in _lines(descriptor):
                put(line)
            put(None)

    threading.Thread(target=read, name="read-stdin", daemon=True).start()
    return lines


def _lines(descriptor: int) -> Iterator[bytes]:
    longest = limits.MCP_MESSAGE.most + 1
    held = bytearray()
    # Not sys.stdin: its lock would be held while the interpreter ends.
    while part := os.read(descriptor, _PART):
        *ends, rest = part.split(b"\n")
        for end in ends:
            held += end[: longest - len(held)]
            yield bytes(held.strip())
            held.clear()
        held += rest[: longest - len(held)]
    yield bytes(held.strip())
