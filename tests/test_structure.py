"""Dependencies point one way, and only the extra knows jina."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "crossmodal"

# The parts of the package from top to bottom, as docs/architecture.md lists them; parts of one line may not
# import each other.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"server"},
    {"jina", "client"},
    {"training"},
    {"evaluation"},
    {"bulk"},
    {"engine"},
    {"export"},
    {"flow"},
    {"steps"},
    {"http_shapes"},
    {"query"},
    {"workspace"},
    {"video_originals"},
    {"index"},
    {"vector_files"},
    {"documents"},
    {"match"},
    {"rerankers"},
    {"models"},
    {"data_sets"},
    {"url_photos"},
    {"filters"},
    {"metadata"},
    {"ocr", "videos"},
    {"images"},
    {"options"},
    {"option"},
    {"commands"},
    {"access", "originals"},
    {"addresses"},
    {"records", "settings", "hosts", "processes", "extras", "log"},
    {"home_folder", "limits", "machine", "request_ids", "deadlines", "places", "private_files", "yaml_files"},
    {"shared_work"},
    {"errors"},
]

# What only the extra `jina` may import.
OF_JINA = {"jina", "docarray", "pydantic", "grpc"}


@cache
def imported(path: Path) -> frozenset[str]:
    """The absolute names of all modules that a file imports, wherever it does, annotations apart."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_parts_import_only_downwards() -> None:
    rank = {name: number for number, names in enumerate(LAYERS) for name in names}
    for path in files():
        own = part_of(path)
        if own == "__init__":
            continue
        assert own in rank, f"{own} is in no layer; docs/architecture.md lists them"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "crossmodal" and len(parts) > 1 and parts[1] in rank and parts[1] != own:
                assert rank[parts[1]] > rank[own], f"{path} imports {name}"


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files()
    }

    def imported_files(path: Path) -> set[str]:
        names = imported(path)
        # Of a package whose modules alone are imported, its __init__.py is not what the file needs.
        used = {parent for parent, _, name in (n.rpartition(".") for n in names - set(modules)) if name}
        return {n for n in names & set(modules) if modules[n].name != "__init__.py" or n in used}

    graph = {name: imported_files(path) - {name} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these files import each other in a circle: {' -> '.join(error.args[1])}")


def test_only_the_extra_imports_jina() -> None:
    for path in [*files(), REPOSITORY / "app.py"]:
        if path.is_relative_to(PACKAGE) and part_of(path) == "jina":
            continue
        used = {name.split(".")[0] for name in imported(path)} & OF_JINA
        assert not used, f"{path} imports {used}"


def test_the_package_imports_nothing_of_the_checkout_around_it() -> None:
    for path in files():
        assert not {name.split(".")[0] for name in imported(path)} & {
            "flows",
            "executors",
            "bench",
            "tests",
        }, path


def test_the_parts_stand_in_the_documentation() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    for names in LAYERS:
        for name in names - {"__main__"}:
            assert f"`{name}/`" in text or f"`{name}.py`" in text, name


@pytest.mark.parametrize(
    "config", sorted((REPOSITORY / "executors").glob("*/config.yml")), ids=lambda p: p.parent.name
)
def test_every_step_names_a_class_and_one_adapter_serves_all(config: Path) -> None:
    from crossmodal.flow.topology import configured_class
    from crossmodal.steps.step import Step

    assert issubclass(configured_class(config), Step)
    described = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert (described["jtype"], described["py_modules"]) == ("StepExecutor", ["../executor.py"])


def test_the_flows_use_every_step_there_is() -> None:
    used = set()
    for flow in ("flow-index.yml", "flow-query.yml"):
        described = yaml.safe_load((REPOSITORY / "flows" / flow).read_text(encoding="utf-8"))
        used |= {Path(step["uses"]).parent.name for step in described["executors"]}
    assert used == {path.parent.name for path in (REPOSITORY / "executors").glob("*/config.yml")}
