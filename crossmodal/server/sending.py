"""From the gateway to the executors: along the graph of a Flow, or straight to the process of a fused one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from docarray import DocList
from jina.excepts import InternalNetworkError

from crossmodal.documents import MediaDocument
from crossmodal.errors import FlowFailure, ServiceError
from flows.delivery import undone
from crossmodal.flow.topology import Topology

__all__ = ["Send", "choose_send"]

# Documents, endpoint and parameters to what the Flow answers; raises FlowFailure where it fails.
Send = Callable[[Sequence[MediaDocument], str, Mapping[str, Any]], Awaitable[list[MediaDocument]]]

# The streamer of jina's gateway: documents and options to parts of the answer, each with an error or None.
_Stream = Callable[..., AsyncIterator[tuple[DocList, Any]]]


_LOST = "A process of the Flow does not answer; the server's output says why."


def choose_send(stream: _Stream, executors: Mapping[str, Any], topology: Topology) -> Send:
    """The shorter way to what jina's gateway knows as ``executors``, by name.

    A Flow of one process has no graph to walk, which takes jina a millisecond a request.
    """
    if len(executors) == 1:
        (executor,) = executors.values()
        return _straight(executor.post, topology)
    return _along_the_graph(stream)


def _along_the_graph(stream: _Stream) -> Send:
    async def send(
        docs: Sequence[MediaDocument], endpoint: str, parameters: Mapping[str, Any]
    ) -> list[MediaDocument]:
        answered: list[MediaDocument] = []
        try:
            async for part, error in stream(
                DocList[MediaDocument](docs),
                request_size=len(docs),
                exec_endpoint=endpoint,
                parameters=dict(parameters),
                return_type=DocList[MediaDocument],
            ):
                if error is not None:
                    raise FlowFailure(
                        f"The Flow failed on this request ({error.name}); the server's output says why."
                    )
                answered.extend(part)
        except InternalNetworkError as error:
            raise ServiceError(_LOST) from error
        return answered

    return send


def _straight(post: Callable[..., Awaitable[DocList]], topology: Topology) -> Send:
    async def send(
        docs: Sequence[MediaDocument], endpoint: str, parameters: Mapping[str, Any]
    ) -> list[MediaDocument]:
        try:
            answered = list(
                await post(
                    DocList[MediaDocument](docs),
                    request_size=len(docs),
                    on=endpoint,
                    parameters=dict(parameters),
                    return_type=DocList[MediaDocument],
                )
            )
        except TypeError as error:
            # jina gets the InternalNetworkError as if it were an answer, and cannot unpack it.
            if InternalNetworkError.__name__ not in str(error):
                raise
            raise ServiceError(_LOST) from error
        # jina hands out no status here. In one process nothing is missed, so something was raised; sending
        # that again, as is done where a branch was missed, would raise it again.
        by_id = {str(doc.id): doc for doc in answered}
        if any(undone(doc, by_id.get(str(doc.id)), topology) for doc in docs):
            raise FlowFailure("The Flow failed on this request; the server's output says why.")
        return answered

    return send
