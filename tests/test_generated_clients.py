"""Clients that generators make of the description: they compile, type-check and search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_environments import client_environment
from conftest import Server

from crossmodal.server.v1.openapi import read_openapi

SCRIPT = """
import sys

from made import Client
from made.api.search import search
from made.models import Filter, SearchAnswer, SearchRequest, Term


def found(url: str) -> list[str]:
    terms = [Term(text="a cat"), Term(text="snow", weight=-0.5)]
    filter = Filter.from_dict({"file": {"$in": ["cat.jpg", "rocket.jpg"]}})
    answer = search.sync(client=Client(url), body=SearchRequest(terms=terms, top_k=3, filter_=filter))
    assert isinstance(answer, SearchAnswer), answer
    return [str(match.tags["file"]) for match in answer.results[0].matches if match.tags]


if __name__ == "__main__":
    print(*found(sys.argv[1]))
"""


@pytest.mark.timeout(600)
def test_a_generated_python_client_compiles_type_checks_and_searches(
    toy_server: Server, tmp_path: Path
) -> None:
    environment = client_environment(
        *("openapi-python-client==0.29.1", "httpx==0.28.1", "mypy==1.19.0"),
        options=["--only-binary", ":all:"],
    )
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(toy_server.request("/v1/openapi.json")[1]), encoding="utf-8")
    made = tmp_path / "made"
    environment.run(
        "import sys; from openapi_python_client.cli import app; app(sys.argv[1:])",
        *("generate", "--path", str(described), "--output-path", str(made), "--meta", "none"),
    )
    script = tmp_path / "use.py"
    script.write_text(SCRIPT, encoding="utf-8")
    # Each module is imported, whoever uses it.
    listed = (
        "import importlib, pkgutil, made; "
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(made.__path__, 'made.')]"
    )
    environment.run(listed, PYTHONPATH=str(tmp_path))
    # The generator's own client.py, the same for every description, is not strict itself.
    checked = ["-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    environment.call(
        *("python", *checked, "-m", "use", "-p", "made.models", "-p", "made.api"),
        MYPYPATH=str(tmp_path),
        timeout=200,
    )
    done = environment.call("python", str(script), toy_server.url, PYTHONPATH=str(tmp_path))
    assert done.stdout.split() == ["cat.jpg", "rocket.jpg"]
    shutil.rmtree(made)


def test_every_object_says_what_is_in_it() -> None:
    """One that doesn't is an empty type to openapi-typescript: Record<string, never>."""
    for place, schema in schemas(read_openapi()["components"]["schemas"], ""):
        if schema.get("type") == "object":
            assert {"properties", "additionalProperties"} & set(schema), place


def schemas(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield place, value
        for key, inner in value.items():
            if key not in ("example", "examples", "default", "const"):
                yield from schemas(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from schemas(inner, f"{place}/{number}")
