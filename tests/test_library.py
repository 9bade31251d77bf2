"""After each run the index says what the folder says: what is new, changed, moved, copied and gone."""

from __future__ import annotations

import io
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES, run_here
from photos import encoded, toy_photo
from PIL import Image, ImageOps

from crossmodal import PhotoIndex
from crossmodal.cli import main
from crossmodal.cli.index_run import IndexRun
from crossmodal.data_sets import DataSet, beside, mentions
from crossmodal.data_sets.opening import open_data_set, open_data_sets
from crossmodal.data_sets.photos import Photo, read_photo
from crossmodal.engine.library import LibraryRun
from crossmodal.engine.photo_index import AddSummary
from crossmodal.errors import DataSetError, OriginalGone
from crossmodal.index.embedded.library import TRASH_DAYS
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, TEXT, Failure, Record
from crossmodal.steps.encoding import ImageEncoder

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

NAMES = ("cat", "rocket", "coffee", "bricks", "astronaut")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photos, one of them in a folder of its own."""
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(TOY_IMAGES / f"{name}.jpg", tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "photos" / "bricks.jpg").rename(tmp_path / "photos" / "trip" / "bricks.jpg")
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PhotoIndex]:
    with PhotoIndex(tmp_path / "index") as index:
        yield index


def counts(summary: AddSummary) -> dict[str, int]:
    """What a run did, without what there was none of."""
    fields = ("added", "replaced", "unchanged", "moved", "copied", "restored", "deleted")
    assert summary.failures == []
    return {name: count for name in fields if (count := getattr(summary, name))}


def files(index: PhotoIndex) -> dict[str, list[str]]:
    """The names of the photos' files, each with the texts of its captions."""
    return {
        Path(str(record.uri)).name: [caption.text or "" for caption in index.captions_of(record.id)]
        for record in index
        if record.modality == IMAGE
    }


def photo_named(index: PhotoIndex, name: str) -> Record:
    return next(record for record in index if record.modality == IMAGE and Path(str(record.uri)).name == name)


def best(index: PhotoIndex, sentence: str) -> str:
    return Path(str(index.search_text(sentence, 1)[0].uri)).name


def edited(name: str, degrees: int = 90) -> bytes:
    """A photo as a program saves it that has turned it."""
    return encoded(toy_photo(f"{name}.jpg").rotate(degrees, expand=True), "JPEG", quality=90)


def test_new_moved_renamed_copied_edited_and_deleted_photos_are_told_apart(
    folder: Path, index: PhotoIndex
) -> None:
    assert counts(index.add(folder)) == {"added": 5}
    assert counts(index.add(folder)) == {"unchanged": 5}
    (folder / "cat.jpg").rename(folder / "trip" / "tom.jpg")
    (folder / "rocket.jpg").rename(folder / "saturn.jpg")
    shutil.copy(folder / "astronaut.jpg", folder / "trip" / "copy.jpg")
    (folder / "coffee.jpg").write_bytes(edited("coffee"))
    (folder / "trip" / "bricks.jpg").unlink()
    before = {record.id for record in index}
    assert counts(index.add(folder)) == {
        "moved": 2,
        "copied": 1,
        "replaced": 1,
        "deleted": 1,
        "unchanged": 1,
    }
    assert set(files(index)) == {"tom.jpg", "saturn.jpg", "astronaut.jpg", "coffee.jpg"}
    (copies,) = index.duplicates()
    assert [Path(photo.path).name for photo in copies.photos] == ["astronaut.jpg", "copy.jpg"]
    assert len({photo.id for photo in copies.photos}) == 1
    assert len({record.id for record in index} & before) == 3
    assert best(index, "a rocket on its launch pad") == "saturn.jpg"
    assert counts(index.add(folder)) == {"unchanged": 5}


