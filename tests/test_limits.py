"""Every field has one limit, from one table, however it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from conftest import REPOSITORY, TOY_IMAGES
from photos import toy_photo

from crossmodal import PhotoIndex, limits
from crossmodal.documents import Document
from crossmodal.engine.engine import Engine
from crossmodal.errors import DataError, RequestError
from crossmodal.http_shapes.legacy.requests import parse_request
from crossmodal.http_shapes.v1.documents import parse_line
from crossmodal.http_shapes.v1.search import parse_search
from crossmodal.query.expression import Term
from crossmodal.records import IMAGE, TEXT, Record
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving, Writing
from crossmodal.settings import Settings

LONG_TEXT = "a " * (limits.SENTENCE.most // 2) + "b"
TAG_BYTES = limits.TAGS.most


def nested(levels: int) -> dict[str, Any]:
    tags: dict[str, Any] = {}
    for _ in range(levels - 1):
        tags = {"a": tags}
    return tags


TOO_LARGE: dict[str, tuple[dict[str, Any], limits.Limit]] = {
    "text": ({"text": LONG_TEXT}, limits.SENTENCE),
    "id": ({"id": "i" * (limits.STORED_ID.most + 1)}, limits.ID),
    "photo_id": ({"photo_id": "i" * (limits.STORED_ID.most + 1)}, limits.ID),
    "tags": ({"tags": {"a": "x" * TAG_BYTES}}, limits.TAGS),
    "tags of two bytes a character": ({"tags": {"a": "é" * (TAG_BYTES // 2)}}, limits.TAGS),
    "names of tags": ({"tags": {str(n): 0 for n in range(limits.TAG_KEYS.most + 1)}}, limits.TAG_KEYS),
    "names inside": (
        {"tags": {"a": [{str(n): 0 for n in range(limits.TAG_KEYS.most)}]}},
        limits.TAG_KEYS,
    ),
    "a name": ({"tags": {"x" * (limits.TAG_KEY.most + 1): 0}}, limits.TAG_KEY),
    "depth": ({"tags": nested(limits.DEPTH.most + 1)}, limits.DEPTH),
}

WAYS: dict[str, Callable[[dict[str, Any]], str]] = {}


def way(function: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    WAYS[function.__name__] = function
    return function


@way
def python(fields: dict[str, Any]) -> str:
    return Record(**{"id": "1", "modality": TEXT, "text": "a dog", **fields}).beyond_limits() or ""


@way
def flow(fields: dict[str, Any]) -> str:
    record = Record(**{"id": "1", "modality": TEXT, "text": "a dog", **fields})
    return Document.of_record(record).error or ""


@way
def lines(fields: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as told:
        parse_line(json.dumps({"text": "a dog", **fields}).encode(), 1)
    return str(told.value)


@way
def legacy(fields: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as told:
        parse_request({"data": [{"text": "a dog", **fields}]}, path="/index")
    return str(told.value)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("field", TOO_LARGE)
def test_a_document_is_refused_however_it_comes(field: str, name: str) -> None:
    fields, limit = TOO_LARGE[field]
    told = WAYS[name](fields)
    assert "the limit is" in told or "deeper than" in told, told
    stored = limits.STORED_ID if limit is limits.ID else limit
    assert any(f"{limit.said(limit.most)}" in told for limit in (limit, stored)), told
    assert len(told) < 400, "what is quoted is cut"


def test_what_is_as_large_as_the_limits_is_taken() -> None:
    record = Record(
        "i" * limits.ID.most,
        IMAGE,
        uri="/" * limits.URI.most,
        mime_type="m" * limits.MIME_TYPE.most,
        tags={"a": "x" * (TAG_BYTES - len('{"a":""}'))},
    )
    assert record.beyond_limits() is None
    assert (
        Record("1", TEXT, text="x" * limits.SENTENCE.most, tags=nested(limits.DEPTH.most)).beyond_limits()
        is None
    )


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ({"text": LONG_TEXT}, limits.SENTENCE),
        ({"id": "i" * (limits.STORED_ID.most + 1)}, limits.STORED_ID),
        ({"vector": np.zeros(limits.DIMENSION.most + 1)}, limits.DIMENSION),
    ],
)
def test_a_term_is_refused_from_python_as_over_http(query: dict[str, Any], limit: limits.Limit) -> None:
    with pytest.raises(DataError) as told:
        Term(**query)
    assert f"the limit is {limit.said(limit.most)}" in str(told.value)
    assert len(str(told.value)) < 300
    if "vector" not in query:
        (error,) = parse_search(query)
        assert f"the limit is {limit.said(limit.most)}" in str(error)


def test_too_large_a_query_never_reaches_an_encoder() -> None:
    doc = Document.of_query("1", text="x" * 60_000_000)
    assert doc.text is None
    assert "60,000,000 characters; the limit is 2,000" in (doc.error or "")


def test_one_record_beyond_the_limits_is_its_own_failure(tmp_path: Any) -> None:
    photo = (TOY_IMAGES / sorted(path.name for path in TOY_IMAGES.iterdir())[0]).read_bytes()
    with PhotoIndex(tmp_path / "workspace", "vse") as index:
        summary = index.add(
            [
                Record("good", IMAGE, content=photo),
                Record("bad", IMAGE, uri="bad.jpg", content=photo, tags={"a": "x" * TAG_BYTES}),
                Record("long", TEXT, text=LONG_TEXT),
            ]
        )
        assert summary.added == 1
        assert [record.id for record in index] == ["good"]
    (tags, text) = summary.failures
    assert (tags.source, "the limit is 64 KiB" in tags.reason) == ("bad.jpg", True)
    assert "2,001 characters" in text.reason
    assert len(text.source) < 100


def test_photos_have_the_bytes_and_pixels_that_options_allow(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    small = (TOY_IMAGES / "cat.jpg").read_bytes()
    (folder / "small.jpg").write_bytes(small)
    (folder / "long.jpg").write_bytes(small.ljust(len(small) + 1, b"\0"))
    toy_photo("rocket.jpg").resize((1000, 700)).save(folder / "wide.jpg", quality=1)
    with PhotoIndex(tmp_path / "index", "clip-mini", max_photo_bytes=len(small), max_pixels=699_999) as index:
        summary = index.add(folder)
        assert [record.file for record in index] == ["small.jpg"]
        reasons = {Path(failure.source).name: failure.reason for failure in summary.failures}
        (failure,) = index.add([Record("r", IMAGE, content=small + b"\0")]).failures
        with pytest.raises(DataError, match="--max-photo-bytes"):
            index.search(small + b"\0")
    assert reasons["long.jpg"].endswith(
        f"has {len(small) + 1:,} bytes, and the limit for a photo is {len(small):,}; "
        "allow more with --max-photo-bytes"
    )
    assert "700,000 pixels; the limit is 699,999" in reasons["wide.jpg"]
    assert "--max-pixels" in reasons["wide.jpg"]
    assert "Send a smaller copy, or allow more with --max-photo-bytes." in failure.reason

    settings = Settings(workspace=tmp_path / "index", model="clip-mini", max_photo_bytes=len(small))
    with Engine(settings) as engine:
        app = create_app(Serving("query", engine, settings, Writing(allowed=True)))

        async def uploaded() -> Any:
            transport = httpx2.ASGITransport(app)
            files = [("file", ("small.jpg", small)), ("file", ("long.jpg", small + b"\0"))]
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return (await http.post("/v1/documents", files=files)).json()

        unchanged, refused = asyncio.run(uploaded())["results"]
    assert (unchanged["error"], unchanged["source"]) == (None, "small.jpg")
    assert "--max-photo-bytes" in refused["error"]


def test_the_page_of_limits_is_up_to_date() -> None:
    text = (REPOSITORY / "docs" / "limits.md").read_text(encoding="utf-8")
    assert text == limits.limits_page()
    for limit in limits.LIMITS:
        assert limit.what in text
