"""The HTTP gateway of both Flows: bodies in, envelopes out; the Flow does the rest."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docarray import DocList
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from jina.serve.runtimes.gateway.http.fastapi import FastAPIBaseGateway
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from crossmodal.documents import MatchDocument, MediaDocument
from crossmodal.errors import CrossmodalError, RequestError, ServiceError
from crossmodal.http_shapes import (
    IndexResult,
    Match,
    ParsedDocument,
    ParsedRequest,
    QueryItem,
    QueryResult,
    envelope_of,
    image_url,
    parse_request,
    read_json,
    render_error,
    render_index,
    render_results,
)
from crossmodal.records import IMAGE, Record
from crossmodal.workspace import Workspace
from flows.delivery import deliver
from flows.requests import batched_documents
from flows.topology import FLOW_FILES, read_topology

# A dozen large photos as base64; more belong in several requests.
MAX_BODY_BYTES = 64 << 20

OVERRIDE_HEADER = "x-envelope"

_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

_ENDPOINTS = {"query": "search", "index": "index"}
_TASKS = {"search": "query_restful", "index": "index_restful"}

Handler = Callable[[Request], Awaitable[Response]]


class SearchGateway(FastAPIBaseGateway):
    """Serves one Flow over HTTP: ``kind`` says which of /search and /index it can answer."""

    def __init__(self, kind: str, variables: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kind = kind
        self._topology = read_topology(FLOW_FILES[kind], variables)
        self._keep = variables["CROSSMODAL_KEEP"]
        self._workspace = Workspace(Path(variables["JINA_WORKSPACE"]))

    @property
    def app(self) -> FastAPI:
        """The routes; jina asks for this once, when it starts the server."""
        app = FastAPI(title="Cross-modal search", docs_url=None, redoc_url=None, openapi_url=None)
        if self._kind == "query":
            # Jina Box posts JSON from whatever page it stands on, which browsers preflight. Other pages may
            # search and look, never write: the index Flow is not opened to them.
            app.add_middleware(
                CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "POST"], allow_headers=["*"]
            )
        for path in ("/search", "/api/search", "/index", "/api/index", "/post"):
            app.add_api_route(path, _told(self._answer), methods=["POST"])
        app.add_api_route("/status", _told(self._status), methods=["GET"])
        app.add_api_route("/healthz", self._health, methods=["GET"])
        app.add_api_route("/images/{id:path}", _told(self._image), methods=["GET"])
        app.add_exception_handler(404, _no_such_route)
        app.add_exception_handler(405, _no_such_route)
        app.add_middleware(_HostCheck)
        return app

    async def _answer(self, request: Request) -> Response:
        started = datetime.now(UTC)
        request.state.body = read_json(await _body(request))
        parsed = parse_request(
            request.state.body,
            path=request.url.path,
            envelope_override=_override(request),
            host=request.headers.get("host", ""),
        )
        served = _ENDPOINTS[self._kind]
        if parsed.endpoint != served:
            raise RequestError(
                f"This server answers /{served} only; /{parsed.endpoint} is served by "
                f"`python app.py -t {_TASKS[parsed.endpoint]}`.",
                status=404,
            )
        if parsed.endpoint == "search":
            found = await self._search(parsed, str(request.base_url))
            _raise_if_all_failed([result.error for result in found])
            content = render_results(parsed, found, started=started, ended=datetime.now(UTC))
        else:
            indexed = await self._index(parsed.documents)
            _raise_if_all_failed([result.error for result in indexed])
            content = render_index(parsed, indexed, started=started, ended=datetime.now(UTC))
        return JSONResponse(content)

    async def _search(self, parsed: ParsedRequest, base_url: str) -> list[QueryResult]:
        errors = {query.id: query.refused for query in parsed.queries}
        docs = []
        for query in parsed.queries:
            if errors[query.id] is None:
                try:
                    docs.append(await self._query_document(query))
                except RequestError as refusal:
                    errors[query.id] = str(refusal)
        answered = await self._stream(docs, "/search", {"top_k": parsed.top_k})
        results = []
        for query in parsed.queries:
            doc = answered.get(query.id)
            error = errors[query.id] if doc is None else doc.error
            matches = () if doc is None else tuple(_match(match, base_url) for match in doc.matches or ())
            results.append(QueryResult(query, matches, error))
        return results

    async def _query_document(self, query: QueryItem) -> MediaDocument:
        content = query.content
        if query.indexed_id is not None:
            content, _ = await self._photo(query.indexed_id)
        return MediaDocument(id=query.id, modality=query.modality, text=query.text, blob=content)

    async def _index(self, documents: Sequence[ParsedDocument]) -> list[IndexResult]:
        records = {doc.id: _record(doc) for doc in documents if doc.refused is None}
        known = await asyncio.to_thread(
            self._workspace.unchanged, list(records.values()), originals=self._keep == "original"
        )
        new = [MediaDocument.from_record(record) for id, record in records.items() if id not in known]
        answered = await self._stream(new, "/index", {})
        aborted = next((doc.error for doc in answered.values() if doc.aborted), None)
        if aborted is not None:
            raise RequestError(aborted, status=507)
        results = []
        for document in documents:
            doc = answered.get(document.id)
            if document.refused is not None:
                results.append(IndexResult(document, error=document.refused))
            elif doc is None:
                results.append(IndexResult(document, outcome="unchanged"))
            else:
                results.append(
                    IndexResult(document, outcome=None if doc.error else doc.outcome, error=doc.error)
                )
        return results

    async def _stream(
        self, docs: list[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> dict[str, MediaDocument]:
        async def send(docs: list[MediaDocument]) -> list[MediaDocument]:
            answered: list[MediaDocument] = []
            async for part, error in self.streamer.stream(
                DocList[MediaDocument](docs),
                request_size=len(docs),
                exec_endpoint=endpoint,
                parameters=parameters,
                return_type=DocList[MediaDocument],
            ):
                if error is not None:
                    raise ServiceError(f"The Flow failed on this request ({error.name}).")
                answered.extend(part)
            return answered

        answered: dict[str, MediaDocument] = {}
        for batch in batched_documents(docs):
            answered |= await deliver(batch, self._topology, send)
        return answered

    async def _photo(self, id: str) -> tuple[bytes, str]:
        found = await asyncio.to_thread(self._workspace.content, id)
        # An index made with --keep uri has nothing but thumbnails.
        found = found or await asyncio.to_thread(self._workspace.thumbnail, id)
        if found is None:
            raise RequestError(f"There is no photo {id!r} in the index.", status=404)
        return found

    async def _status(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._workspace.status))

    async def _health(self) -> Response:
        return JSONResponse({"status": "ok", "flow": self._kind})

    async def _image(self, request: Request) -> Response:
        content, mime_type = await self._photo(request.path_params["id"])
        return Response(
            content,
            # Only what a browser shows as a picture: a file from outside must never run as a page.
            media_type=mime_type if mime_type in _SHOWN else "application/octet-stream",
            headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"},
        )


_SHOWN = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"})


class _HostCheck:
    """Refuses a Host header that is no host: the addresses of photos in answers are made from it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] == "http" and not all(_HOST.fullmatch(host) for host in hosts):
            message = "The Host header is not a host name with an optional port."
            refusal = JSONResponse(render_error(message, envelope=None, status=400), status_code=400)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _told(answer: Handler) -> Handler:
    """Turns every error into an envelope that the client can read."""

    async def told(request: Request) -> Response:
        request.state.body = None
        try:
            return await answer(request)
        except CrossmodalError as error:
            status = error.status if isinstance(error, RequestError) else 503
            return _error(request, str(error), status)
        except ClientDisconnect:
            # Nobody is there to be answered.
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001  the last line before the client, who must get an envelope
            print(f"error: {request.url.path}: {error!r}", file=sys.stderr, flush=True)
            return _error(request, f"The server failed on this request ({type(error).__name__}).", 500)

    return told


