"""Originals of many photos as one zip, made while it is read."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import pytest
from asgi_client import AsgiClient, serving_in
from conftest import TOY_IMAGES
from photos import encoded
from PIL import Image
from test_metadata_privacy import EVERYTHING
from test_metadata_reading import photo

from crossmodal import PhotoIndex, Record
from crossmodal.engine.archive import PhotoArchive
from crossmodal.errors import DataError
from crossmodal.metadata import read_metadata
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving

CAT, COFFEE = ((TOY_IMAGES / name).read_bytes() for name in ("cat.jpg", "coffee.jpg"))
PLACED = photo(exif=EVERYTHING)
UPLOAD = encoded(Image.new("RGB", (40, 30), (1, 200, 3)), "PNG")
PATH = "/v1/documents/archive"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoIndex]:
    folder = tmp_path_factory.mktemp("archive")
    for path, content in {
        "one/trip/cat.jpg": CAT,
        "two/trip/CAT.jpg": COFFEE,
        "one/where.jpg": PLACED,
        "one/gone.png": encoded(Image.new("RGB", (30, 40), (1, 2, 3)), "PNG"),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    with PhotoIndex(folder / "index", "clip-mini") as made:
        for root in ("one", "two"):
            made.add(folder / root)
        # A client's name leads nowhere.
        made.add([Record("upload", "image", content=UPLOAD, tags={"file": "../../etc/a:b.png"})])
        (folder / "one/gone.png").unlink()
        yield made


@pytest.fixture(scope="module")
def serving(index: PhotoIndex) -> Iterator[Serving]:
    with serving_in(index._settings.workspace) as serving:
        yield serving


def client(serving: Serving, address: str = "127.0.0.1") -> AsgiClient:
    return AsgiClient(serving, address)


def held(zipped: bytes) -> dict[str, bytes]:
    """The files of a zip by name; their checksums are right."""
    with ZipFile(BytesIO(zipped)) as opened:
        assert opened.testzip() is None
        assert all(each.compress_type == ZIP_STORED for each in opened.infolist())
        return {each.filename: opened.read(each) for each in opened.infolist()}


def test_files_lie_below_their_roots_under_names_of_their_own(index: PhotoIndex, tmp_path: Path) -> None:
    ids = [record.id for record in index.page()]
    summary = index.write_archive(tmp_path / "photos.zip", [*ids, ids[0], "nobody"])
    files = held((tmp_path / "photos.zip").read_bytes())
    said = files.pop("missing.txt").decode()
    cats = {name: files.pop(name) for name in list(files) if name.lower().startswith("trip/cat")}
    assert len(cats) == 2
    assert sorted(cats.values()) == sorted([CAT, COFFEE])
    assert len({name.lower() for name in cats}) == 2
    assert sum(name.endswith(" (2).jpg") for name in cats) == 1
    assert files == {"where.jpg": PLACED, "a_b.png": UPLOAD}
    assert summary.photos == 4
    assert {failure.source for failure in summary.missing} == {"gone.png", "nobody"}
    assert "gone.png: The file of the photo" in said
    assert "nobody: There is no such photo." in said
    assert (tmp_path / "photos.zip").stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataError, match=r"photos.zip is there already"):
        index.write_archive(tmp_path / "photos.zip", ids)
    with pytest.raises(DataError, match="give one of the two"):
        index.write_archive(tmp_path / "other.zip", ids, filter={})
    assert not (tmp_path / "other.zip").exists()


def test_an_entry_has_the_time_at_which_its_photo_was_taken(index: PhotoIndex, tmp_path: Path) -> None:
    index.write_archive(tmp_path / "photos.zip", filter={"file": "where.jpg"})
    (record,) = index.page(filter={"file": "where.jpg"})
    with ZipFile(tmp_path / "photos.zip") as opened:
        (entry,) = opened.infolist()
    assert "{}-{:02}-{:02}T{:02}:{:02}".format(*entry.date_time) == record.all_tags["taken"][:16]


def test_strangers_get_no_places(index: PhotoIndex, serving: Serving) -> None:
    (record,) = index.page(filter={"file": "where.jpg"})
    here = client(serving).post(PATH, json={"ids": [record.id]})
    assert held(here.content) == {"where.jpg": PLACED}
    there = client(serving, "192.0.2.1").post(PATH, json={"ids": [record.id]})
    (content,) = held(there.content).values()
    assert "latitude" not in read_metadata(content).tags
    assert len(content) == len(PLACED)
    refused = client(serving, "192.0.2.1").post(PATH, json={"filter": {"city": "Nice"}})
    assert refused.status_code == 403


def test_by_http_as_json_and_as_a_form(index: PhotoIndex, serving: Serving) -> None:
    http = client(serving)
    asked = {"filter": {"file": {"$in": ["cat.jpg", "CAT.jpg"]}}}
    answer = http.post(PATH, json=asked)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="photos.zip"'
    assert "content-length" not in answer.headers
    assert sorted(held(answer.content).values()) == sorted([CAT, COFFEE])
    form = http.post(PATH, files={"request": (None, json.dumps(asked))})
    assert held(form.content).keys() == held(answer.content).keys()


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"ids": ["nobody"]}, 404, "no such photo"),
        ({"filter": {"file": "nothing"}}, 404, "no such photo"),
        ({"ids": []}, 422, "at least one id"),
        ({"ids": ["a"], "filter": {}}, 422, "either 'ids'"),
        ({"ids": [{}]}, 422, "ids[0]"),
        ({"ids": ["a"] * 10_001}, 422, "the limit is 10,000"),
        ({"filter": {"$and": 3}}, 422, "'filter' at /$and"),
    ],
)
def test_what_cannot_be_an_archive_is_refused(
    serving: Serving, body: dict[str, Any], status: int, detail: str
) -> None:
    answer = client(serving).post(PATH, json=body)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_a_client_that_goes_away_ends_it(
    index: PhotoIndex, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    content = serving.engine.workspace.content

    def noted(id: str) -> tuple[bytes, str] | None:
        read.append(id)
        return content(id)

    monkeypatch.setattr(serving.engine.workspace, "content", noted)
    ids = [record.id for record in index.page(filter={"format": "JPEG"})]
    gone = asyncio.Event()
    asked = [{"type": "http.request", "body": json.dumps({"ids": ids}).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            gone.set()
            # The connection takes no more.
            await asyncio.sleep(60)

    scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}
    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    app = create_app(serving)
    asyncio.run(app({**scope, "headers": headers, "client": ("127.0.0.1", 1), "state": {}}, receive, send))
    assert len(ids) == 3
    assert len(read) == 1
    assert serving.admission.sent.held == serving.admission.archives.held == 0


class Sent:
    """An archive that is asked for by a stranger, and what of the places is held while it is sent."""

    def __init__(self, serving: Serving, ids: list[str]) -> None:
        self.serving, self.held, self.memory, self.content = serving, [], [], bytearray()
        self.signs = 0
        self._app = create_app(serving)
        self._asked = [{"type": "http.request", "body": json.dumps({"ids": ids}).encode()}]

    async def run(self) -> None:
        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode()}
        scope |= {"query_string": b"", "headers": headers, "client": ("192.0.2.1", 1), "state": {}}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if self._asked:
            return self._asked.pop()
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if not message.get("body"):
            self.signs += message.get("more_body", False)
            return
        self.content += message["body"]
        self.held.append(self.serving.admission.sent.held)
        self.memory.append(tracemalloc.get_traced_memory()[0] - len(self.content))
        # Others run.
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, list[str], int]]:
    """What serves an index, the ids of its photos, which are large, and how many MiB each has."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "photos").mkdir()
    for name in ("a.png", "b.png"):
        noise = Image.frombytes("RGB", (1500, 1000), os.urandom(1500 * 1000 * 3))
        noise.save(folder / "photos" / name, compress_level=0)
    size = (folder / "photos" / "a.png").stat().st_size
    with PhotoIndex(folder / "index", "clip-mini") as made:
        made.add(folder / "photos")
        ids = [record.id for record in made.page()]
    with serving_in(folder / "index") as serving:
        yield serving, ids, -(-size >> 20)


