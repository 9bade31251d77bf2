"""Everything under /v1/documents: reading what is indexed, adding to it and deleting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import limits
from crossmodal.engine.browsing import MOMENT_MINUTES, moment_of
from crossmodal.errors import CrossmodalError, DataError, FilterError, RequestError
from crossmodal.filters import And, Filter, parse_filter
from crossmodal.filters.sorting import Order, parse_order
from crossmodal.http_shapes.v1.answers import document_json
from crossmodal.http_shapes.v1.documents import (
    UploadMetadata,
    parse_line,
    parse_metadata,
    parse_upload,
    photo_url,
)
from crossmodal.http_shapes.values import checked_id, checked_text, shown, whole_number
from crossmodal.metadata.locations import without_private
from crossmodal.records import IMAGE, TEXT, Modality, Record, json_size
from crossmodal.server.access.locations import require_no_locations, sees_locations
from crossmodal.server.access.paths import PATHS_HIDDEN
from crossmodal.server.contents import PICTURE_SIZES, photo_response, thumbnail_response
from crossmodal.server.forms import FORM_TYPE, FormText, form_parts, media_type_of
from crossmodal.server.guards import body_chunks, require_writing
from crossmodal.server.routes import JsonResponse, add_route, problem, problem_of, problem_response
from crossmodal.server.serving import Serving
from crossmodal.server.v1.adding import Adding
from crossmodal.url_photos import UrlPhotos
from crossmodal.videos.moments import video_of
from crossmodal.workspace import Workspace

__all__ = [
    "DOCUMENTS_PATH",
    "add_document_routes",
    "addressed",
    "described_by_id",
    "filter_of",
    "missing",
    "modality_of",
    "parameters_of",
    "switch_of",
]

DOCUMENTS_PATH = "/v1/documents"

_LINES_TYPE = "application/x-ndjson"
_LINES_TYPES = (_LINES_TYPE, "application/jsonl")

_LISTED = 24

_Part = Literal["content", "thumbnail", "heatmap"]
_PARTS: Mapping[bytes, _Part] = {b"content": "content", b"thumbnail": "thumbnail", b"heatmap": "heatmap"}


def add_document_routes(app: Starlette, serving: Serving) -> None:
    """Adds /v1/documents and what is below it."""
    documents = _Documents(serving)
    # One route for all below: an id may hold a slash, and only the path as it was sent shows where it ends.
    below = DOCUMENTS_PATH + "/{id:path}"
    add_route(app, DOCUMENTS_PATH, documents.list, ["GET", "HEAD"])
    add_route(app, DOCUMENTS_PATH, documents.add, ["POST"])
    add_route(app, below, documents.get, ["GET", "HEAD"])
    add_route(app, below, documents.delete, ["DELETE"])


class _Documents:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def list(self, request: Request) -> Response:
        parameters = parameters_of(
            request, ("modality", "limit", "after", "sort", "filter", "moment_of", "minutes")
        )
        modality = modality_of(parameters.get("modality", IMAGE))
        try:
            limit = whole_number(
                parameters.get("limit", _LISTED), "'limit'", minimum=1, maximum=limits.LISTED.most
            )
            order = parse_order(parameters["sort"]) if "sort" in parameters else None
            after = parameters.get("after")
            if after is not None and order is None:
                after = checked_id(after, "'after'", limits.STORED_ID)
            filter = filter_of(parameters.get("filter"))
            moment = _moment(parameters)
        except (RequestError, DataError) as error:
            raise RequestError(str(error), status=422) from None
        hidden = not sees_locations(request.scope, self._serving.settings)
        if hidden:
            require_no_locations(filter, order)
        try:
            if moment is not None:
                of_moment = await asyncio.to_thread(moment_of, self._serving.engine.workspace, *moment)
                filter = of_moment if filter is None else And((filter, of_moment))
            documents, following = await asyncio.to_thread(
                _listed, self._serving.engine.workspace, modality, limit, after, filter, order
            )
        except DataError as error:
            raise RequestError(str(error), status=422) from None
        if hidden:
            documents = [_without_places(document) for document in documents]
        return JsonResponse({"documents": documents, "next": following})

    async def get(self, request: Request) -> Response:
        id, part = addressed(request)
        hidden = not sees_locations(request.scope, self._serving.settings)
        if part == "content":
            original = _flag(request, "original")
            return await photo_response(request, self._serving, id, original=original, hide_location=hidden)
        if part == "thumbnail":
            return await thumbnail_response(request, self._serving, id, size=_size(request))
        if part == "heatmap":
            found = await self._serving.heat_map(id, _sentence(request))
            if found is None:
                raise missing(id)
            return JsonResponse(asdict(found))
        described = await asyncio.to_thread(described_by_id, self._serving.engine.workspace, id)
        if described is None:
            raise missing(id)
        if hidden:
            described = _without_places(described)
        return JsonResponse(described)

    async def delete(self, request: Request) -> Response:
        require_writing(request, self._serving)
        id, part = addressed(request)
        if part is not None:
            refusal = problem(405, f"The {part} of a document is not deleted by itself; delete the document.")
            response = problem_response(refusal)
            response.headers["Allow"] = "GET, HEAD"
            return response
        captions = _flag(request, "captions", unless_given=True)
        with self._serving.admission.writes.take():
            deleted = await self._serving.delete([id], captions=captions)
        if not deleted:
            raise missing(id)
        return JsonResponse({"deleted": deleted})

    async def add(self, request: Request) -> Response:
        require_writing(request, self._serving)
        media_type = media_type_of(request)
        async with AsyncExitStack() as held:
            held.enter_context(self._serving.admission.writes.take())
            adding = await held.enter_async_context(Adding(self._serving))
            try:
                if media_type == FORM_TYPE:
                    await _add_form(request, adding, self._serving.settings.max_photo_bytes)
                elif media_type in _LINES_TYPES:
                    await _add_lines(request, adding, self._serving.url_photos)
                else:
                    raise RequestError(
                        f"The content type is {shown(media_type)}; send files as {FORM_TYPE}, or documents "
                        f"one a line as {_LINES_TYPE}.",
                        status=415,
                    )
                await adding.finish()
            except CrossmodalError as error:
                await adding.give_up()
                members = problem_of(error)
                if adding.wrote:
                    # Some of it is indexed already, and stays so. Its ids are the client's own words.
                    members["detail"] = self._serving.path_names.hide(members["detail"])
                    members |= {"results": adding.results(), **adding.counts()}
                    setattr(request.state, PATHS_HIDDEN, True)
                return problem_response(members)
            if _wants_lines(request):
                lines = (json.dumps(result, ensure_ascii=False) + "\n" for result in adding.results())
                return Response("".join(lines), media_type=_LINES_TYPE)
            return JsonResponse({"results": adding.results(), **adding.counts()})


async def _add_form(request: Request, adding: Adding, max_file_bytes: int) -> None:
    metadata: UploadMetadata | None = None
    named: set[str] = set()
    files = 0
    async for part in form_parts(request, {"metadata"}, {"file"}, max_file_bytes=max_file_bytes):
        if isinstance(part, FormText):
            if metadata is not None or files:
                raise RequestError("The part 'metadata' has to stand before all files, and once.", status=422)
            metadata = await asyncio.to_thread(parse_metadata, part.value.encode())
            continue
        files += 1
        named.add(part.name)
        source = part.name[: limits.FILE_NAME.most] or f"file {files}"
        if part.refused is not None:
            adding.refuse(source, part.refused)
            continue
        await _add_parsed(
            adding,
            source,
            partial(parse_upload, part.name, part.content, shown(source), metadata or UploadMetadata()),
        )
    if not files:
        raise RequestError("The form has no files; send them as parts named 'file'.", status=422)
    for name in (metadata or UploadMetadata()).files:
        if name not in named:
            adding.refuse(
                name[: limits.FILE_NAME.most],
                f"The metadata describes {shown(name)}, but no file of that name came.",
            )


async def _add_lines(request: Request, adding: Adding, photos: UrlPhotos | None) -> None:
    lines = 0
    async for number, line in _numbered_lines(body_chunks(request)):
        lines += 1
        source = f"line {number}"
        if line is None:
            adding.refuse(
                source,
                f"Line {number} has more than {limits.LINE.most >> 20} MiB. {limits.LINE.advice}",
            )
        else:
            async with AsyncExitStack() as held:
                fetched = None
                if photos is not None:
                    url = await asyncio.to_thread(photo_url, line)
                    fetched = await held.enter_async_context(photos.fetched([] if url is None else [url]))
                await _add_parsed(adding, source, partial(parse_line, line, number, fetched))
    if not lines:
        raise RequestError(
            'The body is empty; send one document a line, such as {"text": "a dog on a beach"}.', status=422
        )


async def _add_parsed(adding: Adding, source: str, parse: Callable[[], list[Record]]) -> None:
    try:
        # In a thread: decoding and hashing a large photo would block all other requests.
        parsed = await asyncio.to_thread(lambda: [record.hashed() for record in parse()])
    except RequestError as refusal:
        adding.refuse(source, str(refusal))
    else:
        await adding.add(source, parsed)


async def _numbered_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes | None]]:
    """Lines that hold something, counted from 1 with the empty ones; None for one that is too long."""
    number = 1
    held = bytearray()
    too_long = False
    async for chunk in chunks:
        if not held and not too_long and chunk.isspace():
            # One by one, a body of nothing but empty lines would block all other requests.
            number += chunk.count(b"\n")
            continue
        start = 0
        while True:
            end = chunk.find(b"\n", start)
            piece = memoryview(chunk)[start : end if end >= 0 else len(chunk)]
            too_long = too_long or len(held) + len(piece) > limits.LINE.most
            if too_long:
                held.clear()
            else:
                held += piece
            if end < 0:
                break
            if too_long or (held and not held.isspace()):
                yield number, None if too_long else bytes(held)
            number += 1
            held.clear()
            too_long = False
            start = end + 1
    if too_long or (held and not held.isspace()):
        yield number, None if too_long else bytes(held)


def addressed(request: Request) -> tuple[str, _Part | None]:
    """The id in the path and what of the document is meant; raises RequestError, 404, for any other path."""
    segments = request.scope["raw_path"].split(b"?")[0].split(b"/")
    after = segments[len(DOCUMENTS_PATH.split("/")) :]
    part = _PARTS.get(after[1]) if len(after) == 2 else None
    if part is None and len(after) != 1:
        raise RequestError(
            f"{shown(request.url.path, 200)} is not served here; a slash in an id is written %2F.", status=404
        )
    try:
        return checked_id(unquote_to_bytes(after[0]).decode(), "The id", limits.STORED_ID), part
    except UnicodeDecodeError:
        raise RequestError(
            "The id in the path is not UTF-8; there is no such document.", status=404
        ) from None
    except RequestError as error:
        raise RequestError(f"{error} There is no such document.", status=404) from None


def parameters_of(request: Request, known: Collection[str]) -> dict[str, str]:
    """The parameters of the address; raises RequestError, 422, for one that isn't known or comes twice."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise RequestError(
                f"The parameter {shown(name)} is not known here; there are {', '.join(known)}.", status=422
            )
        if name in given:
            raise RequestError(f"The parameter {name!r} is given twice; give it once.", status=422)
        given[name] = value
    return given


