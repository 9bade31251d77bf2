"""What is fuzzed: each target takes any bytes, and raises only where something is wrong."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from starlette.requests import Request

from crossmodal import limits
from crossmodal.errors import CrossmodalError, FilterError, ImageError, QueryError, RequestError
from crossmodal.filters import parse_filter
from crossmodal.http_shapes.legacy.requests import parse_request
from crossmodal.http_shapes.v1.documents import parse_line, parse_metadata
from crossmodal.http_shapes.v1.embeddings import parse_embeddings
from crossmodal.http_shapes.v1.search import parse_search
from crossmodal.http_shapes.values import read_json
from crossmodal.images import decode_image, decode_reduced, sniff_mime_type, thumbnail_of
from crossmodal.metadata import FIELDS, find_sidecars, read_metadata
from crossmodal.query.expression import parse_expression
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.records import Record, tags_beyond_limits
from crossmodal.server.forms import form_parts
from crossmodal.server.mcp.calls import call
from crossmodal.server.mcp.tools import tools as offered
from crossmodal.workspace import Workspace

__all__ = ["TARGETS"]

# So that one input takes milliseconds; the limit itself is what larger ones are refused by.
_MAX_PIXELS = 1_000_000

_LEGACY_PATHS = ("/search", "/index", "/update", "/delete", "/post", "/api/search")


def images(data: bytes) -> None:
    """Photos: an error, or upright pixels within the limit, and a thumbnail of them."""
    sniff_mime_type(data)
    with suppress(ImageError):
        pixels = decode_image(data, max_pixels=_MAX_PIXELS)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.shape[0] * pixels.shape[1] <= _MAX_PIXELS
        reduced = decode_reduced(data, short_side=32, max_pixels=_MAX_PIXELS)
        assert thumbnail_of(reduced).startswith(b"\xff\xd8")


def bodies(data: bytes) -> None:
    """Bodies of requests; the first byte says which kind."""
    kind, body = data[:1], data[1:]
    read = _BODIES.get(kind, _search)
    # What the server answers with 400 to 499.
    with suppress(RequestError, QueryError):
        read(body)


def filters(data: bytes) -> None:
    """Filters: an error, or one that is the same after it was written and read again."""
    try:
        value = read_json(data)
    except RequestError:
        return
    with suppress(FilterError):
        parsed = parse_filter(value)
        again = parse_filter(json.loads(json.dumps(parsed.to_json())))
        for tags in ({}, {"a": 1}, {"a": "x", "b": [1, 2.5, "y"], "c": {"d": True}}):
            assert parsed.matches("image", tags, {"a"}) == again.matches("image", tags, {"a"})


def expressions(data: bytes) -> None:
    """Expressions: an error, or terms within the limits."""
    with suppress(QueryError):
        terms = parse_expression(_text_of(data))
        assert 1 <= len(terms) <= limits.TERMS.most
        assert any(term.weight > 0 for term in terms)
        for term in terms:
            assert math.isfinite(term.weight)
            assert 0 < abs(term.weight) <= limits.WEIGHT.most
            assert len(term.text or term.id or "") <= limits.SENTENCE.most


def tools(data: bytes) -> None:
    """Calls of an agent's tools; the first byte says which tool, and who may see places."""
    which = data[0] if data else 0
    tool = list(offered().values())[which % len(offered())]
    with suppress(CrossmodalError):
        answer = asyncio.run(call(tool, read_json(data[1:]), _NoIndex(), hidden=which >= 128))
        json.dumps(answer.value)


class _NoIndex:
    """An index in which nothing is found."""

    workspace = Workspace(Path("no-workspace"))

    async def search(self, request: SearchRequest) -> SearchOutcome:
        return SearchOutcome(request, kinds=("text",) * len(request.terms))


def metadata(data: bytes) -> None:
    """Photos and what lies beside them: tags that an index takes; the first byte says what the rest is."""
    kind, block = data[:1], data[1:]
    name, content, sidecars = "x.jpg", b"", {}
    if kind == b"X":
        sidecars = {"x.xmp": block}
    elif kind == b"J":
        sidecars = {"x.jpg.json": block}
    elif kind == b"N":
        name = _text_of(block)
        assert set(find_sidecars(name, {f"{name}.xmp"})) <= {f"{name}.xmp"}
    else:
        content = block
    read = read_metadata(content, name=name, folder="a/b", sidecars=sidecars)
    assert read.tags.keys() <= FIELDS.keys()
    assert tags_beyond_limits(read.tags, "The tags") is None
    json.dumps(read.tags)
    for caption in read.captions:
        assert 1 <= len(caption.text) <= limits.SENTENCE.most


def _text_of(data: bytes) -> str:
    """The text, with halves of characters where the bytes can mean them."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _search(body: bytes) -> None:
    for query in parse_search(read_json(body), uploads=[b"photo"], host="localhost"):
        assert isinstance(query, SearchRequest | CrossmodalError)


def _embeddings(body: bytes) -> None:
    asked = parse_embeddings(read_json(body), model="vse", dimension=8)
    assert asked.inputs
    assert all(isinstance(item, str | bytes) and item for item in asked.inputs)


def _legacy(body: bytes) -> None:
    path = _LEGACY_PATHS[(body[0] if body else 0) % len(_LEGACY_PATHS)]
    parse_request(read_json(body[1:]), path=path, host="localhost")


def _line(body: bytes) -> None:
    records = parse_line(body, 1)
    assert records
    assert all(isinstance(record, Record) and record.hashed().id for record in records)


def _metadata(body: bytes) -> None:
    parse_metadata(body)


def _form(body: bytes) -> None:
    asyncio.run(_read_form(body))


async def _read_form(body: bytes) -> None:
    # In pieces, as it would come: the parser has to cope with a cut anywhere.
    pieces = [body[at : at + 61] for at in range(0, len(body), 61)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> Mapping[str, object]:
        return messages.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=line")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    async for part in form_parts(request, {"metadata"}, {"file"}):
        assert part.field in ("metadata", "file")


_BODIES: Mapping[bytes, Callable[[bytes], None]] = {
    b"S": _search,
    b"E": _embeddings,
    b"L": _legacy,
    b"N": _line,
    b"M": _metadata,
    b"F": _form,
}

TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "images": images,
    "bodies": bodies,
    "filters": filters,
    "expressions": expressions,
    "metadata": metadata,
    "tools": tools,
}
