"""Videos are found by their moments, the beginnings of scenes; these come and go with their file."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, TOY_IMAGES, run_app
from photos import toy_photo
from PIL import Image
from videos import write_video

from crossmodal import PhotoIndex
from crossmodal.cli import main
from crossmodal.data_sets import data_set as data_set_module
from crossmodal.data_sets import open_data_set
from crossmodal.engine.amending import amend
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.errors import DataError
from crossmodal.http_shapes.documents import records_of
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, TEXT, Amendment, Failure, Record
from crossmodal.server.v1.documents import described_by_id
from crossmodal.settings import Settings
from crossmodal.videos import formats
from crossmodal.videos.colours import is_wide, to_srgb
from crossmodal.videos.moments import video_of
from crossmodal.videos.reading import Video, read_video

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

pytest.importorskip("av", reason="the extra video")


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that begins black and shows four scenes, made in Paris in 2019."""
    return write_video(
        tmp_path_factory.mktemp("videos") / "trip.mp4",
        ["black", "cat", "rocket", "coffee"],
        tags={"creation_time": "2019-07-06T12:00:00Z", "location": "+48.8583+002.2944/"},
    )


@pytest.fixture
def folder(trip: Path, tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy(trip, tmp_path / "photos")
    shutil.copy(TOY_IMAGES / "bricks.jpg", tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PhotoIndex]:
    with PhotoIndex(tmp_path / "index") as index:
        yield index


def moments(index: PhotoIndex) -> dict[float, Record]:
    return {record.metadata["time_seconds"]: record for record in index if "time_seconds" in record.metadata}


def test_a_sentence_finds_the_moment(index: PhotoIndex, folder: Path) -> None:
    summary = index.add(folder)
    assert (summary.added, summary.failures, summary.warnings) == (4, [], [])
    (found,) = index.search_text("a rocket", 1)
    assert (found.tags["time_seconds"], found.file, found.mime_type) == (6.0, "trip.mp4", "video/mp4")
    shown = run_app("search", "a rocket", "-k", "1", "--workspace", folder.parent / "index").stdout
    assert "trip.mp4" in shown
    assert "at 0:06" in shown
    records = moments(index)
    assert sorted(records) == [3.0, 6.0, 9.0]
    video = records[3.0]
    assert (video.photo_id, records[6.0].photo_id, records[6.0].id) == (None, video.id, f"{video.id}-t6000")
    for record in records.values():
        assert record.uri == str(folder / "trip.mp4")
        assert index.thumbnail(record.id)
        known = {
            name: record.metadata[name] for name in ("taken", "year", "format", "moments", "duration_seconds")
        }
        assert known == {
            "taken": "2019-07-06T12:00:00+00:00",
            "year": 2019,
            "format": "MP4",
            "moments": 3,
            "duration_seconds": 12.0,
        }
        assert (record.metadata["latitude"], record.metadata["longitude"]) == (48.8583, 2.2944)
        assert (record.metadata["width"], record.metadata["height"]) == (320, 240)


def test_moments_go_and_come_with_the_file(index: PhotoIndex, folder: Path, tmp_path: Path) -> None:
    index.add(folder)
    before = moments(index)
    assert index.add(folder).unchanged == 2
    (folder / "2019").mkdir()
    (folder / "trip.mp4").rename(folder / "2019" / "trip.mp4")
    summary = index.add(folder)
    assert (summary.added, summary.replaced, summary.moved, summary.deleted) == (0, 0, 3, 0)
    moved = moments(index)
    assert {time: each.id for time, each in moved.items()} == {time: each.id for time, each in before.items()}
    assert {each.uri for each in moved.values()} == {str(folder / "2019" / "trip.mp4")}
    assert {tuple(each.metadata["folder"]) for each in moved.values()} == {("2019",)}
    (folder / "2019" / "trip.mp4").rename(tmp_path / "trip.mp4")
    assert index.add(folder).deleted == 1
    assert moments(index) == {}
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        assert [each.photo for each in store.library.trash()] == [before[3.0].id]
    (tmp_path / "trip.mp4").rename(folder / "trip.mp4")
    index.add(folder)
    assert {time: each.id for time, each in moments(index).items()} == {
        time: each.id for time, each in before.items()
    }
    assert index.delete([before[3.0].id]) == [before[3.0].id]
    assert moments(index) == {}
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        assert store.verify() == []


def test_captions_of_a_moment_are_those_of_the_video_and_go_with_it(
    index: PhotoIndex, folder: Path, tmp_path: Path
) -> None:
    index.add(folder)
    moment = moments(index)[6.0].id
    video = video_of(moment)
    index.close()
    with Engine(Settings(workspace=tmp_path / "index")) as engine:
        assert amend(engine, moment, Amendment(captions=["a launch"]))
        sent = records_of(None, photo=None, mime_type=None, captions=["up"], photo_id=moment, tags={})
        (indexed,) = engine.index(sent)
        assert isinstance(indexed, Indexed)
        assert indexed.outcome == "added"
        found = described_by_id(engine.workspace, moment)
        assert found is not None
        assert sorted(each["text"] for each in found["captions"]) == ["a launch", "up"]
        engine.delete([video], captions=True)
        assert list(engine.workspace.ids(TEXT)) == []


def test_a_change_that_fails_says_so(index: PhotoIndex, folder: Path, tmp_path: Path) -> None:
    index.add(folder / "bricks.jpg")
    (id,) = (record.id for record in index)
    index.close()

    def failing(*arguments: object, **options: object) -> list[Failure]:
        return [Failure("bricks.jpg", "its vector is damaged")]

    with Engine(Settings(workspace=tmp_path / "index")) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "index", failing)
        with pytest.raises(DataError, match="its vector is damaged"):
            amend(engine, id, Amendment(tags={"rating": 4}))


