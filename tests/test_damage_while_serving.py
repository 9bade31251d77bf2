"""Flipped bits in the index under a running server: 500 with the id, listed by status, and repaired."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import TOY_IMAGES, Server, copy_index, run_app, start_server

from crossmodal.index.embedded.derived_file import damaged_files
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, TEXT


@pytest.fixture(scope="module")
def with_originals(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = copy_index(toy_workspace, tmp_path_factory.mktemp("originals") / "workspace")
    kept = run_app("-t", "index", "--workspace", workspace, "--keep", "original")
    assert kept.returncode == 0, kept.stderr
    return workspace


@pytest.fixture
def server(with_originals: Path, tmp_path: Path) -> Iterator[Server]:
    copy_index(with_originals, tmp_path / "workspace")
    server = start_server("query_restful", "--workspace", tmp_path / "workspace")
    yield server
    assert server.stop() == 0


def flip(workspace: Path, table: str, column: str, rows: str) -> None:
    """Flips a bit in the middle of the value in each of ``rows``, behind the index's back."""
    with closing(sqlite3.connect(workspace / "index.sqlite", timeout=10)) as connection, connection:
        select = f"SELECT row, {column} FROM {table} WHERE row IN ({rows})"
        for row, value in connection.execute(select).fetchall():
            altered = bytearray(value.encode() if isinstance(value, str) else value)
            altered[len(altered) // 2] ^= 0x04
            changed = altered.decode() if isinstance(value, str) else bytes(altered)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE row = ?", (changed, row))


def rows_of(workspace: Path, modality: str) -> dict[str, int]:
    with closing(sqlite3.connect(workspace / "index.sqlite")) as connection:
        select = "SELECT id, row FROM documents WHERE modality = ? ORDER BY row"
        return dict(connection.execute(select, (modality,)).fetchall())


def address(id: str, part: str = "") -> str:
    return f"/v1/documents/{quote(id, safe='')}{part}"


def content_of(server: Server, id: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(server.url + address(id, "/content")) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_every_flipped_bit_is_told_and_indexing_again_repairs_it(server: Server, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    photos, captions = rows_of(workspace, IMAGE), rows_of(workspace, TEXT)
    original, thumbnail, record, vector = list(photos)[:4]
    caption = next(iter(captions))
    flip(workspace, "contents", "content", str(photos[original]))
    flip(workspace, "thumbnails", "content", str(photos[thumbnail]))
    flip(workspace, "documents", "mime_type", str(photos[record]))
    flip(workspace, "documents", "text", str(captions[caption]))
    flip(workspace, "image_vectors", "vector", str(photos[vector]))

    for id, path in (
        (original, address(original, "/content")),
        (thumbnail, address(thumbnail, "/thumbnail")),
        (record, address(record)),
        (caption, address(caption)),
    ):
        status, problem = server.request(path)
        assert (status, problem["status"]) == (500, 500)
        assert id in problem["detail"]
        assert "checksum" in problem["detail"]
        assert str(tmp_path) not in problem["detail"]
    with urllib.request.urlopen(server.url + address(vector, "/content")) as answer:
        assert answer.read() in {path.read_bytes() for path in TOY_IMAGES.iterdir()}

    search = {"queries": [{"terms": [{"id": vector}]}], "top_k": 1}
    status, problem = server.request("/v1/search", search)
    assert status == 500, problem
    assert vector in problem["detail"]

    _, told = server.request("/v1/status")
    listed = {(each["id"], each["part"]) for each in told["damaged"]}
    assert listed == {
        (original, "original"),
        (thumbnail, "thumbnail"),
        (record, "document"),
        (caption, "document"),
        (vector, "vector"),
    }
    shown = run_app("-t", "status", "--workspace", workspace)
    assert shown.stdout.count("does not match its checksum") == 5

    # The photos' files are still there.
    repaired = run_app("-t", "index", "--workspace", workspace, "--keep", "original", "--json")
    assert repaired.returncode == 0, repaired.stderr
    report = json.loads(repaired.stdout)
    assert (report["photos"]["replaced"], report["captions"]["replaced"]) == (4, 1)
    assert server.request("/v1/status")[1]["damaged"] == []
    assert server.request(address(record))[0] == 200
    assert server.request("/v1/search", search)[0] == 200
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == []
        with urllib.request.urlopen(server.url + address(original, "/content")) as answer:
            assert answer.read() == store.content(original)


def test_what_is_damaged_can_be_deleted(server: Server, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    photos, captions = rows_of(workspace, IMAGE), rows_of(workspace, TEXT)
    photo, other = list(photos)[:2]
    mine = [id for id in captions if id.startswith(photo)]
    flip(workspace, "documents", "digest", f"{photos[photo]}, {photos[other]}")
    flip(workspace, "documents", "text", str(captions[mine[0]]))
    with EmbeddedStore.open_reader(workspace) as store:
        assert len(store.verify()) == 3
    request = urllib.request.Request(server.url + address(photo), method="DELETE")
    with urllib.request.urlopen(request) as answer:
        assert set(json.loads(answer.read())["deleted"]) == {photo, *mine}
    with EmbeddedStore.open_reader(workspace) as store:
        assert [error.id for error in store.damaged()] == [other]
        assert (store.counts(IMAGE).documents, store.counts(TEXT).documents) == (
            len(photos) - 1,
            len(captions) - len(mine),
        )
        assert len(store.verify()) == 1


def found_by(server: Server) -> list[tuple[str, float]] | None:
    """The matches of a sentence; None while the server starts again."""
    try:
        status, answer = server.request(
            "/v1/search", {"queries": [{"terms": [{"text": "a dog"}]}], "top_k": 5}
        )
    except (OSError, http.client.HTTPException):
        return None
    assert status == 200, answer
    return [(match["id"], match["cosine"]) for match in answer["results"][0]["matches"]]


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_derived_file_that_changes_in_use_is_made_again(
    server: Server, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "workspace" / "derived" / "image.0-of-1.vectors"
    before, whole = found_by(server), file.read_bytes()
    assert before is not None
    truth = (tmp_path / "workspace" / "index.sqlite").read_bytes()
    with file.open("r+b") as held:
        if damage == "flip":
            for place in range(64, len(whole) - 2000, 100):
                held.seek(place)
                held.write(bytes([whole[place] ^ 0x40]))
        else:
            held.truncate(70)
    deadline = time.monotonic() + 60
    while (again := found_by(server)) is None or not file.exists():
        assert time.monotonic() < deadline, server.output()
        time.sleep(0.2)
    assert again == before
    assert damaged_files(tmp_path / "workspace") == []
    assert found_by(server) == before
    assert (tmp_path / "workspace" / "index.sqlite").read_bytes() == truth


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_truth_is_told_and_never_written_over(server: Server, tmp_path: Path, damage: str) -> None:
    workspace = tmp_path / "workspace"
    file = workspace / "index.sqlite"
    whole = file.read_bytes()
    originals = {path.name: path.read_bytes() for path in TOY_IMAGES.iterdir()}
    ids = list(rows_of(workspace, IMAGE))
    with file.open("r+b") as held:
        if damage == "flip":
            for place in range(200_000, len(whole), 30_011):
                held.seek(place)
                held.write(bytes([whole[place] ^ 0x10]))
        else:
            held.truncate(len(whole) // 2)
    altered = file.read_bytes()
    wrong = 0
    for id in ids:
        status, content = content_of(server, id)
        assert status in (200, 500, 503)
        assert status != 200 or content in originals.values(), "wrong content with status 200"
        wrong += status != 200
    assert wrong > 0
    told = run_app("verify", "--workspace", workspace)
    assert told.returncode == 1
    assert file.read_bytes() == altered
