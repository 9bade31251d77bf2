"""The description of the native API, and a server that is held to it by requests made up from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Server, server_over_copy

from crossmodal import __version__, limits
from crossmodal.client import Query, Term
from crossmodal.errors import CrossmodalError
from crossmodal.http_shapes.v1.changes import parse_amendment
from crossmodal.http_shapes.v1.embeddings import parse_embeddings
from crossmodal.http_shapes.v1.search import parse_search
from crossmodal.server.v1.openapi import read_openapi, replaced

# What stands beside the native API, described in docs/api.md.
UNDESCRIBED = re.compile(
    r"/(mcp|search|index|update|delete|post|status|dry_run|login|logout|api/\w+|images/.*|page/.*|docs|docs/.*|"
    r"v1/openapi\.json|)$"
)


@pytest.fixture(scope="module")
def writable_server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a copy of the toy index, which may be changed."""
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("writable")) as served:
        yield served


def test_the_server_serves_what_is_described_and_describes_what_it_serves(
    toy_server: Server, tmp_path: Path
) -> None:
    status, served = toy_server.request("/v1/openapi.json")
    assert status == 200
    assert served == read_openapi()
    assert served["openapi"].startswith("3.1")
    assert served["info"]["version"] == __version__
    routes = {
        (method, re.sub(r"\{(\w+):path\}", r"{\1}", getattr(route, "path", "")))
        for route in all_routes(tmp_path)
        for method in getattr(route, "methods", ())
        if method != "HEAD"
    }
    described = {
        (method.upper(), path)
        for path, item in served["paths"].items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
        # A document and its parts share a route, as an id may hold slashes.
        and not path.endswith(("/content", "/thumbnail", "/heatmap"))
    }
    assert {(method, path) for method, path in routes if not UNDESCRIBED.match(path)} == described


def test_the_page_of_the_api_is_up_to_date() -> None:
    text = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    assert replaced(text, read_openapi()) == text
    assert "\n| `top_k` | a whole number from 1 to 1,000 | `10` | How many" in text
    assert "\n| `GET /v1/documents` | `limit` | a whole number from 1 to 200 | `24` |" in text


def test_what_is_described_is_what_the_code_reads() -> None:
    schemas = read_openapi()["components"]["schemas"]
    options, keys = set(schemas["Options"]["properties"]), set(schemas["QueryKeys"]["properties"])
    assert named(parse_search, {"queries": [{}], "x": 1}) == options
    (error,) = parse_search({"x": 1})
    assert words(str(error)) == options | keys
    assert named(partial(parse_embeddings, model="m", dimension=4), {"x": 1}) == set(
        schemas["EmbeddingRequest"]["properties"]
    )
    assert named(parse_amendment, {"x": 1}) == set(schemas["Amendment"]["properties"])
    # What the client sends, "return" under a name that Python allows.
    assert {field.name for field in fields(Query)} - {"fields"} | {"return"} == options | keys
    assert {field.name for field in fields(Term)} == set(schemas["Term"]["properties"])
    (limited,) = (
        one for one in read_openapi()["paths"]["/v1/documents"]["get"]["parameters"] if one["name"] == "limit"
    )
    described = {
        "sentence": (schemas["Text"]["maxLength"], limits.SENTENCE),
        "top_k": (schemas["Options"]["properties"]["top_k"]["maximum"], limits.TOP_K),
        "terms": (schemas["QueryKeys"]["properties"]["terms"]["maxItems"], limits.TERMS),
        "like": (schemas["QueryKeys"]["properties"]["like"]["maxItems"], limits.NAMED),
        "vector": (schemas["Vector"]["maxItems"], limits.DIMENSION),
        "weight": (schemas["Term"]["properties"]["weight"]["maximum"], limits.WEIGHT),
        "queries": (schemas["SearchRequest"]["properties"]["queries"]["maxItems"], limits.QUERIES),
        "input": (
            schemas["EmbeddingRequest"]["properties"]["input"]["oneOf"][1]["maxItems"],
            limits.EMBEDDED,
        ),
        "captions": (schemas["Amendment"]["properties"]["captions"]["maxItems"], limits.CAPTIONS),
        "listed": (limited["schema"]["maximum"], limits.LISTED),
    }
    assert {name: limit.most for name, (_, limit) in described.items()} == {
        name: said for name, (said, _) in described.items()
    }


def named(parse: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> set[str]:
    """The keys that there are, as the refusal of another one lists them."""
    with pytest.raises(CrossmodalError) as raised:
        parse(body)
    return words(str(raised.value))


def words(refusal: str) -> set[str]:
    return set(re.findall(r"\w+", re.split(r"there are|options there are|keys are", refusal)[-1]))


def test_every_example_is_answered(toy_server: Server) -> None:
    examples = read_openapi()["paths"]["/v1/search"]["post"]["requestBody"]["content"]["application/json"]
    for name, example in examples["examples"].items():
        status, answer = toy_server.request("/v1/search", example["value"])
        assert status == 200, (name, answer)
        assert all(result["matches"] for result in answer["results"]), name


def test_requests_made_up_from_the_description_find_no_undescribed_answer(
    writable_server: Server, tmp_path: Path
) -> None:
    """No 5xx, no undocumented status or type, and no body of another shape."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{writable_server.url}/v1/openapi.json",
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_headers_conformance,response_schema_conformance",
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "15",
            "--max-time",
            "15",
            "--seed",
            "1",
            "--request-timeout",
            "30",
            "--no-color",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
            "PYTHONPATH": str(Path(__file__).parent),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout or "passed" in done.stdout, done.stdout[-2000:]
    assert writable_server.request("/readyz")[0] == 200


def all_routes(workspace: Path) -> list[Any]:
    """What a server serves; nothing is asked, so there need be no index."""
    from crossmodal.engine.engine import Engine
    from crossmodal.server.app import create_app
    from crossmodal.server.serving import Serving
    from crossmodal.settings import Settings

    settings = Settings(workspace=workspace, model="clip-mini")
    return list(create_app(Serving("query", Engine(settings), settings)).routes)