def test_fewer_moments_are_kept_where_fewer_are_asked_for(
    index: PhotoIndex, folder: Path, tmp_path: Path
) -> None:
    index.add(folder)
    index.close()
    for moments_asked, left in ((2, [3.0, 9.0]), (0, [3.0, 9.0])):
        done = run_app(
            *("index", "-d", folder, "--workspace", tmp_path / "index"),
            *("--moments", str(moments_asked), "--verify"),
        )
        assert done.returncode == 0, done.stderr
        with PhotoIndex(tmp_path / "index") as again:
            assert sorted(moments(again)) == left


def test_what_was_broken_off_is_made_whole(index: PhotoIndex, folder: Path) -> None:
    index.add(folder)
    lost = moments(index)[9.0].id
    index.delete([lost])
    assert index.add(folder).added == 1
    assert moments(index)[9.0].id == lost


def test_another_content_takes_the_place_of_all_moments(index: PhotoIndex, folder: Path) -> None:
    index.add(folder)
    index.close()
    with Engine(Settings(workspace=folder.parent / "index")) as engine:
        assert amend(engine, moments(index)[3.0].id, Amendment(tags={"mood": "calm"}))
    write_video(folder / "trip.mp4", ["rocket", "coins"])
    index.add(folder)
    assert {time: each.tags.get("mood") for time, each in moments(index).items()} == {
        0.0: "calm",
        3.0: "calm",
    }
    (found,) = index.search_text("a rocket", 1)
    assert found.tags["time_seconds"] == 0.0


def test_videos_that_share_a_title_are_no_copies(index: PhotoIndex, folder: Path) -> None:
    write_video(folder / "other.mp4", ["black", "cat", "coins", "coffee"])
    toy_photo("cat.jpg").resize((320, 240)).save(folder / "still.png")
    index.add(folder)
    assert index.duplicates() == []
    shutil.copy(folder / "trip.mp4", folder / "again.mp4")
    index.add(folder)
    (group,) = index.duplicates()
    assert [Path(photo.path).name for photo in group.photos] == ["again.mp4", "trip.mp4"]


