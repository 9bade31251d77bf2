"""Index, search, serve and evaluate need no extra, and none of them asks for jina, docarray or pydantic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, copy_index, run_app, run_python, start_server

# Nothing of the default path may even try to import these, whether they are installed or not.
NEVER = (
    *("jina", "docarray", "pydantic", "onnx", "lmdb", "mcp", "pymilvus", "milvus_lite", "qdrant_client"),
    *("psycopg", "ray", "s3fs", "botocore"),
)
# The default path may look for these, and does without them.
ABSENT = (
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "transformers",
    "matplotlib",
    "onnxruntime",
    "rapidocr",
)

# Python runs this at every start. A package that the finder of files doesn't find isn't installed.
_SITE = """
import importlib.machinery
import sys
import traceback

find = importlib.machinery.PathFinder.find_spec

def find_spec(name, path=None, target=None):
    package = name.partition(".")[0]
    if package in {never!r}:
        with open({log!r}, "a") as log:
            print(name, *traceback.format_stack()[-12:-1], file=log)
    return None if package in {blocked!r} else find(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder without what earlier runs have measured with the extras."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def asked(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the test's processes lack the extras; the file lists who asked for one of NEVER."""
    log = tmp_path / "asked.txt"
    log.touch()
    site = tmp_path / "site"
    site.mkdir()
    code = _SITE.format(never=NEVER, blocked=(*NEVER, *ABSENT), log=str(log))
    (site / "sitecustomize.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("HOME", str(home))
    return log


def test_the_extras_are_absent_in_these_tests(asked: Path) -> None:
    code = (
        "import importlib, importlib.util, sys\n"
        "for package in sys.argv[1:]:\n"
        "    assert importlib.util.find_spec(package) is None\n"
        "    try: importlib.import_module(package)\n"
        "    except ModuleNotFoundError as error: print(error)\n"
    )
    done = run_python("-c", code, *NEVER, *ABSENT)
    assert done.returncode == 0, done.stderr
    expected = [f"No module named '{package}'" for package in (*NEVER, *ABSENT)]
    assert done.stdout.splitlines() == expected
    assert {line.split()[0] for line in asked.read_text().splitlines() if line[:1].isalpha()} == set(NEVER)


def test_index_search_and_evaluate_work(asked: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    done = run_app("index", "data/toy-data", "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    done = run_app("search", "a rocket on its launch pad", "--workspace", workspace, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["matches"][0]["file"] == "rocket.jpg"
    # A photo, a difference of two sentences, and a picture of the results.
    query = ("--query-image", "data/toy-data/images/cat.jpg", "--query", "a black and white photo - gravel")
    done = run_app("-t", "query", "--workspace", workspace, *query, "--picture", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").stat().st_size > 0
    done = run_app("evaluate", "-d", "data/toy-data", "-n", "6", "--json")
    assert done.returncode == 0, done.stderr
    assert run_app("status", "--workspace", workspace).returncode == 0
    assert asked.read_text() == ""


def test_the_server_works(asked: Path, toy_workspace: Path, tmp_path: Path) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    server = start_server("query_restful", "--workspace", workspace)
    try:
        status, found = server.request("/v1/search", {"text": "a cup of coffee", "top_k": 1})
        assert status == 200
        assert "coffee.jpg" in json.dumps(found)
        status, found = server.request("/search", {"data": ["a cup of coffee"], "top_k": 1})
        assert status == 200
        assert "coffee.jpg" in json.dumps(found)
        assert server.request("/v1/status")[0] == 200
        body = json.dumps({"id": "mine", "text": "a sentence of my own"}).encode() + b"\n"
        status, added = server.request(
            "/v1/documents", body, headers={"Content-Type": "application/x-ndjson"}
        )
        assert status == 200
        assert "mine" in json.dumps(added)
    finally:
        assert server.stop() == 0, server.output()
    assert asked.read_text() == ""


def test_the_python_api_works(asked: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from crossmodal import PhotoIndex\n"
        "with PhotoIndex(sys.argv[1]) as index:\n"
        "    index.add(sys.argv[2])\n"
        "    print(index.search_text('a rocket on its launch pad', top_k=1)[0].uri)\n"
    )
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "grass.jpg", "rocket.jpg"):
        shutil.copy(TOY_IMAGES / name, tmp_path / "photos")
    done = run_python("-c", code, tmp_path / "workspace", tmp_path / "photos")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("rocket.jpg")
    assert asked.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("index", "data/toy-data", "-m", "clip-vit-b-32"), "clip"),
        (("index", "data/toy-data", "--layout", "pods"), "jina"),
        (("train", "-d", "data/toy-data"), "train"),
        (("index", "data/toy-data", "--runtime", "onnx"), "onnx"),
        (("mcp",), "mcp"),
    ],
)
def test_a_missing_extra_is_named_in_one_sentence(
    asked: Path, tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    own = ("--output", tmp_path / "model") if extra == "train" else ("--workspace", tmp_path / "workspace")
    done = run_app(*arguments, *own)
    assert done.returncode == 1, done.stdout
    # Behind what `index` says of the data and of the model.
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == said[0]
    assert f"crossmodal-search[{extra}]" in said[0]
