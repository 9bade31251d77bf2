"""The text in photos: read once after indexing, found by its words, and never taken for a caption."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from conftest import REPOSITORY, TOY_IMAGES, clean_environment, run_app, run_python, start_server
from PIL import Image, ImageDraw, ImageFont

from crossmodal import PhotoIndex, Workspace, extras
from crossmodal.engine import engine as engine_module
from crossmodal.engine.engine import Engine
from crossmodal.engine.texts import ReadText
from crossmodal.errors import MissingExtra, StoreLocked
from crossmodal.index.protocols import SeenText, TextCounts
from crossmodal.query.snippets import snippet_of
from crossmodal.server import text_reading
from crossmodal.settings import Settings

RECEIPT = ["GROENLAND MARKET", "Espresso beans   12,90", "Oat milk   2,49", "TOTAL   15,39 EUR"]
SIGN = ["NO PARKING", "Tow zone"]
SCREENSHOT = ["Settings", "Bluetooth", "Airplane mode"]

# In the place of rapidocr: quick, and each photo leaves a line.
FAKE = """
import time
from types import SimpleNamespace
import numpy as np

class RapidOCR:
    def __init__(self, params):
        assert params["EngineConfig.onnxruntime.intra_op_num_threads"] >= 1

    def __call__(self, pixels):
        with open({log!r}, "a") as log:
            log.write(f"{{pixels.shape[1]}}\\n")
        time.sleep(0.05)
        boxes = np.array([[[0, 0], [9, 0], [9, 9], [0, 9]]] * 2) + np.array([[[0]], [[12]]])
        return SimpleNamespace(boxes=boxes, txts=("lantern", f"number {{pixels.shape[1]}}"))
"""


def drawn(lines: list[str], size: tuple[int, int], font_size: int) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(font_size)
    for number, line in enumerate(lines):
        pen.text((40, 30 + number * font_size * 1.6), line, fill="black", font=font)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A receipt, a sign that only its EXIF turns upright, a screenshot, and a photo without text."""
    folder = tmp_path_factory.mktemp("photos")
    drawn(RECEIPT, (900, 700), 44).save(folder / "a.jpg", quality=90)
    turned = Image.Exif()
    turned[0x0112] = 6
    sign = drawn(SIGN, (800, 500), 80).transpose(Image.Transpose.ROTATE_90)
    sign.save(folder / "b.jpg", quality=90, exif=turned)
    drawn(SCREENSHOT, (500, 300), 26).save(folder / "c.png")
    shutil.copy(TOY_IMAGES / "cat.jpg", folder / "d.jpg")
    return folder


@pytest.fixture(scope="module")
def read(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoIndex]:
    """The index of these photos, with their text."""
    pytest.importorskip("rapidocr")
    with PhotoIndex(tmp_path_factory.mktemp("read") / "workspace") as index:
        assert index.add(folder).added == 4
        assert index.search("espresso", hybrid=True)[0].text_in_photo is None
        steps: list[tuple[int, int]] = []
        summary = index.read_texts(progress=lambda done, total: steps.append((done, total)))
        assert (summary.read, summary.with_text, summary.failures) == (4, 3, [])
        assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
        yield index


@pytest.mark.parametrize(
    ("query", "file", "words"),
    [
        ("espresso", "a.jpg", "Espresso beans"),
        ("the receipt with oat milk", "a.jpg", "Oat milk 2,49"),
        ("parking", "b.jpg", "NO PARKING"),
        ("bluetooth", "c.png", "Bluetooth"),
    ],
)
def test_a_photo_is_found_by_a_word_on_it(read: PhotoIndex, query: str, file: str, words: str) -> None:
    best = read.search(query, hybrid=True)[0]
    assert best.file == file
    assert best.parts is not None
    assert best.parts.text_rank == 1
    assert words in (best.text_in_photo or "")


def test_it_is_no_caption_and_no_part_of_what_the_photo_shows(read: PhotoIndex) -> None:
    plain = {match.id: match for match in read.search("espresso")}
    for match in read.search("espresso", hybrid=True):
        assert match.captions == ()
        assert match.cosine == plain[match.id].cosine
        assert plain[match.id].text_in_photo is None
    assert read.page("text") == []
    assert list(read.search("espresso", modality="text", hybrid=True)) == []
    assert {match.file: read.text_in_photo(match.id) for match in plain.values()}["d.jpg"] == ""


def test_one_word_of_a_long_question_is_chance(read: PhotoIndex) -> None:
    found = read.search("children drinking espresso on sunny beaches", hybrid=True)
    assert all(match.parts is not None and match.parts.text_rank is None for match in found)