def test_what_people_said_goes_with_a_photo_that_moves_or_is_edited(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text(
        "image,caption,place\nphotos/cat.jpg,whiskers,home\nphotos/rocket.jpg,on its pad,the Cape\n",
        encoding="utf-8",
    )
    with PhotoIndex(tmp_path / "index") as index:
        index.add(table)
        assert counts(index.add(folder)) == {"added": 3, "unchanged": 2}
        (folder / "cat.jpg").rename(folder / "trip" / "tom.jpg")
        (folder / "rocket.jpg").write_bytes(edited("rocket"))
        assert counts(index.add(folder)) == {"moved": 1, "replaced": 1, "unchanged": 3}
        assert files(index)["tom.jpg"] == ["whiskers"]
        assert files(index)["rocket.jpg"] == ["on its pad"]
        assert photo_named(index, "tom.jpg").tags["place"] == "home"
        assert photo_named(index, "rocket.jpg").tags["place"] == "the Cape"
        # Under the old name of a photo that goes on under a new one, another photo is another photo.
        (folder / "trip" / "tom.jpg").rename(folder / "trip" / "original.jpg")
        (folder / "trip" / "tom.jpg").write_bytes(edited("cat"))
        assert counts(index.add(folder)) == {"moved": 1, "replaced": 1, "unchanged": 4}
        assert (files(index)["original.jpg"], files(index)["tom.jpg"]) == (["whiskers"], [])


def test_captions_are_those_that_the_file_has(folder: Path, index: PhotoIndex) -> None:
    captions = folder / "captions.txt"

    def say(*rows: str) -> dict[str, list[str]]:
        captions.write_text("\n".join(["image,caption", *rows]) + "\n", encoding="utf-8")
        summary = index.add(folder)
        assert summary.failures == []
        return {name: texts for name, texts in files(index).items() if texts}

    (folder / "images").mkdir()
    for name in ("cat", "coffee"):
        (folder / f"{name}.jpg").rename(folder / "images" / f"{name}.jpg")
    assert say("cat.jpg,a tabby cat", "cat.jpg,whiskers and fur", "coffee.jpg,a cup") == {
        "cat.jpg": ["a tabby cat", "whiskers and fur"],
        "coffee.jpg": ["a cup"],
    }
    vectors = {match.id for match in index.search("fur", 3, modality="text")}
    # The first line goes: the others are the same captions as before, and are not written again.
    assert say("cat.jpg,whiskers and fur", "coffee.jpg,a cup") == {
        "cat.jpg": ["whiskers and fur"],
        "coffee.jpg": ["a cup"],
    }
    assert {match.id for match in index.search("fur", 3, modality="text")} < vectors
    assert say("coffee.jpg,a cup", "cat.jpg,whiskers and fur") == {
        "cat.jpg": ["whiskers and fur"],
        "coffee.jpg": ["a cup"],
    }
    assert say("coffee.jpg,a cup", "coffee.jpg,a cup") == {"coffee.jpg": ["a cup", "a cup"]}
    assert say("cat.jpg,two words") == {"cat.jpg": ["two words"]}


class SignalAfterTwo:
    """Ctrl-C when two photos have been taken."""

    def __init__(self) -> None:
        self._asked = 0

    @property
    def stopping(self) -> bool:
        self._asked += 1
        return self._asked > 2


def test_a_part_of_a_folder_takes_nothing_away(folder: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "index"
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(TOY_IMAGES / "coins.jpg", other)
    with PhotoIndex(workspace) as index:
        index.add(folder)
        index.add([Record("mine", IMAGE, content=edited("cat", 180))])
        (folder / "cat.jpg").unlink()
        table = tmp_path / "table.csv"
        table.write_text(
            "image,caption,split\nphotos/rocket.jpg,a rocket,dev\nphotos/coffee.jpg,a cup,test\n", "utf-8"
        )
        listed = io.BytesIO(f"{folder / 'rocket.jpg'}\n".encode())
        assert counts(index.add(table))["added"] == 2
        parts: list[Path | DataSet] = [other, folder / "trip", folder / "rocket.jpg", table]
        parts.append(open_data_set(str(table), data_root=tmp_path, split="dev"))
        parts += open_data_sets(["-"], data_root=tmp_path, stdin=listed)
        for part in parts:
            assert "deleted" not in counts(index.add(part)), part
        signals: Any = SignalAfterTwo()
        run = IndexRun(
            index._engine, [open_data_set(str(folder), data_root=tmp_path)], index._settings, signals
        )
        run.through(quiet=True)
        assert (run.taken, run.report.finished, run.report.photos.deleted) == (2, False, 0)
        assert "cat.jpg" in files(index)
        assert {caption for captions in files(index).values() for caption in captions} == {
            "a rocket",
            "a cup",
        }
    done = run_here("index", folder, "--workspace", workspace, "-n", "2")
    assert done.returncode == 0, done.stderr
    with PhotoIndex(workspace) as index:
        assert "cat.jpg" in files(index)
        assert counts(index.add(folder))["deleted"] == 1
        assert index.get("mine") is not None, "nobody deletes an upload"
        less = open_data_set(str(folder), data_root=tmp_path, exclude=["rocket*", "trip/"])
        assert counts(index.add(less)) == {"unchanged": 2}
        assert {"rocket.jpg", "bricks.jpg"} < set(files(index))


def test_nothing_goes_where_a_folder_could_not_be_read(
    folder: Path, index: PhotoIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(folder)
    (folder / "cat.jpg").unlink()
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if str(path).endswith("trip"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    summary = index.add(folder)
    assert [failure.reason for failure in summary.failures] == [
        "the folder cannot be read: Permission denied"
    ]
    assert (summary.deleted, "cat.jpg" in files(index)) == (0, True)
    monkeypatch.undo()
    assert index.add(folder).deleted == 1


def many_photos(folder: Path, count: int) -> None:
    """Different photos with hardly any content, quick to index."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (40, 40), (number * 5 % 256, number * 11 % 256, 90)).save(
            folder / f"{number:03}.png"
        )


def test_an_unplugged_disk_takes_nothing_away(tmp_path: Path) -> None:
    folder, workspace = tmp_path / "disk", tmp_path / "index"
    many_photos(folder, 52)
    assert run_here("index", folder, "--workspace", workspace).returncode == 0
    # Ten may always go, and a fifth of them.
    for number in range(10):
        (folder / f"{number:03}.png").unlink()
    done = run_here("index", folder, "--workspace", workspace, "--json")
    assert (done.returncode, '"deleted": 10' in done.stdout) == (0, True)
    for number in range(10, 21):
        (folder / f"{number:03}.png").unlink()
    done = run_here("index", folder, "--workspace", workspace)
    assert done.returncode == 1
    assert "warning: 11 of the 42 photos" in done.stderr
    assert "--delete-missing" in done.stderr
    folder.rename(tmp_path / "unplugged")
    for command in ("missing", "empty"):
        done = run_here("index", folder, "--workspace", workspace)
        assert done.returncode == 1, command
        assert "Nothing was deleted: 42 photos of it stay in the index" in done.stderr
        folder.mkdir(exist_ok=True)
    with PhotoIndex(workspace) as index:
        assert len(index) == 42
    done = run_here("index", folder, "--workspace", workspace, "--delete-missing", "--json")
    assert (done.returncode, '"deleted": 42' in done.stdout) == (0, True), done.stderr
    folder.rmdir()
    (tmp_path / "unplugged").rename(folder)
    done = run_here("index", folder, "--workspace", workspace, "--json")
    assert '"restored": 31' in done.stdout, "their vectors were in the trash"


def test_a_library_on_another_mount_point_costs_one_command(folder: Path, tmp_path: Path) -> None:
    workspace, elsewhere = tmp_path / "index", tmp_path / "elsewhere"
    run_here("index", folder, "--workspace", workspace)
    folder.rename(elsewhere)
    done = run_here("roots", "--workspace", workspace)
    assert done.stdout.split() == ["5", str(folder), "(not", "there", "now)"]
    done = run_here("roots", "move", folder, elsewhere, "--workspace", workspace)
    assert (done.returncode, done.stderr) == (0, "")
    with PhotoIndex(workspace) as index:
        photo = photo_named(index, "bricks.jpg")
        assert photo.uri == str(elsewhere / "trip" / "bricks.jpg")
        assert index.photo(photo.id) == (elsewhere / "trip" / "bricks.jpg").read_bytes()
        assert counts(index.add(elsewhere)) == {"unchanged": 5}
    done = run_here("roots", "move", folder, elsewhere, "--workspace", workspace)
    assert done.returncode == 1
    assert f"{folder} is no root of this index; its roots are: {elsewhere}." in done.stderr
    done = run_here("roots", "remove", elsewhere, "--workspace", workspace)
    assert "5 photos went to the trash" in done.stdout
    with PhotoIndex(workspace) as index:
        assert len(index) == 0


def test_roots_inside_each_other_are_one(folder: Path, index: PhotoIndex, tmp_path: Path) -> None:
    assert counts(index.add(folder / "trip")) == {"added": 1}
    # The folder around it is another one in the larger root.
    assert counts(index.add(folder)) == {"added": 4, "replaced": 1}
    assert index.search_text("a wall", 1, filter={"folder": "trip"})[0].file == "bricks.jpg"
    (folder / "trip" / "bricks.jpg").unlink()
    assert counts(index.add(tmp_path / "photos")) == {"deleted": 1, "unchanged": 4}
    second = tmp_path / "second mount"
    second.symlink_to(folder)
    assert counts(index.add(second)) == {"copied": 4}
    assert len(index) == 4
    second.unlink()
    assert counts(index.add(folder)) == {"unchanged": 4}


def test_the_trash_keeps_what_the_disk_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "index"
    with PhotoIndex(workspace) as index:
        index.add(folder)
        cat = photo_named(index, "cat.jpg")
        (folder / "cat.jpg").unlink()
        (folder / "coffee.jpg").unlink()
        index.add(folder)
        assert "cat.jpg" not in {Path(str(match.uri)).name for match in index.search_text("a cat", 5)}
    listed = run_here("trash", "--workspace", workspace).stdout.splitlines()
    assert {line.split()[-1] for line in listed} == {str(folder / "cat.jpg"), str(folder / "coffee.jpg")}
    assert cat.id in {line.split()[0] for line in listed}
    assert "1 photo back" in run_here("trash", "restore", cat.id, "--workspace", workspace).stdout
    with PhotoIndex(workspace) as index:
        assert index.search_text("a cat", 1)[0].id == cat.id
        assert index.thumbnail(cat.id) is not None
        assert "deleted" not in counts(index.add(folder)), "what was restored stays"
        # A month later the other one is gone for good.
        later = time.time() + (TRASH_DAYS + 1) * 86_400
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: later)
            (folder / "new.jpg").write_bytes(edited("rocket"))
            index.add(folder)
    assert "The trash is empty." in run_here("trash", "--workspace", workspace).stdout


def test_a_photo_under_another_name_waits_for_the_next_whole_run(folder: Path, tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        index.add(folder)
        cat = photo_named(index, "cat.jpg").id
        index.add([Record("said", TEXT, text="our Tom", photo_id=cat)])
        (folder / "cat.jpg").rename(folder / "zzz.jpg")
        (folder / "cat.jpg").write_bytes(edited("coffee"))
        # Of the whole folder nothing is known after this one photo.
        assert counts(index.add(folder / "cat.jpg")) == {"replaced": 1}
        assert index.get(cat) is not None
        assert counts(index.add(folder)) == {"moved": 1, "unchanged": 5}
        assert [caption.text for caption in index.captions_of(cat)] == ["our Tom"]
        # Overwritten for good, it is in the trash, from where its content comes back.
        content = (folder / "zzz.jpg").read_bytes()
        (folder / "zzz.jpg").write_bytes(edited("rocket"))
        index.add(folder)
        assert index.get(cat) is None
        (folder / "found again.jpg").write_bytes(content)
        assert counts(index.add(folder)) == {"restored": 1, "unchanged": 6}
        assert [caption.text for caption in index.captions_of(cat)] == ["our Tom"]


def test_what_comes_back_lies_where_its_file_is(folder: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "index"
    with PhotoIndex(workspace) as index:
        index.add(folder)
        content = (folder / "cat.jpg").read_bytes()
        (folder / "cat.jpg").unlink()
        index.add(folder)
        (folder / "cat.jpg").write_bytes(content)
        index.add(folder)
    folder.rename(tmp_path / "elsewhere")
    run_here("roots", "move", folder, tmp_path / "elsewhere", "--workspace", workspace)
    with PhotoIndex(workspace) as index:
        assert photo_named(index, "cat.jpg").uri == str(tmp_path / "elsewhere" / "cat.jpg")


def test_a_folder_can_be_moved_out_of_one_that_took_it_in(
    folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workspace, table = tmp_path / "index", tmp_path / "photos.csv"
    shutil.copy(TOY_IMAGES / "coins.jpg", tmp_path / "apart.jpg")
    table.write_text("image,caption\napart.jpg,some coins\nphotos/cat.jpg,a cat\n", encoding="utf-8")
    run_here("index", folder, table, "--workspace", workspace)
    disk = tmp_path_factory.mktemp("disk") / "photos"
    folder.rename(disk)
    done = run_here("roots", "move", folder, disk, "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    with EmbeddedStore.open_reader(workspace) as store:
        roots = {root.path: root.files for root in store.library.roots()}
    assert roots == {str(tmp_path): 1, str(disk): 5}


def test_a_clients_photo_under_the_id_of_a_file_stays_the_clients(folder: Path, index: PhotoIndex) -> None:
    index.add(folder)
    cat = photo_named(index, "cat.jpg").id
    uploaded = edited("rocket", 180)
    index.add([Record(cat, IMAGE, content=uploaded)])
    assert index.photo(cat) == uploaded
    summary = index.add(folder)
    assert (summary.added, summary.failures) == (1, [])
    assert index.photo(cat) == uploaded
    assert index.photo(photo_named(index, "cat.jpg").id) == (folder / "cat.jpg").read_bytes()
    assert counts(index.add(folder)) == {"unchanged": 5}


def test_a_photo_that_moves_between_two_roots_has_moved(folder: Path, tmp_path: Path) -> None:
    other, workspace = tmp_path / "other", tmp_path / "index"
    many_photos(other, 12)
    run_here("index", folder, other, "--workspace", workspace)
    for number in range(12):
        (other / f"{number:03}.png").rename(folder / f"{number:03}.png")
    (other / "new.jpg").write_bytes(edited("cat"))
    for folders in ((other, folder), (folder, other)):
        done = run_here("index", *folders, "--workspace", workspace, "--json")
        assert (done.returncode, done.stderr) == (0, "")
    with PhotoIndex(workspace) as index:
        places = {Path(str(record.uri)).parent for record in index}
        assert places == {folder, folder / "trip", other}
        assert len(index) == 5 + 12 + 1


def test_a_name_that_is_no_utf8_is_a_failure_each_time(folder: Path, index: PhotoIndex) -> None:
    shutil.copy(folder / "cat.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")
    for _ in range(3):
        summary = index.add(folder)
        assert [failure.reason.rpartition(": ")[2] for failure in summary.failures] == ["rename it"]
    assert (summary.unchanged, summary.deleted) == (5, 0)


def test_what_a_data_set_said_follows_its_folder(folder: Path, tmp_path: Path) -> None:
    workspace, elsewhere = tmp_path / "index", tmp_path / "elsewhere"
    (folder / "images").mkdir()
    (folder / "cat.jpg").rename(folder / "images" / "cat.jpg")
    (folder / "captions.txt").write_text("image,caption\ncat.jpg,whiskers\ncat.jpg,fur\n", encoding="utf-8")
    run_here("index", folder, "--workspace", workspace)
    folder.rename(elsewhere)
    run_here("roots", "move", folder, elsewhere, "--workspace", workspace)
    (elsewhere / "captions.txt").write_text("image,caption\ncat.jpg,fur\n", encoding="utf-8")
    with PhotoIndex(workspace) as index:
        assert counts(index.add(elsewhere))["deleted"] == 1
        assert files(index)["cat.jpg"] == ["fur"]
        assert index._workspace.require().verify() == []


def test_an_upload_of_a_photo_of_the_library_takes_nothing_from_it(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text("image,place\nphotos/trip/bricks.jpg,home\n", encoding="utf-8")
    with PhotoIndex(tmp_path / "index") as index:
        index.add(folder)
        index.add(table)
        bricks = photo_named(index, "bricks.jpg")
        content = (folder / "trip" / "bricks.jpg").read_bytes()
        index.add([Record(bricks.id, IMAGE, content=content, tags={"rated": 5})])
        tags = photo_named(index, "bricks.jpg").all_tags
        assert tags.items() >= {"place": "home", "rated": 5, "folder": bricks.metadata["folder"]}.items()
        (folder / "trip" / "bricks.jpg").unlink()
        assert "deleted" not in counts(index.add(folder)), "an upload stays"
        assert index.photo(bricks.id) == content


def test_verify_reads_what_looks_unchanged(folder: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "index"
    run_here("index", folder, "--workspace", workspace)
    path = folder / "cat.jpg"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-2:-2] = b""
    content[-3] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert '"replaced": 0' in run_here("index", folder, "--workspace", workspace, "--json").stdout
    assert '"replaced": 1' in run_here("index", folder, "--workspace", workspace, "--verify", "--json").stdout


def test_originals_stay_where_they_are_and_come_only_as_they_were(folder: Path, tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        index.add(folder)
        cat = photo_named(index, "cat.jpg")
        path, secret = folder / "cat.jpg", tmp_path / "secret.jpg"
        content = path.read_bytes()
        assert index.photo(cat.id) == content
        with EmbeddedStore.open_reader(tmp_path / "index") as store:
            assert store.content(cat.id) is None, "it is not copied"
        secret.write_bytes(content)

        def refused() -> bool:
            with pytest.raises(OriginalGone, match=f"The file of the photo '{cat.id}' is not there any more"):
                index.photo(cat.id)
            return True

        # Each would hand out something else than what was indexed, or something from outside of the root.
        path.write_bytes(edited("cat"))
        assert refused()
        path.unlink()
        assert refused()
        path.symlink_to(secret)
        assert refused(), "the same bytes, outside of the root"
        path.unlink()
        path.symlink_to("/etc/passwd")
        assert refused()
        path.unlink()
        os.mkfifo(path)
        assert refused()
        path.unlink()
        path.symlink_to("/dev/zero")
        assert refused()
        path.unlink()
        path.mkdir()
        assert refused()
        path.rmdir()
        (folder / "trip").rename(tmp_path / "moved-away")
        (folder / "trip").symlink_to(tmp_path / "moved-away")
        with pytest.raises(OriginalGone):
            index.photo(photo_named(index, "bricks.jpg").id)
        # A link inside of the root is as good as the file.
        (folder / "kept.jpg").write_bytes(content)
        path.symlink_to(folder / "kept.jpg")
        assert index.photo(cat.id) == content


def test_originals_are_copied_where_that_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        index.add(folder)
    with PhotoIndex(tmp_path / "index", keep="original") as index:
        with monkeypatch.context() as patch:
            patch.setattr(ImageEncoder, "index", lambda *_: pytest.fail("it was encoded again"))
            assert counts(index.add(folder)) == {"unchanged": 5}
            assert counts(index.add(folder)) == {"unchanged": 5}
        cat = photo_named(index, "cat.jpg")
        content = (folder / "cat.jpg").read_bytes()
        (folder / "cat.jpg").unlink()
        assert index.photo(cat.id) == content
        assert index.thumbnail(cat.id) is not None
        assert best(index, "a cat") == "cat.jpg"
        assert index._workspace.require().verify() == []


def test_files_that_are_numbered_anew_are_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount_again() -> None:
        """The same files with the same times, and other inodes."""
        shutil.copytree(folder, tmp_path / "again")
        shutil.rmtree(folder)
        (tmp_path / "again").rename(folder)

    read: list[str] = []

    def noted(photo: str, **limits: int) -> Photo:
        read.append(photo)
        return read_photo(photo, **limits)

    monkeypatch.setattr(mentions, "read_photo", noted)
    assert beside.file_system_of(Path("/proc").stat().st_dev) == "proc"
    for name, again in (("ext4", 5), ("fuse.sshfs", 0)):
        monkeypatch.setattr(beside, "file_system_of", lambda _, name=name: name)
        beside._is_numbered_anew.cache_clear()
        with PhotoIndex(tmp_path / name) as index:
            index.add(folder)
            read.clear()
            mount_again()
            assert counts(index.add(folder)) == {"unchanged": 5}
            assert len(read) == again, name
            (folder / "cat.jpg").write_bytes(edited("cat"))
            assert counts(index.add(folder)) == {"unchanged": 4, "replaced": 1}
            shutil.copy(TOY_IMAGES / "cat.jpg", folder / "cat.jpg")
    beside._is_numbered_anew.cache_clear()


def test_a_photo_that_was_restored_goes_with_its_file_again(folder: Path, tmp_path: Path) -> None:
    content = (folder / "cat.jpg").read_bytes()
    with PhotoIndex(tmp_path / "index") as index:
        index.add(folder)
        cat = photo_named(index, "cat.jpg").id
        index.add([Record("said", TEXT, text="our Tom", photo_id=cat)])
        (folder / "cat.jpg").unlink()
        index.add(folder)
    with EmbeddedStore.open_writer(tmp_path / "index") as store:
        assert store.library.restore([cat]) == [cat]
    with PhotoIndex(tmp_path / "index") as index:
        assert counts(index.add(folder)) == {"unchanged": 4}
        assert index.get(cat) is not None
        assert [caption.text for caption in index.captions_of(cat)] == ["our Tom"]
        (folder / "cat.jpg").write_bytes(content)
        assert counts(index.add(folder)) == {"unchanged": 4, "restored": 1}
        (folder / "cat.jpg").unlink()
        assert counts(index.add(folder)) == {"unchanged": 4, "deleted": 1}
        assert index.get(cat) is None
    assert main(["trash", "empty", "--workspace", str(tmp_path / "index")]) == 0
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        assert store.library.trash() == []
        assert store.verify() == []


def test_a_photo_that_cannot_be_read_keeps_no_captions_of_others(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"

    def say(*rows: str) -> None:
        table.write_text("\n".join(("image,caption", *rows)) + "\n", encoding="utf-8")

    with PhotoIndex(tmp_path / "index") as index:
        say("photos/cat.jpg,whiskers", "photos/rocket.jpg,on its pad", "photos/coffee.jpg,a cup")
        index.add(table)
        say("photos/cat.jpg,whiskers", "photos/coffee.jpg,a cup")
        (folder / "coffee.jpg").write_bytes(b"")
        summary = index.add(table)
        assert (len(summary.failures), summary.deleted) == (1, 1)
        assert files(index) == {"cat.jpg": ["whiskers"], "rocket.jpg": [], "coffee.jpg": ["a cup"]}
        # Of a row that cannot be read nobody knows which photo it named.
        say("photos/coffee.jpg,a cup", "https://example.org/cat.jpg,whiskers")
        summary = index.add(table)
        assert (len(summary.failures), summary.deleted) == (2, 0)
        assert files(index)["cat.jpg"] == ["whiskers"]


def test_a_caption_stays_as_long_as_one_of_its_files_gives_it(folder: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"

    def say(table: Path, *captions: str) -> None:
        rows = [f"photos/cat.jpg,{caption}" for caption in captions]
        table.write_text("\n".join(("image,caption", *rows)) + "\n", encoding="utf-8")

    with PhotoIndex(tmp_path / "index") as index:
        say(one, "whiskers", "fur")
        say(other, "whiskers", "a tail")
        assert counts(index.add(one)) == {"added": 3}
        assert counts(index.add(other)) == {"unchanged": 2, "added": 1}
        assert counts(index.add(other)) == {"unchanged": 3}
        say(one, "fur")
        assert counts(index.add(one)) == {"unchanged": 2}
        assert sorted(files(index)["cat.jpg"]) == ["a tail", "fur", "whiskers"]
        say(other, "a tail")
        assert counts(index.add(other)) == {"unchanged": 2, "deleted": 1}
        assert sorted(files(index)["cat.jpg"]) == ["a tail", "fur"]
        assert index._workspace.require().verify() == []


def test_a_link_goes_with_the_file_that_it_leads_to(folder: Path, index: PhotoIndex, tmp_path: Path) -> None:
    apart, disk = tmp_path / "apart", tmp_path / "disk"
    for place, name in ((apart, "coins"), (disk, "raccoon")):
        place.mkdir()
        shutil.copy(TOY_IMAGES / f"{name}.jpg", place)
        shutil.copy(TOY_IMAGES / f"{name}.jpg", place / "another.jpg")
        (folder / f"{name}.jpg").symlink_to(place / f"{name}.jpg")
    assert counts(index.add(folder)) == {"added": 7}
    (apart / "coins.jpg").unlink()
    # An unplugged disk leaves an empty folder.
    shutil.rmtree(disk)
    disk.mkdir()
    assert counts(index.add(folder)) == {"unchanged": 5, "deleted": 1}
    assert "raccoon.jpg" in files(index)
    walked = open_data_set(str(folder), data_root=tmp_path)
    assert [item for item in walked if isinstance(item, Failure)] == []
    assert walked.notes == [f"{folder}: passed over 2 links to files that are not there"]


def test_a_full_check_looks_at_files_and_trash(folder: Path, tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        index.add(folder)
        cat = photo_named(index, "cat.jpg").id
        bricks = photo_named(index, "bricks.jpg").id
        (folder / "cat.jpg").unlink()
        index.add(folder)
        assert index._workspace.require().verify() == []
    with closing(sqlite3.connect(tmp_path / "index" / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE trashed SET thumbnail = x'00'")
        connection.execute("UPDATE files SET photo = 'nobody' WHERE photo = ?", (bricks,))
        connection.execute("UPDATE files SET root = 77 WHERE path = 'rocket.jpg'")
    with EmbeddedStore.open_reader(tmp_path / "index") as store:
        assert store.verify() == [
            "the file 'trip/bricks.jpg' is that of the photo 'nobody', which is not stored",
            "the file 'rocket.jpg' lies below the root 77, which is not stored",
            f"the photo {cat!r} in the trash does not match its checksum and cannot come back",
        ]


SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>summer</rdf:li></rdf:Bag>
</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_a_year_of_changes(tmp_path: Path) -> None:
    """Random changes in two roots, month by month: after each run the index is what is on disk.

    One photo moves each month, with its sidecar, and what people said of it goes with it.
    """
    library, disk, chance = tmp_path / "library", tmp_path / "disk", random.Random(7)
    folders = [library / "2019", library / "2020" / "summer", disk / "phone"]
    base = sorted(TOY_IMAGES.iterdir())
    made = 0

    def new_photo() -> bytes:
        nonlocal made
        made += 1
        photo = ImageOps.fit(toy_photo(base[made % len(base)].name), (64, 64))
        return encoded(photo.rotate(made * 7 % 360), "PNG")

    def on_disk() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for root in (library, disk)
            for path in root.rglob("*.png")
            if path.is_file() and "#recycle" not in path.parts
        }

    for folder in folders:
        folder.mkdir(parents=True)
        for number in range(4):
            (folder / f"{number}.png").write_bytes(new_photo())
    favourite, content = folders[0] / "favourite.png", new_photo()
    favourite.write_bytes(content)
    favourite.with_suffix(".xmp").write_text(SIDECAR, encoding="utf-8")
    with PhotoIndex(tmp_path / "index") as index:
        index.add(library)
        index.add([Record("said", TEXT, text="our best", photo_id=photo_named(index, "favourite.png").id)])
        for month in range(8):
            for path in chance.sample([Path(path) for path, held in on_disk().items() if held != content], 4):
                change = chance.choice(("delete", "edit", "move", "rename", "copy", "link", "recycle"))
                if change == "delete":
                    path.unlink()
                elif change == "edit":
                    path.write_bytes(new_photo())
                elif change in ("move", "rename"):
                    target = chance.choice(folders) if change == "move" else path.parent
                    path.rename(target / f"{month}-{path.name}")
                elif change == "copy":
                    shutil.copy(path, path.with_name(f"copy-{month}-{path.name}"))
                elif change == "link":
                    path.with_name(f"link-{month}-{path.name}").symlink_to(path)
                else:
                    (path.parent / "#recycle").mkdir(exist_ok=True)
                    path.rename(path.parent / "#recycle" / f"{month}-{path.name}")
            (folders[0] / f"new-{month}.png").write_bytes(new_photo())
            moved = chance.choice(folders) / f"favourite-{month}.png"
            favourite.with_suffix(".xmp").rename(moved.with_suffix(".xmp"))
            favourite = favourite.rename(moved)
            if month == 3:
                # A run that is stopped takes nothing away; the next one goes on from there.
                before = {record.id for record in index}
                part = LibraryRun(index._engine, open_data_set(str(library), data_root=tmp_path))
                with closing(part.index(size=2)) as items:
                    next(items)
                assert before <= {record.id for record in index}
            if month == 6:
                disk.rename(tmp_path / "unplugged")
                disk.mkdir()
                before = {record.id for record in index}
                with pytest.raises(DataSetError):
                    index.add(disk)
                assert before == {record.id for record in index}
                disk.rmdir()
                (tmp_path / "unplugged").rename(disk)
            for root in (library, disk):
                summary = index.add(root)
                assert (summary.failures, summary.kept) == ([], None), month
            held = on_disk()
            photos = {record.id: record for record in index if record.modality == IMAGE}
            assert {index.photo(id) for id in photos} == set(held.values()), month
            assert len(photos) == len(set(held.values())), month
            for id, record in photos.items():
                assert held[str(record.uri)] == index.photo(id)
            best_one = next(record for id, record in photos.items() if index.photo(id) == content)
            assert best_one.uri == str(favourite)
            assert best_one.metadata["keywords"] == ["summer"], month
            assert best_one.metadata["folder"][-1] == str(
                favourite.parent.relative_to(library if favourite.is_relative_to(library) else disk)
            ), month
            assert [caption.text for caption in index.captions_of(best_one.id)] == ["our best"], month
            for root in (library, disk):
                there = sum(Path(path).is_relative_to(root) for path in held)
                assert counts(index.add(root)) == {"unchanged": there}, month
            assert index._workspace.require().verify() == [], month
    with pytest.raises(DataSetError):
        index.add(tmp_path / "nowhere")
