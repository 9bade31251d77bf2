"""A check of calls before anything of their message is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]

__all__ = ["Call", "CallCheck", "PeerCheck", "Refusal", "address_of"]

# The status that a call is refused with, why, and metadata that says more.
Refusal = tuple[grpc.StatusCode, str] | tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]

# The method that is called, its metadata, and the other end of the connection as gRPC writes it.
Call = tuple[str, dict[str, str | bytes], str]

# What jina's processes and orchestrators ask for without metadata; neither tells of the index.
_OPEN_TO_ALL = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")


class CallCheck(grpc.aio.ServerInterceptor):
    """Refuses calls for whose metadata ``why_not`` has an answer; health and reflection stay open."""

    def __init__(self, why_not: Callable[[Mapping[str, str | bytes]], Refusal | None]) -> None:
        self._why_not = why_not

    async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        """The handler of the call, or one that refuses it."""
        if details.method.startswith(_OPEN_TO_ALL):
            return await continuation(details)
        refusal = self._why_not(dict(details.invocation_metadata or ()))
        if refusal is None:
            return await continuation(details)

        async def refuse(messages: Any, context: Any) -> None:
            await context.abort(*refusal)

        # As a handler of streams, which gets no message that it doesn't ask for.
        return grpc.stream_stream_rpc_method_handler(refuse)


class PeerCheck(grpc.aio.ServerInterceptor):
    """As CallCheck, by the other end of the connection as well.

    Methods take a stream of messages, or one, and answer alike, as those of jina do.
    """

    def __init__(self, why_not: Callable[[Call], Refusal | None]) -> None:
        self._why_not = why_not

    async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        """The handler of the call, which looks whether it may be made first."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN_TO_ALL):
            return handler
        metadata = dict(details.invocation_metadata or ())

        async def check_first(messages: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            refusal = self._why_not((details.method, metadata, context.peer()))
            if refusal is not None:
                await context.abort(*refusal)
            if handler.request_streaming:
                async for answer in handler.stream_stream(messages, context):
                    yield answer
                return
            async for message in messages:
                yield await handler.unary_unary(message, context)
                return

        # A handler of streams gets no message that it doesn't ask for, and only here is the peer known.
        return grpc.stream_stream_rpc_method_handler(
            check_first, handler.request_deserializer, handler.response_serializer
        )


def address_of(peer: str) -> str:
    """The address in what gRPC calls a peer: "ipv4:10.0.0.9:51234" or "ipv6:[2001:db8::1]:51234"."""
    kind, _, rest = peer.replace("%5B", "[").replace("%5D", "]").partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
