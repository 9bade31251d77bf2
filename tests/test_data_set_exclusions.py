"""What a walk leaves out, by which rule, and what it says of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

from crossmodal.data_sets import open_data_set
from crossmodal.data_sets.exclusions import DEFAULT_EXCLUSIONS, default_exclusions_table
from crossmodal.data_sets.folder import FolderOfImages, find_images
from crossmodal.data_sets.passed_over import PassedOver
from crossmodal.errors import DataSetError, SettingsError
from crossmodal.records import Failure, Record


def put(root: Path, *paths: str) -> None:
    """Files that no test decodes, each with contents of its own."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"\xff\xd8\xff" + path.encode())


def found(root: Path, *exclude: str) -> list[str]:
    """The photos of a walk, relative to ``root``."""
    walk = list(find_images(root, PassedOver(), exclude))
    assert not [item for item in walk if isinstance(item, Failure)], walk
    return sorted(str(Path(str(path)).relative_to(root)) for path in walk)


def notes(root: Path, *exclude: str) -> list[str]:
    """What is said of a walk, without the folder's name before it."""
    data_set = open_data_set(str(root), data_root=root, exclude=exclude)
    assert [item for item in data_set if isinstance(item, Record)]
    assert all(note.startswith(f"{root}: ") for note in data_set.notes)
    return [note.removeprefix(f"{root}: ") for note in data_set.notes]


def test_a_folder_of_a_nas_gives_its_photos_and_no_thumbnails(tmp_path: Path) -> None:
    put(
        tmp_path,
        *("cat.jpg", "@eaDir/cat.jpg/SYNOPHOTO_THUMB_XL.jpg", "@eaDir/cat.jpg/SYNOPHOTO_THUMB_M.jpg"),
        *("2019/dog.jpg", "2019/@eaDir/dog.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/old.jpg"),
    )
    assert found(tmp_path) == ["2019/dog.jpg", "cat.jpg"]
    data_set = open_data_set(str(tmp_path), data_root=tmp_path)
    items = list(data_set)
    assert [Path(item.uri or "").name for item in items if isinstance(item, Record)] == ["cat.jpg", "dog.jpg"]
    assert len(items) == 2, "nothing failed"
    assert data_set.len_hint() == 2
    assert data_set.walked
    (note,) = data_set.notes
    assert "1 folder \\#recycle/ (Synology: recycle bin)" in note
    assert "2 folders @eaDir/ (Synology: thumbnails and what it knows of files)" in note


@pytest.mark.parametrize("entry", DEFAULT_EXCLUSIONS, ids=lambda entry: entry.pattern)
def test_every_default_leaves_out_its_folder_at_any_depth_and_can_be_brought_back(
    entry: object, tmp_path: Path
) -> None:
    pattern = entry.pattern  # type: ignore[attr-defined]
    folder = pattern.removeprefix("**/").replace("*", "x").rstrip("/")
    put(tmp_path, "seen.jpg", f"{folder}/a.jpg", f"deep/er/{folder}/b.jpg")
    assert found(tmp_path) == ["seen.jpg"]
    brought_back = "\\" + pattern if pattern.startswith("#") else pattern
    (tmp_path / ".crossmodalignore").write_text(f"!{brought_back}\n")
    assert found(tmp_path) == sorted(["seen.jpg", f"{folder}/a.jpg", f"deep/er/{folder}/b.jpg"])


def test_names_that_only_contain_a_rules_name_stay(tmp_path: Path) -> None:
    names = ["my@eaDir/a.jpg", "recycle/b.jpg", "lost and found/c.jpg", "x.lrdata.jpg", "node_modules.jpg"]
    put(tmp_path, *names)
    assert found(tmp_path) == sorted(names)


def test_the_folder_that_is_asked_for_is_read_whatever_its_name_is(tmp_path: Path) -> None:
    put(tmp_path, "Family.photoslibrary/originals/a.jpg", "@eaDir/b.jpg")
    assert found(tmp_path / "Family.photoslibrary") == ["originals/a.jpg"]
    assert found(tmp_path / "@eaDir") == ["b.jpg"]


# Each line is one that gitignore's own documentation or its corner cases speak of.
RULES = """\
# a comment

*.gif
!keep.gif
/top/
docs/private
raw/*
!raw/best/
**/cache/**
a/**/z.jpg
trailing space.jpg\x20\x20
\\#hash.jpg
\\!bang.jpg
q?.jpg
[ab]x.jpg
deep/*/shallow.jpg
only-folders/
star*
!star-but-not.jpg
"""
FILES = [
    *("a.gif", "keep.gif", "sub/b.gif", "sub/keep.gif", "top/a.jpg", "sub/top/a.jpg"),
    *("docs/private/a.jpg", "sub/docs/private/a.jpg", "raw/a.jpg", "raw/best/a.jpg", "raw/worst/a.jpg"),
    *("x/cache/a.jpg", "cache/deep/a.jpg", "a/z.jpg", "a/b/c/z.jpg", "b/z.jpg", "trailing space.jpg"),
    *("#hash.jpg", "!bang.jpg", "q1.jpg", "q12.jpg", "ax.jpg", "cx.jpg", "deep/1/shallow.jpg"),
    *("deep/1/2/shallow.jpg", "only-folders/a.jpg", "sub/only-folders", "stars.jpg", "star-but-not.jpg"),
    *("star-folder/a.jpg", "sub/nested/kept.jpg", "sub/nested/gone.jpg", "sub/nested/deeper/gone.jpg"),
]


