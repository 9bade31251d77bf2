"""The client that waits for its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

__all__ = ["Client"]

Answer = TypeVar("Answer")


class Client:
    """A client of the server at ``url``, such as ``http://localhost:45678``; close it, or use it in ``with``.

    ``timeout`` is in seconds, for connecting and for each wait for bytes. ``retries`` says how often a call
    is made; every call here can be repeated without harm. ``headers`` go with every request. ``transport``
    replaces the network. One client can be used from several threads.

    Every method raises ApiError where the server says that it cannot do what was asked, ServerUnavailable
    where it cannot be reached or isn't ready, and ClientError for anything else. All are CrossmodalErrors.
    """

    def __init__(
        self,
        url: str = "http://localhost:45678",
        *,
        timeout: float = wire.TIMEOUT_SECONDS,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        import httpx2

        self.url = base_address(url)
        self._timeout = timeout
        self._retries = retries or Retries()
        self._http = httpx2.Client(**wire.client_options(self.url, timeout, headers), transport=transport)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search(
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
        """Answers one query: exactly one of the first six says what is searched for.

        ``image`` is a photo's bytes, a file, or "id:ID" of an indexed one; ``id`` finds more like that
        document; ``expression`` is like ``dog + 0.5*id:42 - snow``; ``like`` and ``unlike`` are ids.
        ``modality`` is "image", "text" or "both"; without it, photos are found, and captions for photos
        alone. ``top_k`` is 1 to 1000, ``offset`` how many to leave out before; ``min_score`` is in [0, 1];
        ``fields`` are those of text, photo, captions and tags that are wanted, by default all.
        """
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
        return only_result(self._do(search_call(query)))

    def search_many(self, queries: Iterable[Query | str], **options: Unpack[SearchOptions]) -> SearchAnswer:
        """Answers up to 64 queries, sentences or ``Query``, in one request and in their order.

        ``options`` are those of ``search``, for all queries that don't say otherwise. A query that cannot be
        answered has an ``error``; where none can, ApiError is raised.
        """
        asked = [as_query(query) for query in queries]
        return self._do(search_call(asked, Query(**options)))

    def more_like(self, id: str, **options: Unpack[SearchOptions]) -> QueryResult:
        """What is like the indexed photo or caption ``id``, without itself; ``options`` as in ``search``."""
        return self.search(id=id, **options)

    def iterate(
        self, text: str | None = None, *, page_size: int = 50, **query: Unpack[QueryOptions]
    ) -> Iterator[Match]:
        """The matches of one query one after the other, asked for ``page_size`` at a time; as for ``search``.

        It ends with the last match, or where the server's limit is reached (1000; 200 with ``hybrid``).
        """
        pages = Pages(Query(text=text, **query), page_size)
        while (call := pages.next_call()) is not None:
            yield from pages.matches(only_result(self._do(call)))

    def upload(
        self,
        sources: Iterable[Uploadable] | Uploadable,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        on_progress: Callable[[UploadProgress], None] | None = None,
        max_documents: int = 32,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> UploadSummary:
        """Adds files, folders of photos and ``NewDocument``s to the index.

        They are read when their turn comes and sent at most ``max_documents`` and about ``max_bytes`` in a
        request, so memory doesn't depend on how many there are. ``metadata`` gives files, by name and with
        "*" all of them, an ``id``, ``tags`` and ``captions``. A file or document that fails is an outcome
        with an error and stops nothing. ``on_progress`` is called after each request.
        """
        tally = Tally(known_total(sources), on_progress)
        for batch in batches(sources, metadata, max_documents=max_documents, max_bytes=max_bytes):
            self._send(batch, tally)
        return tally.summary()

    def delete(self, id: str, *, captions: bool = True) -> tuple[str, ...]:
        """Deletes a photo with the captions that describe it, or a caption; returns the ids of all that."""
        return self._do(calls.delete_call(id, captions))

    def document(self, id: str) -> Document:
        """An indexed photo or caption."""
        return self._do(calls.document_call(id))

    def content(self, id: str) -> bytes:
        """An indexed photo's file, or its thumbnail where the index keeps no originals."""
        return self._do(calls.content_call(id))

    def thumbnail(self, id: str) -> bytes:
        """An indexed photo's small copy, as an image file."""
        return self._do(calls.thumbnail_call(id))

    def documents(self, modality: str = "image", *, page_size: int = 200) -> Iterator[Document]:
        """All photos, or with "text" all captions, in the order of their ids."""
        after = None
        while True:
            page, after = self._do(calls.documents_call(modality, page_size, after))
            yield from page
            if after is None:
                return

    def tags(self) -> tuple[TagField, ...]:
        """The tags that documents have, with their most frequent values."""
        return self._do(calls.tags_call())

    def status(self) -> Status:
        """What is indexed, how it is searched, and how the server fares."""
        return self._do(calls.status_call())

    def models(self) -> tuple[ModelInfo, ...]:
        """The models that the server knows by name."""
        return self._do(calls.models_call())

    def wait_until_ready(self, timeout: float = 60) -> None:
        """Returns when the server can answer searches; raises ServerUnavailable after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self._do(calls.ready_call(), Retries(attempts=1))
            except ServerUnavailable:
                if time.monotonic() + wire.READY_PAUSE_SECONDS > deadline:
                    raise
            time.sleep(wire.READY_PAUSE_SECONDS)

    def _send(self, batch: Batch, tally: Tally) -> None:
        if batch.unread:
            tally.add(batch.unread, len(batch.unread))
        waiting = [batch] if batch.items else []
        while waiting:
            sent = waiting.pop()
            try:
                outcomes = self._do(sent.call())
            except ApiError as error:
                outcomes, smaller = sent.refused(error)
                if smaller:
                    waiting += reversed(smaller)
                    continue
            tally.add(outcomes, len(sent.items))

    def _do(self, call: Call[Answer], retries: Retries | None = None) -> Answer:
        import httpx2

        retries = retries or self._retries
        made = 0
        while True:
            made += 1
            failure: Reply | Lost
            try:
                failure = wire.reply_of(self._http.request(**wire.request_options(call)))
                if not retries.covers(failure.status):
                    return understood(call, failure)
            except httpx2.RequestError as error:
                failure = wire.lost(error, self._timeout)
            time.sleep(after_failure(failure, made, retries, self.url))
