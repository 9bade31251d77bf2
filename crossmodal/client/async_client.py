"""The client whose methods are awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from crossmodal.client import calls, wire
from crossmodal.client.answers import (
    Document,
    Match,
    ModelInfo,
    QueryResult,
    SearchAnswer,
    Status,
    TagField,
    UploadProgress,
    UploadSummary,
)
from crossmodal.client.exchange import Call, Lost, Reply, after_failure, base_address, understood
from crossmodal.client.paging import Pages
from crossmodal.client.queries import (
    Image,
    Query,
    QueryOptions,
    SearchOptions,
    Term,
    as_query,
    only_result,
    search_call,
)
from crossmodal.client.retries import Retries
from crossmodal.client.uploads import Batch, Tally, Uploadable, batches, known_total
from crossmodal.errors import ApiError, ServerUnavailable

if TYPE_CHECKING:
    import httpx2

__all__ = ["AsyncClient"]

Answer = TypeVar("Answer")


class AsyncClient:
    """``Client`` for asyncio: the same methods with the same arguments, to be awaited.

    ``iterate`` and ``documents`` go with ``async for``; ``async with`` or ``aclose`` ends it. Files are read
    in threads, and the loop goes on meanwhile.
    """

    def __init__(
        self,
        url: str = "http://localhost:45678",
        *,
        timeout: float = wire.TIMEOUT_SECONDS,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        import httpx2

        self.url = base_address(url)
        self._timeout = timeout
        self._retries = retries or Retries()
        self._http = httpx2.AsyncClient(
            **wire.client_options(self.url, timeout, headers), transport=transport
        )

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def search(
        self,
        text: str | None = None,
        *,
        image: Image | None = None,
        id: str | None = None,
        expression: str | None = None,
        terms: Sequence[Term | Mapping[str, Any]] | None = None,
        like: Sequence[str] | None = None,
        unlike: Sequence[str] | None = None,
        modality: str | None = None,
        top_k: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        filter: Mapping[str, Any] | None = None,
        hybrid: bool = False,
        group_duplicates: bool = False,
        fields: Sequence[str] | None = None,
    ) -> QueryResult:
        """Answers one query, as ``Client.search`` does."""
        query = Query(
            text=text,
            image=image,
            id=id,
            expression=expression,
            terms=terms,
            like=like,
            unlike=unlike,
            modality=modality,
            top_k=top_k,
            offset=offset or None,
            min_score=min_score,
            filter=filter,
            hybrid=hybrid or None,
            group_duplicates=group_duplicates or None,
            fields=fields,
        )
        return only_result(await self._do(await asyncio.to_thread(search_call, query)))

    async def search_many(
        self, queries: Iterable[Query | str], **options: Unpack[SearchOptions]
    ) -> SearchAnswer:
        """Answers up to 64 queries, as ``Client.search_many`` does."""
        asked = [as_query(query) for query in queries]
        return await self._do(await asyncio.to_thread(search_call, asked, Query(**options)))

    async def more_like(self, id: str, **options: Unpack[SearchOptions]) -> QueryResult:
        """What is like the indexed photo or caption ``id``, without itself; ``options`` as in ``search``."""
        return await self.search(id=id, **options)

    async def iterate(
        self, text: str | None = None, *, page_size: int = 50, **query: Unpack[QueryOptions]
    ) -> AsyncIterator[Match]:
        """The matches of one query one after the other, as in ``Client.iterate``."""
        pages = Pages(Query(text=text, **query), page_size)
        while (call := await asyncio.to_thread(pages.next_call)) is not None:
            for match in pages.matches(only_result(await self._do(call))):
                yield match

    async def upload(
        self,
        sources: Iterable[Uploadable] | Uploadable,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        on_progress: Callable[[UploadProgress], None] | None = None,
        max_documents: int = 32,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> UploadSummary:
        """Adds files, folders of photos and ``NewDocument``s to the index, as ``Client.upload`` does."""
        tally = Tally(known_total(sources), on_progress)
        read = batches(sources, metadata, max_documents=max_documents, max_bytes=max_bytes)
        while (batch := await asyncio.to_thread(next, read, None)) is not None:
            await self._send(batch, tally)
        return tally.summary()

    async def delete(self, id: str, *, captions: bool = True) -> tuple[str, ...]:
        """Deletes a photo with the captions that describe it, or a caption; returns the ids of all that."""
        return await self._do(calls.delete_call(id, captions))

    async def document(self, id: str) -> Document:
        """An indexed photo or caption."""
        return await self._do(calls.document_call(id))

    async def content(self, id: str) -> bytes:
        """An indexed photo's file, or its thumbnail where the index keeps no originals."""
        return await self._do(calls.content_call(id))

    async def thumbnail(self, id: str) -> bytes:
        """An indexed photo's small copy, as an image file."""
        return await self._do(calls.thumbnail_call(id))

    async def documents(self, modality: str = "image", *, page_size: int = 200) -> AsyncIterator[Document]:
        """All photos, or with "text" all captions, in the order of their ids."""
        after = None
        while True:
            page, after = await self._do(calls.documents_call(modality, page_size, after))
            for document in page:
                yield document
            if after is None:
                return

    async def tags(self) -> tuple[TagField, ...]:
        """The tags that documents have, with their most frequent values."""
        return await self._do(calls.tags_call())

    async def status(self) -> Status:
        """What is indexed, how it is searched, and how the server fares."""
        return await self._do(calls.status_call())

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models that the server knows by name."""
        return await self._do(calls.models_call())

    async def wait_until_ready(self, timeout: float = 60) -> None:
        """Returns when the server can answer searches; raises ServerUnavailable after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return await self._do(calls.ready_call(), Retries(attempts=1))
            except ServerUnavailable:
                if time.monotonic() + wire.READY_PAUSE_SECONDS > deadline:
                    raise
            await asyncio.sleep(wire.READY_PAUSE_SECONDS)

    async def _send(self, batch: Batch, tally: Tally) -> None:
        if batch.unread:
            tally.add(batch.unread, len(batch.unread))
        waiting = [batch] if batch.items else []
        while waiting:
            sent = waiting.pop()
            try:
                outcomes = await self._do(sent.call())
            except ApiError as error:
                outcomes, smaller = sent.refused(error)
                if smaller:
                    waiting += reversed(smaller)
                    continue
            tally.add(outcomes, len(sent.items))

    async def _do(self, call: Call[Answer], retries: Retries | None = None) -> Answer:
        import httpx2

        retries = retries or self._retries
        made = 0
        while True:
            made += 1
            failure: Reply | Lost
            try:
                failure = wire.reply_of(await self._http.request(**wire.request_options(call)))
                if not retries.covers(failure.status):
                    return understood(call, failure)
            except httpx2.RequestError as error:
                failure = wire.lost(error, self._timeout)
            await asyncio.sleep(after_failure(failure, made, retries, self.url))
