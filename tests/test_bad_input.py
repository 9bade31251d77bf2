"""Broken files and rows: one clear line each, the rest goes on, nothing is lost."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, run_app

GOOD = ["cat.jpg", "coffee.jpg", "rocket.jpg"]


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it is 60,000 x 60,000 pixels large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """One run over good photos between bad ones, described by a CSV file with bad rows."""
    folder = tmp_path_factory.mktemp("bad")
    for name in GOOD:
        shutil.copy(TOY_IMAGES / name, folder)
    whole = (TOY_IMAGES / "coins.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 10])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("This is a letter, not a photo.\n" * 9)
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "folder.jpg").mkdir()
    rows = [
        b"image,caption,place",
        b"cat.jpg,A cat looks up .,home",
        b"truncated.jpg,A tenth of some coins .,museum",
        "empty.jpg,Rien à voir .,nowhere".encode(),
        b"text.jpg,A letter .,desk",
        b"bomb.png,Too large .,nowhere",
        b"folder.jpg,A folder .,disk",
        b"missing.jpg,A photo that is not there .,nowhere",
        b"coffee.jpg,A row,with,too,many,columns",
        b"coffee.jpg,A caf\xe9 .,town",
        b"coffee.jpg," + b"long " * 2000 + b",town",
        b"coffee.jpg,A cup of coffee .,town",
        b"http://127.0.0.1:9/a.jpg,A photo from elsewhere .,net",
        b"rocket.jpg,A rocket .,launch pad",
    ]
    (folder / "data.csv").write_bytes(b"\n".join(rows) + b"\n")
    workspace = folder / "workspace"
    done = run_app("-t", "index", "-d", folder / "data.csv", "--workspace", workspace, "--json")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout), workspace


EXPECTED = {
    "truncated.jpg": "truncated",
    "empty.jpg": "empty",
    "text.jpg": "not an image",
    "bomb.png": "pixels",
    "folder.jpg": "folder",
    "missing.jpg": "",
    "127.0.0.1": "nothing is ever fetched",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_bad_photo_is_named_with_its_reason(indexed: tuple[dict, Path], name: str) -> None:
    reasons = [
        failure["source"] + ": " + failure["reason"]
        for failure in indexed[0]["failures"]
        if name in failure["source"] + failure["reason"]
    ]
    assert reasons
    assert any(EXPECTED[name] in reason for reason in reasons), reasons
    assert all("\n" not in reason for reason in reasons)


@pytest.mark.parametrize(
    ("line", "words"),
    [("9", "columns"), ("10", "UTF-8"), ("11", "2,000")],
    ids=["columns", "bytes", "length"],
)
def test_each_bad_row_is_named_with_its_line(indexed: tuple[dict, Path], line: str, words: str) -> None:
    assert any(
        line in failure["source"] + failure["reason"] and words in failure["reason"]
        for failure in indexed[0]["failures"]
    ), indexed[0]["failures"]


def test_the_good_ones_are_all_there(indexed: tuple[dict, Path]) -> None:
    report, workspace = indexed
    assert report["finished"]
    assert report["photos"]["added"] == len(GOOD)
    found = run_app("-t", "query", "--workspace", workspace, "--query-text", "a cat", "--json")
    matches = json.loads(found.stdout)["results"][0]["matches"]
    assert sorted(Path(match["uri"]).name for match in matches) == GOOD
    assert {match["tags"]["place"] for match in matches} == {"home", "town", "launch pad"}


def test_failures_are_kept_in_the_workspace(indexed: tuple[dict, Path]) -> None:
    report, workspace = indexed
    kept = json.loads((workspace / "index-report.json").read_text())
    assert kept["failures"] == report["failures"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-t", "index", "-d", "/no/such/folder"], 1, "/no/such/folder"),
        (["-t", "index", "-d", "f8k", "--data-root", "/no/such/root"], 1, "get_data.sh f8k"),
        (["-t", "query"], 2, "--query-text"),
        (["-t", "query", "--query-image", "/no/such/photo.jpg"], 1, "/no/such/photo.jpg"),
    ],
)
def test_a_missing_path_is_a_sentence(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    done = run_app(*arguments, "--workspace", tmp_path / "workspace")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_query_is_a_sentence(toy_workspace: Path, text: str) -> None:
    done = run_app("-t", "query", "--workspace", toy_workspace, "--query-text", text)
    assert done.returncode == 1
    assert "empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_query_photo_that_is_not_one_is_a_sentence(toy_workspace: Path) -> None:
    done = run_app("-t", "query", "--workspace", toy_workspace, "--query-image", "README.md")
    assert done.returncode == 1
    assert "not an image" in done.stderr
    assert "Traceback" not in done.stderr