async def _no_such_route(request: Request, error: Exception) -> Response:
    request.state.body = None
    message = f"{request.method} {request.url.path} is not served here; POST to /search or /index."
    return _error(request, message, getattr(error, "status_code", 404))


def _error(request: Request, message: str, status: int) -> Response:
    envelope = envelope_of(request.state.body, request.url.path, _override(request))
    return JSONResponse(render_error(message, envelope=envelope, status=status), status_code=status)


def _raise_if_all_failed(errors: Sequence[str | None]) -> None:
    first = errors[0]
    if first is not None and None not in errors:
        raise RequestError(first, status=422)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(
                f"The request is larger than {MAX_BODY_BYTES >> 20} MiB; send fewer or smaller photos.",
                status=413,
            )
    return bytes(body)


def _override(request: Request) -> str | None:
    return request.headers.get(OVERRIDE_HEADER) or request.query_params.get("envelope")


def _record(document: ParsedDocument) -> Record:
    return Record(
        id=document.id,
        modality=document.modality,
        text=document.text,
        mime_type=document.mime_type,
        photo_id=document.photo_id,
        tags=document.tags,
        content=document.content,
    ).hashed()


def _match(match: MatchDocument, base_url: str) -> Match:
    # A path of this machine is nobody's business; the photo itself has an address here.
    is_photo = match.modality == IMAGE
    photo_id = str(match.id) if is_photo else match.photo_id
    url = image_url(photo_id, base_url) if photo_id else None
    tags = dict(match.tags or {})
    if match.uri:
        tags.setdefault("file", Path(match.uri).name)
    if url and not is_photo:
        tags.setdefault("photo", url)
    return Match(
        id=str(match.id),
        modality="image" if is_photo else "text",
        score=float(match.score or 0.0),
        text=match.text,
        uri=url if is_photo else None,
        mime_type=match.mime_type,
        tags=tags,
    )
