"""PATCH of a document and what takes it back, many deleted at once, and previews in sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import REPOSITORY, TOY_IMAGES, Server, server_over_copy
from PIL import Image

from crossmodal.client import ApiError, Client
from crossmodal.engine.amending import amend
from crossmodal.engine.engine import Engine
from crossmodal.engine.photo_index import PhotoIndex
from crossmodal.errors import DataError
from crossmodal.records import Amendment, Items
from crossmodal.settings import Settings

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("changes")) as served:
        yield served


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


def found(http: httpx2.Client, **query: Any) -> list[Json]:
    answer = http.post("/v1/search", json={"top_k": 50, **query}).json()
    matches: list[Json] = answer["results"][0]["matches"]
    return matches


def photo(http: httpx2.Client, name: str) -> Json:
    (document,) = http.get("/v1/documents", params={"filter": json.dumps({"file": name})}).json()["documents"]
    return dict(document)


def patched(http: httpx2.Client, id: str, body: Any) -> Json:
    answer = http.patch(f"/v1/documents/{id}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def without_undo(document: Json) -> Json:
    return {name: value for name, value in document.items() if name != "undo"}


def test_tags_are_merged_and_the_photo_stays_what_it_is(http: httpx2.Client) -> None:
    before = photo(http, "cat.jpg")
    scores = {match["id"]: match["cosine"] for match in found(http, text="a cat", modality="both")}
    after = patched(
        http, before["id"], {"tags": {"rating": 5, "subject": None, "camera": {"make": "A", "model": None}}}
    )
    tags = {**before["tags"], "rating": 5, "camera": {"make": "A"}}
    del tags["subject"]
    undo = after.pop("undo")
    assert after == {**before, "tags": tags}
    assert http.get(f"/v1/documents/{before['id']}").json() == after
    (match,) = found(http, text="a cat", filter={"rating": {"$gte": 5}}, modality="image")
    assert match["id"] == before["id"]
    assert {m["id"]: m["cosine"] for m in found(http, text="a cat", modality="both")} == scores
    assert without_undo(patched(http, before["id"], undo)) == before


def test_a_text_and_captions_are_encoded_anew(http: httpx2.Client) -> None:
    cat = photo(http, "cat.jpg")
    first, *others = [caption["text"] for caption in cat["captions"]]
    new = "A quite unheard-of sentence about a zeppelin."
    after = patched(http, cat["id"], {"captions": [*others, new]})
    assert {caption["text"] for caption in after["captions"]} == {*others, new}
    assert [c for c in after["captions"] if c["text"] != new] == cat["captions"][1:]
    (best, *_) = found(http, text=new, modality="text")
    assert (best["text"], best["cosine"]) == (new, pytest.approx(1, abs=1e-3))
    assert best["photo"]["id"] == cat["id"]
    assert all(match["text"] != first for match in found(http, text=first, modality="text"))
    other = "Another sentence about a submarine."
    caption = patched(http, best["id"], {"text": other})
    assert (caption["id"], caption["text"], caption["photo"]["id"]) == (best["id"], other, cat["id"])
    (best, *_) = found(http, text=other, modality="text")
    assert (best["id"], best["cosine"]) == (caption["id"], pytest.approx(1, abs=1e-3))


def test_what_several_people_change_at_once_stays_and_is_taken_back_alone(http: httpx2.Client) -> None:
    id = photo(http, "coffee.jpg")["id"]
    before = http.get(f"/v1/documents/{id}").json()
    texts = [caption["text"] for caption in before["captions"]]

    def state(document: Json) -> tuple[list[str], list[str]]:
        return document["tags"].get("keywords"), [caption["text"] for caption in document["captions"]]

    patched(http, id, {"add": {"tags": {"keywords": ["breakfast"]}}})
    # Who adds what is there already has added less.
    mine = patched(http, id, {"add": {"tags": {"keywords": ["breakfast", "mine"]}, "captions": ["A cup."]}})
    theirs = patched(http, id, {"add": {"tags": {"keywords": ["theirs"]}, "captions": ["Their cup."]}})
    assert state(theirs) == (["breakfast", "mine", "theirs"], [*texts, "A cup.", "Their cup."])
    added = next(caption["id"] for caption in mine["captions"] if caption["text"] == "A cup.")
    assert mine["undo"] == {"remove": {"tags": {"keywords": ["mine"]}, "captions": [added]}}
    gone = patched(http, id, mine["undo"])
    assert state(gone) == (["breakfast", "theirs"], [*texts, "Their cup."])
    assert patched(http, id, mine["undo"])["undo"] == {}
    again = patched(http, id, gone["undo"])
    assert next(caption["id"] for caption in again["captions"] if caption["text"] == "A cup.") == added
    # Under the id of its first text a caption with another one stays.
    patched(http, added, {"text": "Another cup."})
    assert state(patched(http, id, {"add": {"captions": ["A cup."]}}))[1] == [
        *texts,
        "Their cup.",
        "Another cup.",
        "A cup.",
    ]
    patched(http, id, {"remove": {"tags": {"keywords": ["breakfast", "theirs", "mine"]}}})
    assert without_undo(patched(http, id, {"captions": texts})) == before


def test_what_the_file_says_is_taken_away_and_stays_away(tmp_path: Path) -> None:
    photos, workspace = tmp_path / "photos", tmp_path / "workspace"
    photos.mkdir()
    shutil.copy(REPOSITORY / "tests" / "fixtures" / "metadata" / "described.jpg", photos)
    with PhotoIndex(workspace) as index:
        index.add(photos)
        ((id, of_file),) = ((record.id, record.all_tags) for record in index)

    def tags() -> Json:
        with PhotoIndex(workspace) as index:
            index.add(photos)
            (record,) = index
            found = [bool(index.search("a cat", filter={name: {"$exists": True}})) for name in said]
            assert found == [name in record.all_tags for name in said]
            return dict(record.all_tags)

    said = ("keywords", "rating")
    with Engine(Settings(workspace=workspace)) as engine:
        rated = amend(engine, id, Amendment(tags={"rating": None}))
        untagged = amend(engine, id, Amendment(remove=Items({"keywords": ["of jpg"]})))
        assert engine.workspace.require().verify() == []
    assert tags() == {name: value for name, value in of_file.items() if name not in said}
    with Engine(Settings(workspace=workspace)) as engine:
        assert rated is not None
        assert untagged is not None
        amend(engine, id, rated)
        amend(engine, id, untagged)
        # As the file has them, and so no layer of their own.
        record = engine.workspace.find(id)
        assert record is not None
        assert record.tags == {}
    assert tags() == of_file


def test_tags_stay_when_the_folder_is_indexed_again(tmp_path: Path) -> None:
    photos, workspace = tmp_path / "photos", tmp_path / "workspace"
    photos.mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(TOY_IMAGES / name, photos)
    with PhotoIndex(workspace) as index:
        index.add(photos)
        (id,) = (record.id for record in index if record.file == "cat.jpg")
    with Engine(Settings(workspace=workspace)) as engine:
        assert amend(engine, id, Amendment(tags={"rating": 4}, captions=["my cat"]))
        assert not amend(engine, "nothing", Amendment(tags={"rating": 4}))
    with PhotoIndex(workspace) as index:
        summary = index.add(photos)
        # Its file was not even read.
        assert (summary.added, summary.replaced, summary.unchanged) == (0, 0, 2)
        record = index.get(id)
        assert record is not None
        assert record.all_tags["rating"] == 4
        assert [caption.text for caption in index.captions_of(id)] == ["my cat"]
        assert index.photo(id) == (TOY_IMAGES / "cat.jpg").read_bytes()


def test_what_needs_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    photos, workspace = tmp_path / "photos", tmp_path / "workspace"
    photos.mkdir()
    shutil.copy(TOY_IMAGES / "cat.jpg", photos)
    with PhotoIndex(workspace) as index:
        index.add(photos)
        ((id, tags),) = ((record.id, record.all_tags) for record in index)
    (photos / "cat.jpg").unlink()
    with (
        Engine(Settings(workspace=workspace, keep="original")) as engine,
        pytest.raises(DataError, match=r"cat\.jpg"),
    ):
        amend(engine, id, Amendment(tags={"rating": 4}))
    with PhotoIndex(workspace) as index:
        assert [(record.id, record.all_tags) for record in index] == [(id, tags)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ([], 422, "it has to be an object"),
        ({}, 422, "The body is empty; there are tags, text, captions"),
        ({"id": "x"}, 422, "The body has 'id'"),
        ({"tags": None}, 422, "'tags' is null"),
        ({"tags": [1]}, 422, "they have to be an object"),
        ({"tags": {"a": 2**60}}, 422, "whole numbers are exact up to"),
        ({"tags": {"a": "x" * 70_000}}, 422, "the limit is 64 KiB"),
        ({"text": "a"}, 422, "A photo has no text of its own"),
        ({"captions": [""]}, 422, "it needs at least one word"),
        ({"captions": "a"}, 422, "they have to be a list of strings"),
        ({"add": []}, 422, "'add' is a list"),
        ({"add": {"text": "a"}}, 422, "'add' has 'text'; there are tags, captions"),
        ({"add": {"tags": {"keywords": "a"}}}, 422, "it has to be a list of texts"),
        ({"remove": {"captions": [""]}}, 422, "captions[0] of 'remove'"),
        ({"tags": {"a": 1}, "add": {"tags": {"a": [2]}}}, 422, "do one of these"),
    ],
)
def test_what_cannot_be_changed_is_refused(http: httpx2.Client, body: Any, status: int, words: str) -> None:
    id = photo(http, "coffee.jpg")["id"]
    answer = http.patch(f"/v1/documents/{id}", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert answer.json()["title"] == "A value cannot be used"


def test_other_patches_are_problems(http: httpx2.Client) -> None:
    cat = photo(http, "cat.jpg")
    assert http.patch("/v1/documents/nothing", json={"tags": {"a": 1}}).status_code == 404
    assert http.patch(f"/v1/documents/{cat['id']}/content", json={"tags": {}}).status_code == 405
    sent = http.patch(f"/v1/documents/{cat['id']}", content=b"tags=1", headers={"Content-Type": "text/plain"})
    assert sent.status_code == 415
    caption = cat["captions"][0]["id"]
    answer = http.patch(f"/v1/documents/{caption}", json={"captions": ["a"]})
    assert "A caption has no captions" in answer.json()["detail"]


def test_a_filter_deletes_what_a_dry_run_names(http: httpx2.Client) -> None:
    def delete(**parameters: str) -> httpx2.Response:
        return http.delete("/v1/documents", params=parameters)

    lines = [{"id": f"bulk-{n:02}", "text": f"sentence {n}", "tags": {"bulk": n}} for n in range(30)]
    body = "\n".join(map(json.dumps, lines))
    http.post("/v1/documents", content=body, headers={"Content-Type": "application/x-ndjson"})
    chosen = {"filter": json.dumps({"bulk": {"$lt": 25}}), "modality": "text"}
    ids = [f"bulk-{n:02}" for n in range(25)]
    dry = delete(**chosen, dry_run="true").json()
    assert dry == {"matched": 25, "first_ids": ids[:20], "deleted": 0, "dry_run": True}
    assert http.get("/v1/documents/bulk-00").status_code == 200
    assert delete(**chosen).json() == {"matched": 25, "first_ids": ids[:20], "deleted": 25, "dry_run": False}
    assert http.get("/v1/documents/bulk-00").status_code == 404
    left = http.get("/v1/documents", params={"filter": '{"bulk": {"$exists": true}}', "modality": "text"})
    assert [document["id"] for document in left.json()["documents"]] == [f"bulk-{n}" for n in range(25, 30)]
    assert delete(**chosen).json()["matched"] == 0
    for parameters, words in (
        ({}, "which would delete everything"),
        ({"filter": "{}"}, "which would delete everything"),
        ({"filter": "{\n}"}, "which would delete everything"),
        ({"filter": '{"$and": [{}]}'}, "which would delete everything"),
        ({"filter": "[1]"}, "'filter'"),
        ({"filter": '{"a": 1}', "dry_run": "yes"}, "true or false"),
        ({"filter": '{"a": 1}', "modality": "both"}, "'image' or 'text'"),
        ({"filtre": "{}"}, "is not known here"),
    ):
        answer = delete(**parameters)
        assert answer.status_code == 422, parameters
        assert words in answer.json()["detail"]


def test_many_are_deleted_by_their_ids(http: httpx2.Client) -> None:
    lines = [{"id": f"several-{n}", "text": f"sentence {n}"} for n in range(3)]
    body = "\n".join(map(json.dumps, lines))
    http.post("/v1/documents", content=body, headers={"Content-Type": "application/x-ndjson"})
    ids = [line["id"] for line in lines]
    answer = http.post("/v1/documents/deletion", json={"ids": [*ids, "nobody"]})
    assert (answer.status_code, answer.json()) == (200, {"deleted": 3})
    assert http.get(f"/v1/documents/{ids[0]}").status_code == 404
    for wrong in ({}, {"ids": []}, {"ids": ["a"], "x": 1}, {"ids": ["a"] * 10_001}):
        assert http.post("/v1/documents/deletion", json=wrong).status_code == 422


def test_previews_come_in_sizes_and_are_not_sent_twice(http: httpx2.Client) -> None:
    id = photo(http, "rocket.jpg")["id"]
    whole = Image.open(BytesIO(http.get(f"/v1/documents/{id}/content").content))
    for size in (512, 1024, 2048):
        answer = http.get(f"/v1/documents/{id}/thumbnail", params={"size": size})
        preview = Image.open(BytesIO(answer.content))
        assert preview.format == "JPEG"
        assert max(preview.size) == min(size, max(whole.size))
        tag = answer.headers["etag"]
        again = http.get(
            f"/v1/documents/{id}/thumbnail", params={"size": size}, headers={"If-None-Match": tag}
        )
        assert (again.status_code, again.content) == (304, b"")
    assert max(Image.open(BytesIO(http.get(f"/v1/documents/{id}/thumbnail").content)).size) == 256
    refused = http.get(f"/v1/documents/{id}/thumbnail", params={"size": 300})
    assert (refused.status_code, "512, 1024, 2048" in refused.json()["detail"]) == (422, True)


def test_the_python_client_changes_and_deletes(server: Server, http: httpx2.Client) -> None:
    with Client(server.url) as client:
        id = photo(http, "gravel.jpg")["id"]
        changed = client.update(id, tags={"rating": 1}, add={"tags": {"mood": ["calm"]}})
        assert changed.tags["mood"] == ["calm"]
        assert "mood" not in client.update(id, remove={"tags": {"mood": ["calm"]}}).tags
        with pytest.raises(ApiError, match="A photo has no text"):
            client.update(id, text="a")
        assert len(client.thumbnail(id, size=512)) > len(client.thumbnail(id))
        removal = client.delete_matching({"rating": 1}, dry_run=True)
        assert (removal.matched, removal.first_ids, removal.deleted) == (1, (id,), 0)
        assert client.delete_matching({"rating": 1}).deleted >= 1
        with pytest.raises(ApiError):
            client.document(id)