def test_a_table_reads_a_video_again_only_for_other_tags(
    index: PhotoIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: str, **options: Any) -> Video:
        read.append(path)
        return read_video(path, **options)

    monkeypatch.setattr(data_set_module, "read_video", counted)
    table = folder / "photos.csv"
    for place, times in (("Paris", 1), ("Paris", 1), ("Rome", 2), ("Rome", 2)):
        table.write_text(f"image,caption,place\ntrip.mp4,A trip,{place}\n", encoding="utf-8")
        assert index.add(table).failures == []
        assert len(read) == times
        assert [record.tags["place"] for record in moments(index).values()] == [place] * 3


def test_an_upload_in_the_place_of_a_video_leaves_no_moments(
    index: PhotoIndex, folder: Path, tmp_path: Path
) -> None:
    index.add(folder / "trip.mp4")
    video = moments(index)[3.0].id
    cat = (TOY_IMAGES / "cat.jpg").read_bytes()
    with Engine(Settings(workspace=tmp_path / "index")) as engine:
        (indexed,) = engine.index([Record(video, IMAGE, content=cat, mime_type="image/jpeg")])
        assert not isinstance(indexed, Failure)
        assert indexed.failure is None
    assert [record.id for record in index] == [video]
    index.close()
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        assert store.verify() == []
    with closing(sqlite3.connect(tmp_path / "index" / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE documents SET photo_id = 'gone', mime_type = 'video/mp4'")
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        said = f"{video!r} is a moment of the video 'gone', which is not stored"
        assert said in map(str, store.verify())


def test_live_photos_are_one_photo(index: PhotoIndex, folder: Path) -> None:
    write_video(folder / "bricks.mov", ["cat"], seconds=2.0)
    write_video(folder / "trip.mov", ["coins"], seconds=2.0)
    shutil.copy(TOY_IMAGES / "grass.jpg", folder / "IMG_1.JPG")
    write_video(
        folder / "IMG_1.mov", ["cat"], seconds=6.0, tags={"com.apple.quicktime.content.identifier": "F3A1"}
    )
    shutil.copy(TOY_IMAGES / "coffee.jpg", folder / "IMG_2.JPG")
    write_video(folder / "IMG_2.MOV", ["coins"], seconds=6.0)
    index.add(folder)
    files = {record.metadata["file"] for record in index}
    assert files == {"bricks.jpg", "trip.mp4", "trip.mov", "IMG_1.JPG", "IMG_2.JPG", "IMG_2.MOV"}
    data_set = open_data_set(str(folder), data_root=folder)
    list(data_set)
    assert any("2 videos are parts of Live Photos" in note for note in data_set.notes)


def test_a_video_that_came_before_its_photo_goes_into_it(index: PhotoIndex, folder: Path) -> None:
    write_video(folder / "IMG_1.mov", ["cat"], seconds=2.0)
    index.add(folder)
    assert "IMG_1.mov" in {record.metadata["file"] for record in index}
    shutil.copy(TOY_IMAGES / "grass.jpg", folder / "IMG_1.JPG")
    assert index.add(folder).deleted == 1
    assert {record.metadata["file"] for record in index} == {"bricks.jpg", "trip.mp4", "IMG_1.JPG"}
    # A photo that is left out takes no video with it.
    (folder / ".crossmodalignore").write_text("*.JPG\n", encoding="utf-8")
    index.add(folder)
    assert "IMG_1.mov" in {record.metadata["file"] for record in index}


def test_without_the_extra_videos_are_counted_and_it_is_named(
    index: PhotoIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    write_video(folder / "bricks.mov", ["cat"], seconds=2.0)
    data_set = open_data_set(str(folder), data_root=folder)
    assert index.add(folder).added == 1
    list(data_set)
    (passed, live) = data_set.notes
    assert "passed over 1 video (1 .mp4). Reading videos needs PyAV" in passed
    assert "1 video is part of a Live Photo" in live
    (failure,) = index.add(folder / "trip.mp4").failures
    assert "is a video. Reading videos needs PyAV: pip install" in failure.reason


def test_what_is_no_video_or_damaged_says_so(index: PhotoIndex, folder: Path, trip: Path) -> None:
    (folder / "text.mp4").write_text("no video", encoding="utf-8")
    content = trip.read_bytes()
    (folder / "cut.avi").write_bytes(content[: len(content) // 2])
    cut = write_video(folder / "cut.mkv", ["cat", "rocket", "coffee"] * 3, codec="mpeg4").read_bytes()
    (folder / "cut.mkv").write_bytes(cut[: len(cut) // 2])
    summary = index.add(folder)
    reasons = {Path(failure.source).name: failure.reason for failure in summary.failures}
    assert sorted(reasons) == ["cut.avi", "text.mp4"]
    assert "is no video" in reasons["text.mp4"]
    assert {record.metadata["file"] for record in index if record.modality == IMAGE} == {
        "bricks.jpg",
        "cut.mkv",
        "trip.mp4",
    }


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_video_bytes": 1000}, "the limit for a video is 1,000; allow more with --max-video-bytes"),
        (
            {"max_pixels": 76_799},
            "has 320 x 240 pixels, and the limit is 76,799. Allow more with --max-pixels",
        ),
    ],
)
def test_videos_have_the_bytes_and_pixels_that_options_allow(
    trip: Path, tmp_path: Path, limits: dict[str, int], reason: str
) -> None:
    with PhotoIndex(tmp_path / "index", **limits) as index:
        (failure,) = index.add(trip).failures
    assert reason in failure.reason


def test_so_many_moments_and_two_seconds_apart(tmp_path: Path) -> None:
    write_video(tmp_path / "many.mp4", ["cat", "rocket", "coffee", "coins"] * 4, seconds=1.0)
    times = [moment.seconds for moment in read_video(str(tmp_path / "many.mp4"), most=60).moments]
    assert len(times) >= 4
    assert all(later - earlier >= 2.0 for earlier, later in pairwise(times))
    assert len(read_video(str(tmp_path / "many.mp4"), most=3).moments) == 3


def test_a_telephone_held_upright_films_upright(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "a.mov", ["rocket"], size=(320, 160)).read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    # Turned by a quarter to the right (ISO 14496-12, 8.3.2, in fixed point of 16.16).
    content[at : at + 20] = struct.pack(">5i", 0, 0x10000, 0, -0x10000, 0)
    (tmp_path / "a.mov").write_bytes(content)
    video = read_video(str(tmp_path / "a.mov"), most=1)
    assert (video.width, video.height) == (160, 320)
    shown = Image.open(BytesIO(video.moments[0].jpeg))
    wanted = toy_photo("rocket.jpg").resize((320, 160)).transpose(Image.Transpose.ROTATE_270)
    assert shown.size == wanted.size
    assert np.abs(np.asarray(shown, int) - np.asarray(wanted, int)).mean() < 12


def test_the_formats_stand_where_people_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert formats.videos_table() in (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["index", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Videos are read as MP4, QuickTime, WebM, Matroska, AVI; with the extra video (PyAV)." in shown


def test_colours_of_hdr_become_srgb() -> None:
    # Of BT.2408: paper white, 203 cd/m2, is 58% of a signal of PQ and 75% of HLG; 1,000 cd/m2 is 75% of PQ.
    signals = np.array([[[0] * 3, [94] * 3, [148] * 3, [192] * 3, [255] * 3]], np.uint8)
    black, middle, paper, bright, brightest = to_srgb(signals, 9, 16)[0].astype(int)
    assert np.ptp([black, middle, paper, bright, brightest], axis=1).max() <= 2
    assert black.max() == 0
    assert 90 <= middle[0] <= 150
    assert 220 <= paper[0] < bright[0] <= brightest[0] == 255
    assert 185 <= to_srgb(np.full((1, 1, 3), 191, np.uint8), 9, 18)[0, 0, 1] <= 225
    # A red of BT.709 as BT.2020 has it, by BT.2087 and a pure power of 2.4.
    linear = np.array([0.6274, 0.0691, 0.0164])
    red = (255 * linear ** (1 / 2.4) + 0.5).astype(np.uint8)
    np.testing.assert_allclose(to_srgb(red[None, None], 9, 1)[0, 0], (255, 0, 0), atol=12)
    assert [is_wide(*each) for each in ((9, 16), (9, 1), (1, 18), (1, 1), (5, 6))] == [True] * 3 + [False] * 2
