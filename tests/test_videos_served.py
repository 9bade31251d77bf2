"""Moments over HTTP: where in which video a match is, grouped by video, and the video itself in ranges."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from conftest import TOY_IMAGES
from starlette.requests import Request
from videos import write_video

from crossmodal import PhotoIndex
from crossmodal.data_sets import beside
from crossmodal.engine.engine import Engine
from crossmodal.errors import OriginalGone, RequestError, ServiceError
from crossmodal.http_shapes.legacy.answers import shown_match
from crossmodal.http_shapes.photos import indexed_image_id
from crossmodal.http_shapes.v1.documents import UploadMetadata, parse_upload
from crossmodal.match import Match, VideoMoment
from crossmodal.records import IMAGE
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving
from crossmodal.server.videos import video_response
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

pytest.importorskip("av", reason="the extra video")

PLACE = "+48.8583+002.2944/"


class Asker:
    """Asks a server in this process, as from ``address``."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.file = engine, folder / "trip.mp4"

    def ask(self, method: str, path: str, *, address: str = "127.0.0.1", **options: Any) -> httpx2.Response:
        async def asked() -> httpx2.Response:
            app = create_app(Serving("query", self.engine, self.engine.settings))
            transport = httpx2.ASGITransport(app, client=(address, 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, **options)

        return asyncio.run(asked())

    def search(self, text: str, **body: Any) -> list[dict[str, Any]]:
        answer = self.ask("POST", "/v1/search", json={"text": text, **body})
        (result,) = answer.raise_for_status().json()["results"]
        found: list[dict[str, Any]] = result["matches"]
        return found


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("served")
    photos = folder / "photos"
    photos.mkdir()
    write_video(photos / "trip.mp4", ["cat", "rocket", "coffee"], tags={"location": PLACE})
    write_video(photos / "other.mkv", ["coins", "cat"], codec="mpeg4")
    shutil.copy(TOY_IMAGES / "bricks.jpg", photos)
    with PhotoIndex(folder / "index") as index:
        assert index.add(photos).added == 6
    with Engine(Settings(task="query_restful", workspace=folder / "index")) as engine:
        yield Asker(engine, photos)


def test_a_match_says_where_in_which_video_it_is(asker: Asker) -> None:
    (match,) = asker.search("a rocket", top_k=1, group_duplicates=False)
    video = match["video"]
    assert (video["time_seconds"], video["duration_seconds"]) == (3.0, 9.0)
    assert match["id"] == f"{video['id']}-t3000"
    assert video["content"] == f"/v1/documents/{video['id']}/content#t=3"
    assert match["photo"]["file"] == "trip.mp4"
    assert asker.ask("GET", match["photo"]["thumbnail"]).headers["Content-Type"] == "image/jpeg"
    described = asker.ask("GET", f"/v1/documents/{match['id']}").json()
    assert described["video"] == video
    photos = [each for each in asker.search("a rocket") if each["photo"]["file"] == "bricks.jpg"]
    assert ["video" in each for each in photos] == [False]
    filter = f'{{"video_id": "{video["id"]}"}}'
    listed = asker.ask("GET", "/v1/documents", params={"filter": filter, "sort": "time_seconds"}).json()
    assert [each["video"]["time_seconds"] for each in listed["documents"]] == [0.0, 3.0, 6.0]


def test_a_moment_in_old_envelopes_and_its_previews(asker: Asker) -> None:
    (match,) = asker.search("a rocket", top_k=1)
    small = asker.ask("GET", match["photo"]["thumbnail"])
    preview = asker.ask("GET", match["photo"]["thumbnail"], params={"size": "512"})
    assert (preview.status_code, preview.content) == (200, small.content)
    found = Match(match["id"], IMAGE, 1.0, photo_id=match["id"], video=VideoMoment(match["video"]["id"], 3.0))
    uri = shown_match(found, "http://localhost", "secret").uri
    assert uri == f"http://localhost/images/{match['id']}?key=secret#t=3"
    for address in (uri, uri.removeprefix("http://localhost")):
        assert indexed_image_id(address, "localhost") == match["id"]


def test_moments_are_grouped_by_video(asker: Asker) -> None:
    alone = asker.search("a rocket", group_duplicates=False)
    assert len(alone) == 6
    grouped = asker.search("a rocket", group_duplicates=True)
    assert grouped[0]["video"]["time_seconds"] == 3.0
    videos = [match["video"]["id"] for match in grouped if "video" in match]
    assert len(set(videos)) == len(videos) == 2
    assert len(grouped[0]["duplicates"]) >= 2


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-", (0, None)),
        ("bytes=100-199", (100, 200)),
        ("bytes=100-99999999", (100, None)),
        ("bytes=-50", (-50, None)),
    ],
)
def test_a_range_of_the_video(asker: Asker, asked: str, span: tuple[int, int | None]) -> None:
    whole = asker.file.read_bytes()
    path = asker.search("a rocket", top_k=1)[0]["video"]["content"].partition("#")[0]
    answer = asker.ask("GET", path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, whole[slice(*span)])
    start = span[0] % len(whole)
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(whole)}"
    assert (answer.headers["Content-Type"], answer.headers["Accept-Ranges"]) == ("video/mp4", "bytes")