def test_half_of_an_odd_number_of_words_is_rounded_up(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path) as index:
        index.add(TOY_IMAGES / "cat.jpg")
        (photo,) = index
    with Engine(Settings(workspace=tmp_path)) as engine:
        engine._put_texts([SeenText(photo.id, photo.digest or "", "lantern number seven")])
        for words, count in (("zeppelin balloon lantern", 0), ("zeppelin number lantern", 1), ("lantern", 1)):
            assert len(engine.workspace.require().matching_texts(words, 5)) == count


def test_the_snippet_begins_at_the_line_with_most_words() -> None:
    text = "\n".join(RECEIPT)
    assert snippet_of(text, "total of the milks") == "… Oat milk   2,49 · TOTAL   15,39 EUR"
    assert snippet_of(text, "market").startswith("GROENLAND MARKET · Espresso")
    long = snippet_of("word " * 200 + "lantern " + "word " * 200, "lanterns")
    assert "lantern" in long
    assert len(long) < 180


def test_status_the_command_line_and_the_server_tell_it(read: PhotoIndex, folder: Path) -> None:
    workspace = Path(read._settings.workspace)
    told = run_app("status", "--workspace", workspace)
    assert "text was looked for in 4 photos, 3 have some" in told.stdout
    search = ("search", "--workspace", workspace, "espresso", "-k", "1")
    assert "Espresso beans" in run_app(*search).stdout
    (match,) = json.loads(run_app(*search, "--print", "json", "--no-hybrid").stdout)[0]["matches"]
    assert "parts" not in match
    server = start_server("query_restful", "--workspace", workspace)
    try:
        assert server.request("/v1/status")[1]["texts"] == {"read": 4, "with_text": 3, "waiting": 0}
        body = {"text": "bluetooth", "top_k": 1}
        (match,) = server.request("/v1/search", {**body, "hybrid": True})[1]["results"][0]["matches"]
        assert "Bluetooth" in match["text_in_photo"]
        assert match["parts"]["text_rank"] == 1
        document = server.request(f"/v1/documents/{match['id']}")[1]
        assert document["text_in_photo"].splitlines()[0] == "Settings"
        assert document["captions"] == []
        (match,) = server.request("/v1/search", body)[1]["results"][0]["matches"]
        assert "text_in_photo" not in match
        asked = run_app("search", "--url", server.url, "bluetooth", "-k", "1")
        assert "Bluetooth" in asked.stdout
    finally:
        server.stop()


def test_text_goes_and_comes_back_with_its_photo(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "c.png"):
        shutil.copy(folder / name, photos)
    with PhotoIndex(tmp_path / "workspace") as index:
        index.add(photos)
        engine = Engine(Settings(workspace=tmp_path / "workspace"))
        reading = text_reading.TextReading(engine, lambda: False)
        with pytest.MonkeyPatch.context() as patch:
            # In the background, as a server does it.
            patch.setattr(text_reading, "_QUIET_SECONDS", 0.0)
            reading.start()
            until = time.monotonic() + 120
            while _waiting(tmp_path / "workspace") and time.monotonic() < until:
                time.sleep(0.1)
            reading.close()
            engine.close()
        (first,) = index.search("espresso", 1, hybrid=True)
        assert first.text_in_photo
        (photos / "a.jpg").rename(tmp_path / "a.jpg")
        assert index.add(photos).deleted == 1
        assert index.search("espresso", 1, hybrid=True)[0].text_in_photo is None
        (tmp_path / "a.jpg").rename(photos / "a.jpg")
        assert index.add(photos).restored == 1
        # Not read again.
        assert _waiting(tmp_path / "workspace") == 0
        assert index.search("espresso", 1, hybrid=True)[0].text_in_photo
        # Another content is read again.
        drawn(["LANTERN"], (600, 300), 60).save(photos / "a.jpg")
        index.add(photos)
        assert _waiting(tmp_path / "workspace") == 1
        assert index.read_texts().with_text == 1
        (lantern,) = index.search("lantern", 1, hybrid=True)
        assert (lantern.text_in_photo, lantern.file) == ("LANTERN", "a.jpg")
        index.delete([lantern.id])
        assert index.search("lantern", 1, hybrid=True)[0].text_in_photo is None
    with Workspace(tmp_path / "workspace") as workspace:
        assert workspace.require().verify() == []


