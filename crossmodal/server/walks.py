"""Sends documents through the gateway's Flow; queries of concurrent requests share one walk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from crossmodal.documents import ALONE, PACKED, MediaDocument, unpack_matches
from crossmodal.models.runtimes.machine import available_cores
from flows.delivery import deliver
from crossmodal.server.sending import Send
from crossmodal.server.serving import Answered
from crossmodal.flow.batches import batched_documents
from crossmodal.server.micro_batcher import Sharing
from crossmodal.flow.topology import Topology

__all__ = ["FlowWalks"]

# An encoder takes one walk after the other, and a sentence takes some 5 ms: others wait for so many at most.
_ENCODED_AT_ONCE = 16

# Vectors to search with; a search is so much quicker that these don't keep others waiting either.
_SEARCHED_AT_ONCE = 64


class FlowWalks:
    """The Flow behind one gateway as an async function of documents, endpoint and parameters.

    Sentences and vectors that come at the same time walk together, in the query Flow (``sharing``). Their
    answers don't depend on that: each sentence is encoded by itself, at ``/encode`` and with the parameter
    ``alone``, and every score is recomputed from its own two vectors. Photos, and sentences that don't ask to
    be encoded alone, walk with their own request only.
    """

    def __init__(self, send: Send, topology: Topology, *, sharing: bool) -> None:
        self._send = send
        self._topology = topology
        self._sharing = sharing
        # One for each core, and one on its way while another is worked on.
        at_once = max(2, available_cores())
        self._encoding = Sharing(self._walk_together, most=_ENCODED_AT_ONCE, at_once=at_once)
        self._searching = Sharing(self._walk_together, most=_SEARCHED_AT_ONCE, at_once=at_once)

    async def __call__(
        self, docs: Sequence[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> Answered:
        """The answers by id; raises FlowFailure where the Flow fails on the request as a whole."""
        together = [doc for doc in docs if self._sharing and _is_shareable(doc, endpoint, parameters)]
        apart = [doc for doc in docs if not (self._sharing and _is_shareable(doc, endpoint, parameters))]
        answered: Answered = {}
        for part in await asyncio.gather(
            self._share(together, endpoint, parameters), self._walk_apart(apart, endpoint, parameters)
        ):
            answered |= part
        return answered

    async def _walk_apart(
        self, docs: Sequence[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> Answered:
        answered: Answered = {}
        encodes = self._sharing and any(doc.embedding is None for doc in docs)
        for batch in batched_documents(docs, _ENCODED_AT_ONCE if encodes else None):
            answered |= await self._walk(batch, endpoint, parameters)
        return answered

    async def _share(
        self, docs: Sequence[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> Answered:
        encodes = any(doc.embedding is None for doc in docs)
        sharing = self._encoding if encodes else self._searching
        key = (endpoint, json.dumps(parameters, sort_keys=True))
        answered: Answered = {}
        # One after the other: who asks for much doesn't stand in the line with all of it at once.
        for batch in batched_documents(docs, _ENCODED_AT_ONCE if encodes else _SEARCHED_AT_ONCE):
            for doc, answer in zip(batch, await sharing(key, batch), strict=True):
                answer.id = doc.id
                answered[str(doc.id)] = answer
        return answered

    async def _walk_together(
        self, key: tuple[str, str], docs: list[MediaDocument]
    ) -> Sequence[MediaDocument]:
        endpoint, parameters = key
        # Callers number their documents alike; here each has an id of its own.
        numbered = [
            MediaDocument.construct(**{**doc.__dict__, "id": str(number)}) for number, doc in enumerate(docs)
        ]
        answered = await self._walk(numbered, endpoint, json.loads(parameters))
        return [answered[str(doc.id)] for doc in numbered]

    async def _walk(
        self, docs: Sequence[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> Answered:
        if endpoint == "/search":
            parameters = {**parameters, PACKED: True}
        answered = await deliver(
            docs, self._topology, lambda waiting: self._send(waiting, endpoint, parameters)
        )
        for doc in answered.values():
            unpack_matches(doc)
        return answered


def _is_shareable(doc: MediaDocument, endpoint: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a query's answer doesn't depend on the others in its walk, nor keeps them waiting for long."""
    if doc.blob or doc.wanted:
        return False
    if endpoint == "/search":
        return doc.embedding is not None or bool(parameters.get(ALONE))
    return endpoint == "/encode"
