"""The two clients: how each of them waits for the replies to the calls.

The calls are coroutines. ``AsyncClient`` is them; ``Client`` runs each to its end over I/O that blocks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from crossmodal.client.answers import Document
from crossmodal.client.calls import Calls, Io
from crossmodal.client.exchange import TIMEOUT_SECONDS, Retries, base_address, client_options
from crossmodal.client.queries import Pages, Query, QueryOptions
from crossmodal.match import Match

if TYPE_CHECKING:
    import httpx2

__all__ = ["AsyncClient", "Client"]

Answer = TypeVar("Answer")
P = ParamSpec("P")


class AsyncClient(Calls):
    """``Client`` for asyncio: the same methods with the same arguments, to be awaited.

    ``iterate`` and ``documents`` go with ``async for``; ``async with`` or ``aclose`` ends it. Files are read
    in threads, and the loop goes on meanwhile.
    """

    def __init__(
        self,
        url: str = "http://localhost:45678",
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        tls_ca: str | Path | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        import httpx2

        base = base_address(url)
        self._http = httpx2.AsyncClient(
            **client_options(base, timeout, headers, key, tls_ca), transport=transport
        )
        super().__init__(base, timeout, retries, self._http.request, asyncio.sleep, asyncio.to_thread)

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def iterate(
        self, text: str | None = None, *, page_size: int = 50, **query: Unpack[QueryOptions]
    ) -> AsyncIterator[Match]:
        """The matches of one query one after the other, as in ``Client.iterate``."""
        pages = Pages(Query(text=text, **query), page_size)
        while (matches := await self.next_matches(pages)) is not None:
            for match in matches:
                yield match

    async def documents(
        self,
        modality: str = "image",
        *,
        page_size: int = 200,
        sort: str | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Document]:
        """All photos, or with "text" all captions, as in ``Client.documents``."""
        after: str | None = None
        while True:
            page = await self.documents_page(modality, page_size, after, sort, filter)
            for document in page.documents:
                yield document
            if (after := page.next) is None:
                return


def _blocking_io(function: Callable[..., Any]) -> Io:
    """``function`` to be awaited, which blocks and never suspends."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def _result(calls: Coroutine[Any, Any, Answer]) -> Answer:
    """What a coroutine over ``_blocking_io`` returns: its first step is its last."""
    try:
        calls.send(None)
    except StopIteration as end:
        result: Answer = end.value
        return result
    raise AssertionError("a blocking call has suspended")


def _blocking(
    method: Callable[Concatenate[Calls, P], Coroutine[Any, Any, Answer]],
) -> Callable[Concatenate[Client, P], Answer]:
    """``method`` for ``Client``, with the same arguments and documentation."""

    @wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return _result(method(client._calls, *args, **kwargs))

    return call


class Client:
    """A client of the server at ``url``, such as ``http://localhost:45678``; close it, or use it in ``with``.

    ``timeout`` is in seconds, for connecting and for each wait for bytes. ``retries`` says how often a call
    is attempted; every call here can be repeated without harm. ``headers`` go with every request,
    and so does ``key``, where the server needs one. ``tls_ca`` is a PEM file of the certificates by which to
    know a server that no public authority vouches for. ``transport`` replaces the
    network. One client can be used from several threads.

    Every method raises ApiError where the server says that it cannot do what was asked, ServerUnavailable
    where it cannot be reached or isn't ready, and ClientError for anything else. All are CrossmodalErrors.
    """

    def __init__(
        self,
        url: str = "http://localhost:45678",
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        tls_ca: str | Path | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        import httpx2

        self.url = base_address(url)
        self._http = httpx2.Client(
            **client_options(self.url, timeout, headers, key, tls_ca), transport=transport
        )
        self._calls = Calls(
            self.url,
            timeout,
            retries,
            _blocking_io(self._http.request),
            _blocking_io(time.sleep),
            _blocking_io(lambda work, *args: work(*args)),
        )

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    search = _blocking(Calls.search)
    search_many = _blocking(Calls.search_many)
    more_like = _blocking(Calls.more_like)
    encode = _blocking(Calls.encode)
    upload = _blocking(Calls.upload)
    delete = _blocking(Calls.delete)
    delete_matching = _blocking(Calls.delete_matching)
    update = _blocking(Calls.update)
    document = _blocking(Calls.document)
    content = _blocking(Calls.content)
    thumbnail = _blocking(Calls.thumbnail)
    heat_map = _blocking(Calls.heat_map)
    tags = _blocking(Calls.tags)
    facet = _blocking(Calls.facet)
    suggest = _blocking(Calls.suggest)
    status = _blocking(Calls.status)
    models = _blocking(Calls.models)
    wait_until_ready = _blocking(Calls.wait_until_ready)

    def iterate(
        self, text: str | None = None, *, page_size: int = 50, **query: Unpack[QueryOptions]
    ) -> Iterator[Match]:
        """The matches of one query one after the other, asked for ``page_size`` at a time; as for ``search``.

        It ends with the last match, or where the server's limit is reached (1000; 200 with ``hybrid``).
        """
        pages = Pages(Query(text=text, **query), page_size)
        while (matches := _result(self._calls.next_matches(pages))) is not None:
            yield from matches

    def documents(
        self,
        modality: str = "image",
        *,
        page_size: int = 200,
        sort: str | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> Iterator[Document]:
        """All photos, or with "text" all captions, that match ``filter``, in the order of their ids.

        With ``sort``, a tag, in that order; with a minus in front of it the largest, or newest, first.
        """
        after: str | None = None
        while True:
            page = _result(self._calls.documents_page(modality, page_size, after, sort, filter))
            yield from page.documents
            if (after := page.next) is None:
                return