def _flag(request: Request, name: str, *, unless_given: bool = False) -> bool:
    """The one parameter that the request may have."""
    return switch_of(parameters_of(request, (name,)), name, default=unless_given)


def switch_of(parameters: Mapping[str, str], name: str, *, default: bool) -> bool:
    """The parameter of that name; raises RequestError, 422, where it is neither true nor false."""
    given = parameters.get(name, str(default).lower())
    if given not in ("true", "false"):
        raise RequestError(f"{name!r} is {shown(given)}; it has to be true or false.", status=422)
    return given == "true"


def _sentence(request: Request) -> str:
    """The sentence that a heat map is asked for; raises RequestError, 422, where there is none."""
    given = parameters_of(request, ("text",)).get("text")
    if given is None:
        raise RequestError("A heat map is of a sentence: say which with 'text'.", status=422)
    try:
        return checked_text(given, "'text'")
    except RequestError as error:
        raise RequestError(str(error), status=422) from None


def _size(request: Request) -> int | None:
    """The size of preview that is asked for, None for the thumbnail."""
    given = parameters_of(request, ("size",)).get("size")
    if given is not None and given not in map(str, PICTURE_SIZES):
        raise RequestError(
            f"'size' is {shown(given)}; there are {', '.join(map(str, PICTURE_SIZES))}.", status=422
        )
    return None if given is None else int(given)


