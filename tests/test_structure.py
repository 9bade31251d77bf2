"""Dependencies point one way, and the library knows nothing of jina."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import REPOSITORY

# A layer may import those below it.
LAYERS = ["app", "commands", "flows", "executors", "crossmodal"]

# The same inside the library, from top to bottom; modules of one line may not import each other.
LIBRARY_LAYERS = [
    {"engine.photo_index", "client"},
    {"training"},
    {"api_shapes"},
    {"http_shapes", "documents", "evaluation"},
    {"query"},
    {"workspace"},
    {"search"},
    {"stores"},
    {"models"},
    {"data_sets"},
    {"images"},
    {"filters"},
    {"records", "settings", "hosts"},
    {"home_folder"},
    {"errors"},
]


def imported(path: Path) -> set[str]:
    """The absolute names of all modules that a file imports, wherever it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(layer: str) -> list[Path]:
    return [REPOSITORY / "app.py"] if layer == "app" else sorted((REPOSITORY / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_only_downwards(layer: str) -> None:
    above = set(LAYERS[: LAYERS.index(layer)])
    for path in files(layer):
        assert {name.split(".")[0] for name in imported(path)} & above == set(), path


def test_the_library_imports_no_jina() -> None:
    for path in files("crossmodal"):
        assert not any(name.split(".")[0] == "jina" for name in imported(path)), path


def test_only_documents_needs_docarray() -> None:
    users = {
        path.name for path in files("crossmodal") if any(n.startswith("docarray") for n in imported(path))
    }
    assert users == {"documents.py"}


def test_the_library_imports_only_downwards() -> None:
    rank = {name: number for number, names in enumerate(LIBRARY_LAYERS) for name in names}
    for path in files("crossmodal"):
        own = path.relative_to(REPOSITORY / "crossmodal").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "crossmodal" and len(parts) > 1 and parts[1] in rank and parts[1] != own:
                assert rank[parts[1]] > rank[own], f"{path} imports {name}"


def test_every_folder_of_executors_is_loadable_by_jina() -> None:
    folders = sorted(p.parent.name for p in (REPOSITORY / "executors").glob("*/config.yml"))
    assert folders == [
        "image_encoder",
        "image_kv_indexer",
        "image_loader",
        "image_normalizer",
        "image_vector_indexer",
        "joiner",
        "text_encoder",
        "text_indexer",
    ]
    for folder in folders:
        assert (REPOSITORY / "executors" / folder / "executor.py").is_file()
