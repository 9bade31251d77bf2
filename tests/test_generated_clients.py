"""Clients that generators make of the description: they compile and search. Linters find no error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.tools import NODE_MODULES, npm_file
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


TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./described.js";

const filter: components["schemas"]["Filter"] = { file: { $in: ["cat.jpg", "rocket.jpg"] } };
const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const { data, error } = await client.POST("/v1/search", {
  body: { terms: [{ text: "a cat" }, { text: "snow", weight: -0.5 }], top_k: 3, filter },
});
if (error) throw new Error(error.detail);
const files: unknown[] | undefined = data?.results[0]?.matches.map((match) => match.tags?.["file"]);
console.log(files?.join(" "));
const { data: status } = await client.GET("/v1/status");
const photos: number | undefined = status?.modalities.image?.documents;
console.log(photos);
"""

LINT = """
const { createConfig, lint } = require("@redocly/openapi-core");
(async () => {
  // Which servers need a key is for whoever runs them.
  const config = await createConfig({ extends: ["recommended"], rules: { "security-defined": "off" } });
  const found = await lint({ ref: process.argv[1], config });
  const errors = found.filter(({ severity }) => severity === "error");
  const said = errors.map(({ ruleId, message, location }) => [ruleId, message, location[0]?.pointer]);
  console.log(JSON.stringify(said));
})();
"""


SPECTRAL = """
const { Spectral } = require("@stoplight/spectral-core");
const { oas } = require("@stoplight/spectral-rulesets");
(async () => {
  const spectral = new Spectral();
  spectral.setRuleset({ extends: [oas] });
  const found = await spectral.run(JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")));
  // 0 is an error.
  console.log(JSON.stringify(found.filter(({ severity }) => severity === 0)));
})();
"""


def node(folder: Path, *arguments: str) -> str:
    """What a program of node says, in a folder where it finds the packages."""
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(NODE_MODULES)
    done = subprocess.run(
        ["node", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def described(toy_server: Server, tmp_path: Path) -> Path:
    """The description that the server answers, as a file."""
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(toy_server.request("/v1/openapi.json")[1]), encoding="utf-8")
    return file


def test_a_generated_typescript_client_compiles_strictly_and_searches(
    toy_server: Server, described: Path
) -> None:
    generator = npm_file("openapi-typescript", "bin/cli.js")
    compiler = npm_file("typescript", "bin/tsc")
    folder = described.parent
    node(folder, str(generator), str(described), "--output", str(folder / "described.ts"))
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "use.ts").write_text(TYPESCRIPT, encoding="utf-8")
    (folder / "process.d.ts").write_text("declare const process: { argv: string[] };", encoding="utf-8")
    options = ["--strict", "--noUncheckedIndexedAccess", "--skipLibCheck", "--target", "es2022"]
    modules = ["--module", "nodenext", "--moduleResolution", "nodenext"]
    node(folder, str(compiler), *options, *modules, "use.ts", "process.d.ts")
    said = node(folder, "use.js", toy_server.url).splitlines()
    assert said == ["cat.jpg rocket.jpg", "15"]


def test_redocly_finds_no_error(described: Path) -> None:
    npm_file("@redocly/openapi-core", "package.json")
    assert json.loads(node(described.parent, "-e", LINT, str(described))) == []


def test_spectral_finds_no_error(described: Path) -> None:
    npm_file("@stoplight/spectral-core", "package.json")
    assert json.loads(node(described.parent, "-e", SPECTRAL, str(described))) == []


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_generated_python_client_compiles_type_checks_and_searches(
    toy_server: Server, described: Path
) -> None:
    tmp_path = described.parent
    environment = client_environment(
        *("openapi-python-client==0.29.1", "httpx==0.28.1", "mypy==1.19.0"),
        options=["--only-binary", ":all:"],
    )
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