def _moment(parameters: Mapping[str, str]) -> tuple[str, float] | None:
    """The photo whose moment is asked for, and how many minutes that has; raises RequestError."""
    minutes = parameters.get("minutes")
    if "moment_of" not in parameters:
        if minutes is not None:
            raise RequestError("'minutes' says how long a moment is; say with 'moment_of' of which photo.")
        return None
    id = checked_id(parameters["moment_of"], "'moment_of'", limits.STORED_ID)
    try:
        return id, MOMENT_MINUTES if minutes is None else float(minutes)
    except ValueError:
        raise RequestError(f"'minutes' is {shown(minutes)}; it has to be a number.") from None


def modality_of(value: str) -> Modality:
    """The modality of that name; raises RequestError, 422, where there is none."""
    if value == IMAGE:
        return IMAGE
    if value == TEXT:
        return TEXT
    raise RequestError(f"'modality' is {shown(value)}; it has to be 'image' or 'text'.", status=422)


def _without_places(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "tags": without_private(document["tags"])}


def filter_of(text: str | None) -> Filter | None:
    """The filter that ``text`` is the JSON of; raises RequestError where it is none."""
    if text is None:
        return None
    try:
        return parse_filter(json.loads(text))
    except (ValueError, RecursionError):
        raise RequestError(
            f"'filter' is {shown(text)}; it has to be JSON such as {{\"year\": 2019}}."
        ) from None
    except FilterError as error:
        raise RequestError(error.located("'filter'")) from None


