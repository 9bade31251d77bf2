"""The HTTP gateway of both Flows: bodies in, envelopes out; the Flow does the rest."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docarray import DocList
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from jina.serve.runtimes.gateway.http.fastapi import FastAPIBaseGateway

from crossmodal.documents import MediaDocument
from crossmodal.errors import CrossmodalError, RequestError, ServiceError, StoreError
from crossmodal.http_shapes import (
    IndexOutcome,
    Match,
    ParsedRequest,
    QueryResult,
    envelope_of,
    parse_request,
    render_error,
    render_index,
    render_results,
)
from crossmodal.records import IMAGE, Record
from crossmodal.workspace import Workspace
from executors.steps import ABORTED

# A dozen large photos as base64; more belong in several requests.
MAX_BODY_BYTES = 64 << 20

OVERRIDE_HEADER = "x-envelope"

Handler = Callable[[Request], Awaitable[Response]]


class SearchGateway(FastAPIBaseGateway):
    """Serves one Flow over HTTP: ``kind`` says which of /search and /index it can answer."""

    def __init__(self, kind: str, workspace: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kind = kind
        self._workspace = Workspace(Path(workspace))

    @property
    def app(self) -> FastAPI:
        """The routes; jina asks for this once, when it starts the server."""
        app = FastAPI(title="Cross-modal search", docs_url=None, redoc_url=None, openapi_url=None)
        # Jina Box posts JSON from whatever page it stands on, which browsers preflight.
        app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
        for path in ("/search", "/api/search", "/index", "/api/index", "/post"):
            app.add_api_route(path, _told(self._answer), methods=["POST"])
        app.add_api_route("/status", self._status, methods=["GET"])
        app.add_api_route("/healthz", self._health, methods=["GET"])
        app.add_api_route("/images/{id}", self._image, methods=["GET"])
        app.add_exception_handler(404, _no_such_route)
        app.add_exception_handler(405, _no_such_route)
        return app

    async def _answer(self, request: Request) -> Response:
        started = datetime.now(UTC)
        parsed = parse_request(
            request.state.body,
            path=request.url.path,
            envelope_override=_override(request),
            host=request.headers.get("host", ""),
        )
        if parsed.endpoint != {"query": "search", "index": "index"}[self._kind]:
            raise RequestError(
                f"This server answers /{'search' if self._kind == 'query' else 'index'} only; "
                f"/{parsed.endpoint} is served by `python app.py -t "
                f"{'query_restful' if parsed.endpoint == 'search' else 'index_restful'}`.",
                status=404,
            )
        if parsed.endpoint == "search":
            content = await self._search(parsed, str(request.base_url), started)
        else:
            content = await self._index(parsed, started)
        return JSONResponse(content)

    async def _search(self, parsed: ParsedRequest, base_url: str, started: datetime) -> dict[str, Any]:
        queries = []
        for query in parsed.queries:
            content = query.content
            if query.indexed_id is not None:
                found = await asyncio.to_thread(self._workspace.content, query.indexed_id)
                if found is None:
                    raise RequestError(f"There is no photo {query.indexed_id!r} in the index.", status=404)
                content = found[0]
            queries.append(
                MediaDocument(id=query.id, modality=query.modality, text=query.text, blob=content)
            )
        answered = await self._stream(queries, "/search", {"top_k": parsed.top_k})
        results = []
        for query in parsed.queries:
            doc = answered[query.id]
            if doc.error is not None:
                raise RequestError(doc.error, status=422)
            results.append(QueryResult(query, tuple(_match(match, base_url) for match in doc.matches or ())))
        return render_results(parsed, results, started=started, ended=datetime.now(UTC))

    async def _index(self, parsed: ParsedRequest, started: datetime) -> dict[str, Any]:
        records = [record for document in parsed.documents for record in document.records()]
        known = await asyncio.to_thread(self._workspace.unchanged, records)
        new = [MediaDocument.from_record(record) for record in records if record.id not in known]
        answered = await self._stream(new, "/index", {}) if new else {}
        if any(doc.outcome == ABORTED for doc in answered.values()):
            raise RequestError(next(d.error for d in answered.values() if d.outcome == ABORTED), status=507)
        outcomes = [_outcome(record, answered.get(record.id)) for record in records]
        return render_index(parsed, outcomes, started=started, ended=datetime.now(UTC))

    async def _stream(
        self, docs: list[MediaDocument], endpoint: str, parameters: dict[str, Any]
    ) -> dict[str, MediaDocument]:
        answered: dict[str, MediaDocument] = {}
        async for part, error in self.streamer.stream(
            DocList[MediaDocument](docs),
            request_size=len(docs),
            exec_endpoint=endpoint,
            parameters=parameters,
            return_type=DocList[MediaDocument],
        ):
            if error is not None:
                raise ServiceError(f"The Flow failed on this request ({error.name}).")
            answered.update((str(doc.id), doc) for doc in part)
        return answered

    async def _status(self) -> Response:
        try:
            return JSONResponse(await asyncio.to_thread(self._workspace.status))
        except StoreError as error:
            return JSONResponse(render_error(str(error), envelope=None, status=503), status_code=503)

    async def _health(self) -> Response:
        return JSONResponse({"status": "ok", "flow": self._kind, "time": time.time()})

    async def _image(self, id: str) -> Response:
        found = await asyncio.to_thread(self._workspace.content, id)
        if found is None:
            return JSONResponse(
                render_error(f"There is no photo {id!r} in the index.", envelope=None, status=404), status_code=404
            )
        content, mime_type = found
        return Response(
            content,
            # Only what a browser shows as a picture: a file from outside must never run as a page.
            media_type=mime_type if mime_type.startswith("image/") and "svg" not in mime_type else "image/jpeg",
            headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"},
        )


def _told(answer: Handler) -> Handler:
    """Reads the body, and turns every error into the envelope that the client can read."""

    async def told(request: Request) -> Response:
        request.state.body = None
        try:
            request.state.body = await _json_body(request)
            return await answer(request)
        except CrossmodalError as error:
            status = error.status if isinstance(error, RequestError) else 503
            message = str(error)
        except Exception as error:  # noqa: BLE001  the last line before the client, who must get an envelope
            status = 500
            message = f"The server failed on this request ({type(error).__name__})."
        envelope = envelope_of(request.state.body, request.url.path, _override(request))
        return JSONResponse(render_error(message, envelope=envelope, status=status), status_code=status)

    return told


async def _json_body(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(
                f"The request is larger than {MAX_BODY_BYTES >> 20} MiB; send fewer or smaller photos.", status=413
            )
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not JSON: {error}.") from None


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = f"{request.method} {request.url.path} is not served here; POST to /search, or GET /status."
    return JSONResponse(
        render_error(message, envelope=envelope_of(None, request.url.path, _override(request)), status=status),
        status_code=status,
    )


def _override(request: Request) -> str | None:
    return request.headers.get(OVERRIDE_HEADER) or request.query_params.get("envelope")


def _match(match: Any, base_url: str) -> Match:
    # A path of this machine is nobody's business; the photo itself has an address here.
    photo = str(match.id) if match.modality == IMAGE else match.photo_id
    url = f"{base_url}images/{photo}" if photo else None
    tags = dict(match.tags or {})
    if match.uri and not match.uri.startswith("data:"):
        tags.setdefault("file", Path(match.uri).name)
    if match.modality != IMAGE and url:
        tags.setdefault("photo", url)
    return Match(
        id=str(match.id),
        modality=match.modality,
        text=match.text,
        uri=url if match.modality == IMAGE else None,
        mime_type=match.mime_type or ("image/jpeg" if match.modality == IMAGE else "text/plain"),
        tags=tags,
        score=float(match.score),
    )


def _outcome(record: Record, doc: MediaDocument | None) -> IndexOutcome:
    if doc is None:
        return IndexOutcome(record.id, record.modality, "unchanged", None)
    return IndexOutcome(record.id, record.modality, None if doc.error else str(doc.outcome), doc.error)