def test_as_much_as_is_in_memory_is_counted(large: tuple[Serving, list[str], int]) -> None:
    serving, ids, size = large
    sent = Sent(serving, ids)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        asyncio.run(sent.run())
    finally:
        tracemalloc.stop()
    assert held(bytes(sent.content)).keys() == {"a.png", "b.png"}
    assert max(sent.held) == size
    assert serving.admission.sent.held == serving.admission.archives.held == 0
    # One photo and a part of it, although another one was made of it without its place.
    assert max(sent.memory) - before < (size + 2) << 20


def test_so_many_are_sent_at_a_time(serving: Serving) -> None:
    with serving.admission.archives.take(serving.admission.archives.most):
        refused = client(serving).post(PATH, json={"filter": {"format": "JPEG"}})
    assert refused.status_code == 429
    assert "16 archives and takes on 16" in refused.json()["detail"]


def test_an_archive_waits_for_memory_that_others_hold(
    large: tuple[Serving, list[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossmodal.server.v1.archive._SIGN_SECONDS", 0.02)
    serving, ids, _ = large

    async def run() -> Sent:
        sent = Sent(serving, ids)
        with serving.admission.sent.take(serving.admission.sent.most):
            sending = asyncio.ensure_future(sent.run())
            while sent.signs < 3:
                await asyncio.sleep(0.01)
            assert len(sent.content) < 1 << 20
        await sending
        # One that is given up leaves its places to others.
        with serving.admission.sent.take(serving.admission.sent.most):
            given_up = asyncio.ensure_future(Sent(serving, ids).run())
            await asyncio.sleep(0.2)
            given_up.cancel()
            await asyncio.wait({given_up})
        return sent

    sent = asyncio.run(run())
    assert len(held(bytes(sent.content))) == 2
    assert serving.admission.sent.held == serving.admission.archives.held == 0


def test_videos_come_in_parts_and_once(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video")
    from videos import write_video

    (tmp_path / "photos").mkdir()
    place = "+48.8583+002.2944/"
    file = tmp_path / "photos" / "trip.mp4"
    write_video(file, ["cat", "rocket"], tags={"location": place})
    with PhotoIndex(tmp_path / "index", "clip-mini") as index:
        index.add(tmp_path / "photos")
        moments = [record.id for record in index]
        assert len(moments) == 2
        assert index.write_archive(tmp_path / "all.zip", moments).photos == 1
        assert index.write_archive(tmp_path / "hidden.zip", moments, locations=False).photos == 1
        before = len(list(Path("/proc/self/fd").iterdir()))
        parts = PhotoArchive(index._workspace, moments).parts()
        next(parts)
        parts.close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        with closing(sqlite3.connect(tmp_path / "index" / "index.sqlite")) as connection, connection:
            # It has to be compared before it is read.
            connection.execute("UPDATE files SET signature = ''")
        assert index.write_archive(tmp_path / "compared.zip", moments, locations=False).photos == 1
        index.close()
        with serving_in(tmp_path / "index") as serving:
            sent = Sent(serving, moments)
            asyncio.run(sent.run())
            assert held(bytes(sent.content)) == held((tmp_path / "hidden.zip").read_bytes())
    assert held((tmp_path / "all.zip").read_bytes()) == {"trip.mp4": file.read_bytes()}
    (hidden,) = held((tmp_path / "hidden.zip").read_bytes()).values()
    assert place.encode() in file.read_bytes()
    assert place.encode() not in hidden
    assert len(hidden) == file.stat().st_size