def test_the_text_of_a_photo_that_was_deleted_meanwhile_is_not_kept(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    with PhotoIndex(workspace) as index:
        index.add(TOY_IMAGES / "cat.jpg")
        index.add(TOY_IMAGES / "coffee.jpg")
        gone, kept = list(index)
        texts = [SeenText(each.id, each.digest or "", "pin code 1234") for each in (gone, kept)]
        index.delete([gone.id])
    with Engine(Settings(workspace=workspace)) as engine:
        engine._put_texts(texts)
        assert engine.workspace.text_counts().with_text == 1
    with closing(sqlite3.connect(workspace / "index.sqlite")) as connection, connection:
        assert connection.execute("SELECT photo FROM seen_texts").fetchall() == [(kept.id,)]
        connection.execute("UPDATE seen_texts SET photo = ?", (gone.id,))
    with Workspace(workspace) as opened:
        (damage,) = opened.require().verify()
        assert f"was read in {gone.id!r}, which is not stored" in str(damage)


def test_a_server_reads_on_after_any_error_and_tries_failed_photos_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skipped: list[set[str]] = []
    again = threading.Event()

    class Workspace:
        def text_counts(self) -> TextCounts:
            return TextCounts(0, 0, 1)

    class Failing:
        workspace = Workspace()

        def read_texts(self, *, skip: set[str], **named: object) -> Iterator[ReadText]:
            skipped.append(set(skip))
            if len(skipped) == 1:
                raise OSError("no disk")
            if len(skipped) == 3:
                again.set()
            yield ReadText("cat", "cat.jpg", error="gone")

    for name, seconds in (("_QUIET_SECONDS", 0.0), ("_RETRY_SECONDS", 0.0), ("_AGAIN_SECONDS", 0.05)):
        monkeypatch.setattr(text_reading, name, seconds)
    monkeypatch.setattr(text_reading, "can_read_texts", lambda: True)
    reading = text_reading.TextReading(cast(Engine, Failing()), lambda: False)
    reading.start()
    assert again.wait(20)
    reading.close()
    assert skipped[2] == set()


def test_storing_waits_for_another_process_and_not_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[int] = []

    def locked_once(self: Engine, texts: list[SeenText]) -> None:
        put.append(len(texts))
        if len(put) == 1:
            raise StoreLocked("another process writes")

    def read_one(
        workspace: object, store: Callable[[list[SeenText]], None], **named: object
    ) -> Iterator[int]:
        store([SeenText("cat", "digest", "text")])
        yield 1

    monkeypatch.setattr(engine_module, "read_texts", read_one)
    monkeypatch.setattr(engine_module, "_LOCKED_SECONDS", 0.0)
    monkeypatch.setattr(Engine, "_put_texts", locked_once)
    with PhotoIndex(tmp_path) as index:
        index.add(TOY_IMAGES / "cat.jpg")
    with Engine(Settings(workspace=tmp_path)) as engine:
        assert len(list(engine.read_texts(patient=lambda seconds: seconds < 10))) == 1
        assert put == [1, 1]
        assert len(list(engine.read_texts(ended=lambda: True))) == 1
        assert put == [1, 1]
        put.clear()
        with pytest.raises(StoreLocked):
            list(engine.read_texts())


def _waiting(folder: Path) -> int:
    with Workspace(folder) as workspace:
        return workspace.text_counts().waiting


def test_index_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    log, site, photos = tmp_path / "log.txt", tmp_path / "site", tmp_path / "photos"
    for package, code in (("rapidocr", FAKE.format(log=str(log))), ("cv2", "setNumThreads = print")):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text(code, encoding="utf-8")
    photos.mkdir()
    widths = range(100, 140)
    for width in widths:
        Image.effect_noise((width, 100), 80).convert("RGB").save(photos / f"{width}.png")
    environment = {"CROSSMODAL_OCR": "auto", "PYTHONPATH": str(site)}
    command = ["app.py", "index", str(photos), "--workspace", str(tmp_path / "workspace")]
    first = subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**clean_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().split()) > 20) and time.monotonic() < until:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    said = first.communicate()
    assert "The index is ready. Reading the text in 40 photos" in said[1]
    # The index is whole before its text is read.
    assert "Indexed" in said[0]
    left = _waiting(tmp_path / "workspace")
    assert 0 < left <= 24
    done = run_python(*command, environment=environment)
    assert done.returncode == 0
    assert f"Reading the text in {left} photos" in done.stderr
    assert _waiting(tmp_path / "workspace") == 0
    seen = [int(width) for width in log.read_text().split()]
    assert set(seen) == set(widths)
    # Only what was not stored yet is read twice.
    assert len(seen) <= 40 + 16 + 1
    assert "Reading the text" not in run_python(*command, environment=environment).stderr


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PhotoIndex(tmp_path / "workspace") as index:
        index.add(TOY_IMAGES / "cat.jpg")
        monkeypatch.setattr(extras, "find_spec", lambda name: None)
        with pytest.raises(MissingExtra) as refused:
            index.read_texts()
    needed = 'Reading the text in photos needs rapidocr: pip install "crossmodal-search[ocr]".'
    assert str(refused.value) == needed