def test_an_ignore_file_means_what_git_makes_of_it(tmp_path: Path) -> None:
    """Compared with git itself, nested files included."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    put(tmp_path, *FILES)
    nested = "/gone.jpg\n!q?.jpg\n*.png\n"
    for name in (".crossmodalignore", ".gitignore"):
        (tmp_path / name).write_text(RULES)
        (tmp_path / "sub" / "nested" / name).write_text(nested)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["git", "-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    expected = sorted(path for path in listed if path.endswith((".jpg", ".gif")))
    assert 8 < len(expected) < len(FILES) - 8
    assert found(tmp_path) == expected


def test_exclude_beats_the_files_which_beat_the_defaults(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.png", "sub/c.png", "@eaDir/d.jpg", "raw/e.jpg")
    (tmp_path / ".crossmodalignore").write_text("!@eaDir/\n*.png\n")
    (tmp_path / "sub" / ".crossmodalignore").write_text("!c.png\n")
    assert found(tmp_path) == ["@eaDir/d.jpg", "a.jpg", "raw/e.jpg", "sub/c.png"]
    assert found(tmp_path, "@eaDir", "/sub/c.png", "!b.png") == ["a.jpg", "b.png", "raw/e.jpg"]
    assert found(tmp_path, "#eaDir", "raw/") == ["@eaDir/d.jpg", "a.jpg", "sub/c.png"]


def test_a_part_of_a_folder_has_the_rules_of_the_whole(tmp_path: Path) -> None:
    put(tmp_path, "a/b/c.jpg", "a/b/d.png", "a/raw/e.jpg", "a/b/2019/f.jpg")
    (tmp_path / ".crossmodalignore").write_text("/a/b/2019/\n")
    (tmp_path / "a" / ".crossmodalignore").write_text("raw/\n")
    whole = open_data_set(str(tmp_path), data_root=tmp_path, exclude=["*.png"])
    assert isinstance(whole, FolderOfImages)

    def photos(folder: str) -> list[str]:
        items = whole.below(tmp_path / folder)
        return [Path(item.uri or "").name for item in items if isinstance(item, Record)]

    assert [photos(name) for name in ("a", "a/b", "a/b/2019", "a/raw")] == [["c.jpg"], ["c.jpg"], [], []]


def test_a_run_says_what_each_rule_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.png", "c.png", "one/raw/d.jpg", "two/raw/e.jpg", "out/f.jpg", "g.gif", ".h")
    ignore = tmp_path / ".crossmodalignore"
    ignore.write_text("*.gif\nout/\nnever-there\n")
    assert notes(tmp_path, "*.png", "raw", "nothing.bmp") == [
        "passed over 1 hidden files and folders",
        "--exclude '*.png' left out 2 files",
        f"the rule '*.gif' of {ignore} left out 1 file",
        f"the rule 'out/' of {ignore} left out 1 folder",
        "--exclude 'raw' left out 2 folders",
        "--exclude 'nothing.bmp' left out nothing",
    ]


def test_what_is_no_photo_is_counted_by_kind_in_full(tmp_path: Path) -> None:
    kinds = ["xmp", "json", "AAE", "thm", "mp4", "MOV", "txt", "pdf", "doc", "xls", "csv", "zip", "html"]
    put(tmp_path, "a.jpg", "b.mp4", "README", *(f"file.{kind}" for kind in kinds))
    assert notes(tmp_path) == [
        "4 sidecars are no photos (1 .aae, 1 .json, 1 .thm, 1 .xmp)",
        "passed over 3 videos (2 .mp4, 1 .mov)",
        "passed over 8 files that are not images (1 .csv, 1 .doc, 1 .html, 1 .pdf, 1 .txt, 1 .xls, 1 .zip, "
        "1 without extension)",
    ]


def test_where_everything_is_left_out_the_error_says_by_what(tmp_path: Path) -> None:
    put(tmp_path, "Family.photoslibrary/originals/a.jpg")
    with pytest.raises(DataSetError, match=r"1 folder \*\.photoslibrary/ \(Apple Photos: .* brings such"):
        open_data_set(str(tmp_path), data_root=tmp_path)


@pytest.mark.parametrize("pattern", ["", "  ", "/", "!"])
def test_a_pattern_that_means_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "a.jpg")
    with pytest.raises(SettingsError, match="is no pattern in gitignore's language"):
        open_data_set(str(tmp_path), data_root=tmp_path, exclude=[pattern])


def test_an_ignore_file_that_cannot_be_used_is_told_and_the_walk_goes_on(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.png")
    (tmp_path / ".crossmodalignore").write_bytes(b"!\r\n*.png\r\n" + b"x" * 5000)
    walk = list(find_images(tmp_path, PassedOver()))
    assert [item for item in walk if isinstance(item, str)] == [str(tmp_path / "a.jpg")]
    assert [item for item in walk if isinstance(item, Failure)] == [
        Failure(f"{tmp_path}/.crossmodalignore, line 1", "'!' is no pattern in gitignore's language"),
        Failure(f"{tmp_path}/.crossmodalignore, line 3", "the line has more than 4096 characters"),
    ]


def test_a_folder_that_cannot_be_read_makes_a_walk_incomplete(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "gone/b.jpg")
    data_set = open_data_set(str(tmp_path), data_root=tmp_path)
    items = iter(data_set)
    assert isinstance(next(items), Record)
    assert not data_set.walked, "not before its end"
    shutil.rmtree(tmp_path / "gone")
    (failure,) = items
    assert isinstance(failure, Failure)
    assert not data_set.walked
    assert len(list(data_set)) == 1
    assert data_set.walked


def test_the_documentation_lists_the_defaults() -> None:
    page = (REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8")
    assert default_exclusions_table() in page