def _listed(
    workspace: Workspace,
    modality: Modality,
    limit: int,
    after: str | None,
    filter: Filter | None,
    order: Order | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Some documents, and what the next ones stand behind."""

    def place(record: Record) -> str:
        return record.id if order is None else order.place_of(record.all_tags, record.id)

    records = workspace.list_records(modality, limit + 1, after, filter=filter, order=order)
    listed = records[:limit]
    documents: list[dict[str, Any]] = []
    left = limits.ANSWER_TOGETHER.most
    for start in range(0, len(listed), _LISTED):
        described = _described(workspace, listed[start : start + _LISTED])
        for document in described:
            left -= json_size(document)
            if documents and left < 0:
                # The next page begins here.
                return documents, place(listed[len(documents) - 1])
            documents.append(document)
    return documents, place(listed[-1]) if len(records) > limit else None


def described_by_id(workspace: Workspace, id: str) -> dict[str, Any] | None:
    """The photo with that id, else the caption, as the native API shows it; None if there is neither."""
    record = workspace.find(id)
    return None if record is None else _described(workspace, [record])[0]


def _described(workspace: Workspace, records: Collection[Record]) -> list[dict[str, Any]]:
    captions = workspace.captions_of([video_of(record.id) for record in records if record.modality == IMAGE])
    photos = workspace.records({record.photo_id for record in records if record.photo_id}, IMAGE)
    looks = workspace.looks([*photos, *(record.id for record in records if record.modality == IMAGE)])
    return [
        document_json(
            record,
            captions=captions.get(video_of(record.id), ()) if record.modality == IMAGE else (),
            photo=photos.get(record.photo_id or ""),
            look=looks.get(record.id if record.modality == IMAGE else record.photo_id or ""),
            text_in_photo=workspace.text_of(record.id) if record.modality == IMAGE else None,
        )
        for record in records
    ]


def _wants_lines(request: Request) -> bool:
    accepted = request.headers.get("accept", "").lower().split(",")
    return any(kind.partition(";")[0].strip() in _LINES_TYPES for kind in accepted)


def missing(id: str) -> RequestError:
    """The error of a request for a document that is not there."""
    return RequestError(f"There is no document {shown(id, 80)} in the index.", status=404)
