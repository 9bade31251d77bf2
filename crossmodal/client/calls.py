"""The calls of the API as coroutines, over whatever sends requests, waits and reads files."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, Unpack
from urllib.parse import quote

from crossmodal.client.answers import (
    Document,
    DocumentsPage,
    Facet,
    ModelInfo,
    QueryResult,
    Removal,
    SearchAnswer,
    Status,
    Suggestion,
    TagField,
    UploadProgress,
    UploadSummary,
)
from crossmodal.client.decoding import read_json
from crossmodal.client.exchange import Call, Retries, encode_json, lost_connection, refusal
from crossmodal.client.queries import (
    Image,
    Pages,
    Query,
    SearchOptions,
    Term,
    only_result,
    search_call,
)
from crossmodal.client.uploads import Batch, Tally, Uploadable, batches, known_total
from crossmodal.client.vectors import Encodable, encode_calls
from crossmodal.errors import ApiError, ServerUnavailable
from crossmodal.match import Match
from crossmodal.query.heat_maps import HeatMap

if TYPE_CHECKING:
    import httpx2

__all__ = ["Calls", "Io"]

Answer = TypeVar("Answer")
Io = Callable[..., Awaitable[Any]]

_READY_PAUSE_SECONDS = 0.2


class Calls:
    """The calls of the API over three functions to await, which may or may not suspend the caller.

    ``request`` sends a request of the HTTP library, ``sleep`` waits for seconds, and ``run`` calls a function
    that may read files.
    """

    def __init__(
        self, url: str, timeout: float, retries: Retries | None, request: Io, sleep: Io, run: Io
    ) -> None:
        self.url = url
        self._timeout = timeout
        self._retries = retries or Retries()
        self._request = request
        self._sleep = sleep
        self._run = run

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
        sort: str | None = None,
        recognise: bool | None = None,
        explain: bool = False,
        rerank: Mapping[str, Any] | None = None,
        fields: Sequence[str] | None = None,
        vector: Sequence[float] | None = None,
        kind: str | None = None,
    ) -> QueryResult:
        """Answers one query: exactly one of the first six arguments and ``vector`` says what is searched for.

        ``image`` is a photo's bytes, a file, or "id:ID" of an indexed one; ``id`` finds more like that
        document; ``expression`` is like ``dog + 0.5*id:42 - snow``; ``like`` and ``unlike`` are ids.
        ``modality`` is "image", "text" or "both"; without it, photos are found, and captions for photos
        alone. ``top_k`` is 1 to 1000, ``offset`` how many to leave out before; ``min_score`` is in [0, 1];
        ``sort`` is a tag that what was found is sorted by, with a minus in front the largest first; without
        ``recognise`` (True by default) years and places in a sentence are words and no filters;
        with ``explain`` each match says what it was found by, and with ``rerank``, such as
        ``{"depth": 50}``, the server's second stage orders the best candidates;
        ``fields`` are those of text, photo, captions and tags that are wanted, by default all. ``vector`` is
        one as ``encode`` makes it, and ``kind`` what it is of, "text" (by default) or "image".
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
            sort=sort,
            recognise=recognise,
            explain=explain or None,
            rerank=rerank,
            fields=fields,
            vector=vector,
            kind=kind,
        )
        call: Call[SearchAnswer] = await self._run(search_call, query)
        return only_result(await self._answer(call))

    async def search_many(
        self, queries: Iterable[Query | str], **options: Unpack[SearchOptions]
    ) -> SearchAnswer:
        """Answers up to 64 queries, sentences or ``Query``, in one request and in their order.

        ``options`` are those of ``search``, for all queries that don't say otherwise. A query that cannot be
        answered has an ``error``; where none can, ApiError is raised.
        """
        asked = [Query(text=query) if isinstance(query, str) else query for query in queries]
        call: Call[SearchAnswer] = await self._run(search_call, asked, Query(**options))
        return await self._answer(call)

    async def more_like(self, id: str, **options: Unpack[SearchOptions]) -> QueryResult:
        """What is like the indexed photo or caption ``id``, without itself; ``options`` as in ``search``."""
        return await self.search(id=id, **options)

    async def encode(
        self, inputs: Sequence[Encodable] | Encodable, *, dimensions: int | None = None
    ) -> tuple[array[float], ...]:
        """The model's vectors of sentences (str) and photos (bytes, or the ``Path`` of a file), in order.

        Each has unit length and 32-bit numbers; NumPy takes it as it is. ``dimensions`` asks for so many
        numbers, the first ones, scaled to unit length again. They are read when their turn comes and sent a
        few at a time.
        """
        vectors: list[array[float]] = []
        calls = encode_calls(inputs, dimensions)
        while (call := await self._run(next, calls, None)) is not None:
            vectors += await self._answer(call)
        return tuple(vectors)

    async def upload(
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
        read = batches(sources, metadata, max_documents=max_documents, max_bytes=max_bytes)
        while (batch := await self._run(next, read, None)) is not None:
            await self._send(batch, tally)
        return tally.summary()

    async def delete(self, id: str, *, captions: bool = True) -> tuple[str, ...]:
        """Deletes a photo with the captions that describe it, or a caption; returns the ids of all that."""
        options = {} if captions else {"params": {"captions": "false"}}
        return await self._answer(Call("DELETE", _path(id), read_json(tuple[str, ...], "deleted"), options))

    async def delete_matching(
        self,
        filter: Mapping[str, Any],
        modality: str = "image",
        *,
        captions: bool = True,
        dry_run: bool = False,
    ) -> Removal:
        """Deletes all photos, or with "text" captions, that match ``filter``; ``captions`` as in ``delete``.

        With ``dry_run`` it deletes nothing and says what it would.
        """
        parameters = {
            "filter": json.dumps(filter),
            "modality": modality,
            "captions": str(captions).lower(),
            "dry_run": str(dry_run).lower(),
        }
        return await self._answer(Call("DELETE", "/v1/documents", read_json(Removal), {"params": parameters}))

    async def update(
        self,
        id: str,
        *,
        tags: Mapping[str, Any] | None = None,
        text: str | None = None,
        captions: Sequence[str] | None = None,
        add: Mapping[str, Any] | None = None,
        remove: Mapping[str, Any] | None = None,
    ) -> Document:
        """Changes an indexed document in place; returns it as it is then.

        ``tags`` are merged with those that it has, and None as a value takes one away. ``text`` is that of a
        caption, ``captions`` are all that a photo is to have. ``add`` and ``remove`` leave alone what others
        gave meanwhile: of ``{"tags": {"keywords": ["beach"]}}`` the values, and of ``captions`` the texts to
        add or the ids to remove.
        """
        listed = None if captions is None else list(captions)
        body = {"tags": tags, "text": text, "captions": listed, "add": add, "remove": remove}
        given = encode_json({name: value for name, value in body.items() if value is not None})
        options = {"content": given, "headers": {"Content-Type": "application/merge-patch+json"}}
        return await self._answer(Call("PATCH", _path(id), read_json(Document), options))

    async def document(self, id: str) -> Document:
        """An indexed photo or caption."""
        return await self._answer(Call("GET", _path(id), read_json(Document)))

    async def content(self, id: str) -> bytes:
        """An indexed photo's file, or its thumbnail where the index stores no originals."""
        options = {"params": {"original": "true"}}
        return await self._answer(Call("GET", f"{_path(id)}/content", bytes, options))

    async def thumbnail(self, id: str, *, size: int | None = None) -> bytes:
        """An indexed photo's small copy, as an image file.

        ``size`` is 512, 1024 or 2048 pixels of the longer side, or 200 or 480 of the shorter side of a WebP.
        """
        options = {} if size is None else {"params": {"size": str(size)}}
        return await self._answer(Call("GET", f"{_path(id)}/thumbnail", bytes, options))

    async def heat_map(self, id: str, text: str) -> HeatMap:
        """Which parts of an indexed photo fit a sentence."""
        options = {"params": {"text": text}}
        return await self._answer(Call("GET", f"{_path(id)}/heatmap", read_json(HeatMap), options))

    async def tags(self) -> tuple[TagField, ...]:
        """The tags that documents have, with their most frequent values."""
        return await self._answer(Call("GET", "/v1/tags", read_json(tuple[TagField, ...], "fields")))

    async def facet(
        self,
        tag: str,
        *,
        per: str | None = None,
        below: str | None = None,
        filter: Mapping[str, Any] | None = None,
        order: str | None = None,
        limit: int | None = None,
        modality: str = "image",
    ) -> Facet:
        """How many documents have which value of a tag, as ``PhotoIndex.facet``."""
        optional = {
            "per": per,
            "below": below,
            "filter": None if filter is None else json.dumps(filter),
            "sort": order,
            "limit": None if limit is None else str(limit),
        }
        given = {name: value for name, value in optional.items() if value is not None}
        params = {"params": {"tag": tag, "modality": modality, **given}}
        return await self._answer(Call("GET", "/v1/facets", read_json(Facet), params))

    async def suggest(self, text: str, limit: int = 10) -> tuple[Suggestion, ...]:
        """What may be meant by the beginning of it, the best first."""
        params = {"params": {"q": text, "limit": str(limit)}}
        read = read_json(tuple[Suggestion, ...], "suggestions")
        return await self._answer(Call("GET", "/v1/suggestions", read, params))

    async def status(self) -> Status:
        """What is indexed, how it is searched, and the queries that the server answers."""
        return await self._answer(Call("GET", "/v1/status", read_json(Status)))

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models that the server knows by name."""
        return await self._answer(Call("GET", "/v1/models", read_json(tuple[ModelInfo, ...], "models")))

    async def wait_until_ready(self, timeout: float = 60) -> None:
        """Returns when the server can answer searches; raises ServerUnavailable after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                await self._answer(Call("GET", "/readyz", read_json(str, "status")), Retries(attempts=1))
                return
            except ServerUnavailable:
                if time.monotonic() + _READY_PAUSE_SECONDS > deadline:
                    raise
            await self._sleep(_READY_PAUSE_SECONDS)

    async def next_matches(self, pages: Pages) -> tuple[Match, ...] | None:
        """The matches of the next page; None where there is none."""
        call: Call[SearchAnswer] | None = await self._run(pages.next_call)
        return None if call is None else pages.matches(only_result(await self._answer(call)))

    async def documents_page(
        self,
        modality: str,
        limit: int,
        after: str | None,
        sort: str | None,
        filter: Mapping[str, Any] | None,
    ) -> DocumentsPage:
        optional = {"after": after, "sort": sort, "filter": None if filter is None else json.dumps(filter)}
        parameters = {"modality": modality, "limit": limit}
        parameters |= {name: value for name, value in optional.items() if value is not None}
        return await self._answer(
            Call("GET", "/v1/documents", read_json(DocumentsPage), {"params": parameters})
        )

    async def _send(self, batch: Batch, tally: Tally) -> None:
        if batch.unread:
            tally.add(batch.unread, len(batch.unread))
        waiting = [batch] if batch.items else []
        while waiting:
            sent = waiting.pop()
            try:
                outcomes = await self._answer(sent.call())
            except ApiError as error:
                outcomes, smaller = sent.refused(error)
                if smaller:
                    waiting += reversed(smaller)
                    continue
            tally.add(outcomes, len(sent.items))

    async def _answer(self, call: Call[Answer], retries: Retries | None = None) -> Answer:
        """Attempts ``call`` until it is answered; raises ServerUnavailable or ApiError where it is not."""
        import httpx2

        retries = retries or self._retries
        for attempt in count(1):
            tried = "" if attempt == 1 else f" (tried {attempt} times)"
            try:
                response: httpx2.Response = await self._request(call.method, call.path, **call.options)
                if response.is_success:
                    return call.read(response.content)
                failure = refusal(response, self.url, tried)
            except httpx2.RequestError as error:
                failure = lost_connection(error, self._timeout, self.url, tried)
            delay = retries.wait(attempt, failure.server_delay) if failure.temporary else None
            if delay is None:
                raise failure.error
            await self._sleep(delay)
        raise AssertionError("count() never ends")


def _path(id: str) -> str:
    return f"/v1/documents/{quote(id, safe='')}"