def test_all_of_it_none_of_it_and_what_has_changed(asker: Asker) -> None:
    whole = asker.file.read_bytes()
    moment = asker.search("a rocket", top_k=1)[0]["id"]
    path = f"/v1/documents/{moment}/content"
    answer = asker.ask("GET", path)
    tag = answer.headers["ETag"]
    assert (answer.status_code, answer.content) == (200, whole)
    for asked in ("bytes=1-2,4-5", "lines=1-2", "bytes=-"):
        assert asker.ask("GET", path, headers={"Range": asked}).status_code == 200
    beyond = asker.ask("GET", path, headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    named = {"Range": "bytes=0-9"}
    assert asker.ask("GET", path, headers={**named, "If-Range": tag}).content == whole[:10]
    assert asker.ask("GET", path, headers={**named, "If-Range": '"other"'}).content == whole
    assert asker.ask("GET", path, headers={"If-None-Match": tag}).status_code == 304
    head = asker.ask("HEAD", path, headers=named)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (206, "10", b"")
    before = asker.file.stat()
    asker.file.write_bytes(whole + b"\0")
    try:
        gone = asker.ask("GET", path)
    finally:
        asker.file.write_bytes(whole)
        os.utime(asker.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert gone.status_code == 410
    assert "has changed since it was indexed" in gone.json()["detail"]


def test_a_video_on_a_disk_that_numbers_its_files_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_is_numbered_anew", lambda device: True)
    (tmp_path / "photos").mkdir()
    file = write_video(tmp_path / "photos" / "trip.mp4", ["cat"], seconds=1.0)
    with PhotoIndex(tmp_path / "index") as index:
        index.add(file.parent)
        (video,) = index
    with Workspace(tmp_path / "index") as workspace:
        opened = workspace.video(video.id)
    assert opened is not None
    with open(opened[0], "rb") as content:
        assert content.read() == file.read_bytes()


def without_signatures(workspace: Path) -> None:
    """Makes an index as ``load`` makes it: of no file is known how it was when it was indexed."""
    with closing(sqlite3.connect(workspace / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE files SET signature = ''")


class Hash:
    """A SHA-256 of which it is noted that it was begun, and by the first of which a test holds up all."""

    begun = 0
    holds: threading.Event | None = None

    def __init__(self) -> None:
        Hash.begun += 1
        self._hash, self._waits = hashlib.sha256(), Hash.holds if Hash.begun == 1 else None

    def update(self, part: bytes) -> None:
        if self._waits is not None:
            self._waits.wait(30)
        self._hash.update(part)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> type[Hash]:
    """How the files of videos are compared."""
    monkeypatch.setattr(Hash, "begun", 0)
    monkeypatch.setattr(Hash, "holds", None)
    monkeypatch.setattr("crossmodal.originals.hashlib", SimpleNamespace(sha256=Hash))
    return Hash


def test_a_video_of_which_no_signature_is_known_is_compared_once(tmp_path: Path, hashes: type[Hash]) -> None:
    (tmp_path / "photos").mkdir()
    file = write_video(tmp_path / "photos" / "trip.mp4", ["cat", "rocket"])
    with PhotoIndex(tmp_path / "index") as index:
        index.add(file.parent)
        ids = [video.id for video in index]
    without_signatures(tmp_path / "index")
    hashes.begun = 0
    with Workspace(tmp_path / "index") as workspace:

        def opened(id: str) -> tuple[int, str] | None:
            if (reading := workspace.reading_video(id)) is not None:
                reading.result()
            return workspace.video(id)

        with pytest.raises(OriginalGone):
            workspace.video(ids[0])
        for id in ids * 2:
            found = opened(id)
            assert found is not None
            with open(found[0], "rb") as content:
                assert content.read() == file.read_bytes()
        assert hashes.begun == 1
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        for _ in range(2):
            with pytest.raises(OriginalGone, match="has changed since it was indexed"):
                opened(ids[0])
        assert hashes.begun == 2


@pytest.fixture
def fresh(asker: Asker, tmp_path: Path) -> Iterator[Asker]:
    """The same index, of whose files nothing is known."""
    with closing(sqlite3.connect(asker.engine.workspace.path / "index.sqlite")) as connection:
        (tmp_path / "index").mkdir()
        connection.execute("VACUUM INTO ?", [str(tmp_path / "index" / "index.sqlite")])
    without_signatures(tmp_path / "index")
    with Engine(Settings(task="query_restful", workspace=tmp_path / "index")) as engine:
        yield Asker(engine, asker.file.parent)


def test_a_file_that_is_compared_holds_up_nobody_who_asks_for_others(
    fresh: Asker, hashes: type[Hash]
) -> None:
    records = list(fresh.engine.workspace.list_records(IMAGE, 10))
    first, other, photo = (
        next(f"/v1/documents/{each.id}/content" for each in records if each.file == name)
        for name in ("trip.mp4", "other.mkv", "bricks.jpg")
    )
    hashes.begun, hashes.holds = 0, threading.Event()

    async def asked() -> list[httpx2.Response]:
        app = create_app(Serving("query", fresh.engine, fresh.engine.settings))
        transport = httpx2.ASGITransport(app, client=("192.0.2.7", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            waiting = [asyncio.ensure_future(http.get(first)) for _ in range(8)]
            while not hashes.begun:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                others = [await http.get(path) for path in (other, photo)]
            assert not any(task.done() for task in waiting)
            assert hashes.holds is not None
            hashes.holds.set()
            return others + await asyncio.gather(*waiting)

    answers = asyncio.run(asked())
    assert [answer.status_code for answer in answers] == [200] * 10
    assert {answer.content for answer in answers[2:]} == {answers[2].content}
    assert hashes.begun == 2


def test_closing_an_index_gives_up_what_is_compared(fresh: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossmodal.originals._PART", 1)
    workspace = fresh.engine.workspace
    id = next(each.id for each in workspace.list_records(IMAGE, 10) if each.file == "trip.mp4")
    began = threading.Event()
    read = os.read

    def slow(descriptor: int, size: int) -> bytes:
        began.set()
        time.sleep(0.001)
        return read(descriptor, size)

    with monkeypatch.context() as patch:
        patch.setattr("crossmodal.originals.os.read", slow)
        reading = workspace.reading_video(id)
        assert reading is not None
        began.wait(10)
        fresh.engine.close()
        with pytest.raises(ServiceError, match="the index was closed"):
            reading.result(0)
    again = workspace.reading_video(id)
    assert again is not None
    again.result()
    assert workspace.reading_video(id) is None


def test_a_request_that_is_given_up_leaves_no_file_open(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (match,) = asker.search("a rocket", top_k=1)
    entered, go_on, opened = threading.Event(), threading.Event(), []
    workspace = asker.engine.workspace
    open_video = workspace.video

    def slow(id: str) -> tuple[int, str] | None:
        entered.set()
        go_on.wait(10)
        found = open_video(id)
        assert found is not None
        opened.append(found[0])
        return found

    monkeypatch.setattr(workspace, "video", slow)

    async def given_up() -> None:
        serving = Serving("query", asker.engine, asker.engine.settings)
        request = Request({"type": "http", "method": "GET", "headers": []})
        task = asyncio.ensure_future(video_response(request, serving, match["id"], hide_location=False))
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        while not opened:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    asyncio.run(given_up())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_who_sees_no_places_gets_the_video_without_them(asker: Asker) -> None:
    whole = asker.file.read_bytes()
    assert whole.count(b"+48.8583") >= 1
    path = asker.search("a rocket", top_k=1)[0]["video"]["content"].partition("#")[0]
    answer = asker.ask("GET", path, address="192.0.2.7")
    assert (answer.status_code, len(answer.content)) == (200, len(whole))
    assert b"48.8583" not in answer.content
    at = whole.index(b"+48.8583")
    part = asker.ask("GET", path, address="192.0.2.7", headers={"Range": f"bytes={at - 4}-{at + 3}"})
    assert part.content == whole[at - 4 : at] + b"    "
    changed = [place for place in range(len(whole)) if whole[place] != answer.content[place]]
    assert len(changed) < 100


def test_a_video_cannot_be_sent(asker: Asker) -> None:
    for name in ("trip.mp4", "other.mkv"):
        content = (asker.file.parent / name).read_bytes()
        with pytest.raises(RequestError, match="is a video, and only photos and text can be sent") as refused:
            parse_upload(name, content, name, UploadMetadata())
        assert refused.value.status == 415
