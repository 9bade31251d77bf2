"""A check of calls before anything of their message is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]

__all__ = ["CallCheck", "Refusal"]

# The status that a call is refused with, and why.
Refusal = tuple[grpc.StatusCode, str]

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
