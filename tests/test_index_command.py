"""``-t index`` on real photos: what it counts, skips, replaces, remembers and refuses."""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    REPOSITORY,
    TOY_DATA,
    TOY_IMAGES,
    children_of,
    clean_environment,
    copy_index,
    is_running,
    run_app,
)
from PIL import Image

from crossmodal.errors import OriginalGone
from crossmodal.models import DEFAULT_MODEL
from crossmodal.workspace import Workspace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the toy data that a test may change."""
    return Path(shutil.copytree(TOY_DATA, tmp_path / "data"))


@pytest.fixture
def indexed(toy_workspace: Path, tmp_path: Path) -> Path:
    """A copy of the index of the toy data."""
    return copy_index(toy_workspace, tmp_path / "indexed")


# What is counted is the same with every model, and this one encodes the quickest.
QUICK = ("-m", "vse")


def index(data: Path | str, workspace: Path, *arguments: str, expect: int = 0) -> dict[str, Any]:
    done = run_app("-t", "index", "-d", data, "--workspace", workspace, "--json", *QUICK, *arguments)
    assert done.returncode == expect, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report == json.loads((workspace / "index-report.json").read_text())
    return report


def counted(report: dict[str, Any]) -> dict[str, dict[str, int]]:
    """How many photos and captions there are of each outcome that any of them has."""
    return {
        kind: {outcome: count for outcome, count in report[kind].items() if count}
        for kind in ("photos", "captions")
    }


def photos_in(workspace: Path) -> int:
    with Workspace(workspace) as opened:
        return int(opened.status()["modalities"]["image"]["vectors"]) if opened.exists() else 0


def files(matches: list[dict[str, Any]]) -> list[str]:
    return [Path(match["uri"]).name for match in matches]


def queries(workspace: Path, *arguments: str | Path) -> list[list[dict[str, Any]]]:
    """The matches of each query."""
    done = run_app("-t", "query", "--workspace", workspace, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [result["matches"] for result in json.loads(done.stdout)["results"]]


def test_again_skips_changes_replace_new_ones_are_added_and_originals_stay(
    data: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    photos = len(list(TOY_IMAGES.glob("*.jpg")))
    captions = len((data / "captions.txt").read_text().splitlines()) - 1
    kept = ("--keep", "original")
    assert counted(index(data, workspace, *kept)) == {
        "photos": {"added": photos},
        "captions": {"added": captions},
    }
    assert counted(index(data, workspace, *kept)) == {
        "photos": {"unchanged": photos},
        "captions": {"unchanged": captions},
    }

    # The cat's file now shows a rocket, one caption has another wording, and one photo is new.
    for name, shown in (("cat.jpg", "rocket.jpg"), ("more coins.jpg", "coins.jpg")):
        # Another file of the same picture.
        (data / "images" / name).write_bytes((data / "images" / shown).read_bytes() + b"edited")
    text = (data / "captions.txt").read_text()
    (data / "captions.txt").write_text(text.replace("A lawn seen from straight above.", "A green carpet."))
    # The captions of the cat's file are those of what it shows now: another photo.
    of_cat = text.count("cat.jpg,")
    assert counted(index(data, workspace, *kept)) == {
        "photos": {"added": 1, "replaced": 1, "unchanged": photos - 1},
        "captions": {"added": 1 + of_cat, "unchanged": captions - 1 - of_cat, "deleted": 1},
    }
    held = Workspace(workspace).status()["modalities"]
    assert (held["image"]["documents"], held["image"]["vectors"]) == (photos + 1, photos + 1)
    assert (held["text"]["documents"], held["text"]["vectors"]) == (captions, captions)

    original = (data / "images" / "coffee.jpg").read_bytes()
    shutil.rmtree(data)
    asked = ("--query-text", "a rocket stands on its launch pad", "--query-image", TOY_IMAGES / "grass.jpg")
    found, described = queries(workspace, *asked, "-k", "1000", "--no-group-duplicates")
    assert len(found) == photos + 1
    cosines = {Path(match["uri"]).name: match["cosine"] for match in found}
    # Encoded in batches of other sizes, the same photo gets a vector that differs in its last bits.
    assert cosines["cat.jpg"] == pytest.approx(cosines["rocket.jpg"], abs=1e-6)
    assert cosines["coins.jpg"] == pytest.approx(cosines["more coins.jpg"], abs=1e-6)
    texts = {match["text"] for match in described}
    assert "A green carpet." in texts
    assert "A lawn seen from straight above." not in texts
    coffee = next(match for match in found if match["uri"].endswith("coffee.jpg"))
    with Workspace(workspace) as opened:
        assert opened.content(coffee["id"]) == (original, "image/jpeg")


def test_originals_stay_where_they_are_unless_they_are_asked_for(data: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    index(data, small)
    ((match,),) = queries(small, "--query-text", "a cup of coffee", "-k", "1")
    file = Path(match["uri"])
    original = file.read_bytes()
    with Workspace(small) as opened:
        assert opened.content(match["id"]) == (original, "image/jpeg")
        shown = opened.thumbnail(match["id"])
        assert shown is not None
        assert shown[0].startswith(b"\xff\xd8")
        assert len(shown[0]) < len(original)
        before = opened.status()["modalities"]["image"]["bytes_on_disk"]
        file.rename(tmp_path / "away.jpg")
        with pytest.raises(OriginalGone):
            opened.content(match["id"])
        (tmp_path / "away.jpg").rename(file)
    # Asked for later, the originals are added.
    index(data, small, "--keep", "original")
    photos = len(list(TOY_IMAGES.glob("*.jpg")))
    assert counted(index(data, small, "--keep", "original"))["photos"] == {"unchanged": photos}
    file.unlink()
    with Workspace(small) as opened:
        assert opened.content(match["id"]) == (original, "image/jpeg")
        kept = sum(path.stat().st_size for path in TOY_IMAGES.glob("*.jpg"))
        assert opened.status()["modalities"]["image"]["bytes_on_disk"] == before + kept


def test_num_docs_counts_photos_and_captions_together(tmp_path: Path) -> None:
    report = index("toy-data", tmp_path / "workspace", "-n", "7")
    assert report["photos"]["added"] + report["captions"]["added"] == 7
    assert report["failures"] == []


def test_strict_stops_at_the_first_failure_and_keep_going_does_not(data: Path, tmp_path: Path) -> None:
    for name in ("bricks.jpg", "raccoon.jpg"):
        (data / "images" / name).write_bytes(b"this is not a photo")
    done = run_app("-t", "index", "-d", data, "--workspace", tmp_path / "strict", "--strict", *QUICK)
    assert done.returncode == 1
    assert "bricks.jpg" in done.stderr or "raccoon.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    report = index(data, tmp_path / "going", expect=1)
    assert report["finished"]
    failed = {Path(failure["source"]).name for failure in report["failures"]}
    assert failed == {"bricks.jpg", "raccoon.jpg"}
    assert report["photos"]["failed"] == 2
    assert report["unusable"] == 0
    assert report["photos"]["added"] == len(list(TOY_IMAGES.glob("*.jpg"))) - 2


def test_while_another_process_writes_a_writer_is_told_and_searching_goes_on(indexed: Path) -> None:
    from crossmodal.index.embedded.store import EmbeddedStore

    with EmbeddedStore.open_writer(indexed):
        done = run_app("-t", "index", "-d", "toy-data", "--workspace", indexed)
        (found,) = queries(indexed, "--query-image", TOY_IMAGES / "cat.jpg", "-k", "4")
    assert len(found) == 4
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "process" in done.stderr


def test_ctrl_c_ends_in_order_and_the_next_run_goes_on(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(held, "PNG")
    # A number behind it makes another file of the same picture; of so many no machine comes to the end.
    files = (base64.b64encode(held.getvalue() + number.to_bytes(4, "big")) for number in range(30_000))
    rows = [json.dumps({"image": f"data:image/png;base64,{file.decode()}"}) for file in files]
    photos, workspace = tmp_path / "photos.jsonl", tmp_path / "workspace"
    photos.write_text("\n".join(rows))
    process = subprocess.Popen(
        [sys.executable, "app.py", "index", photos, "--workspace", workspace, "--json", *QUICK],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and photos_in(workspace) == 0:
            time.sleep(0.1)
        pids = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not any(map(is_running, pids))
    first = json.loads(said)
    assert not first["finished"]
    added = first["photos"]["added"]
    assert 0 < added < len(rows)
    # Those that were indexed are the first ones.
    photos.write_text("\n".join(rows[: added + 40]))
    assert counted(index(photos, workspace))["photos"] == {"added": 40, "unchanged": added}


def test_status_tells_what_is_indexed_without_loading_a_model(toy_workspace: Path) -> None:
    script = (
        "import sys, app\n"
        f"code = app.main(['-t', 'status', '--json', '--workspace', {str(toy_workspace)!r}])\n"
        "print(sorted({'torch', 'jina', 'docarray', 'faiss'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    status, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    held = json.loads(status)["modalities"]
    for modality in ("image", "text"):
        assert held[modality]["documents"] == held[modality]["vectors"] > 0
        assert held[modality]["bytes_on_disk"] > 0
        assert held[modality]["last_change"]
    assert {held[modality]["model"] for modality in held} == {DEFAULT_MODEL}


def test_a_new_index_of_the_default_model_says_which_would_do_better(tmp_path: Path, data: Path) -> None:
    def said(*arguments: str) -> bool:
        done = run_app("index", "-d", data, "-n", "1", "--workspace", tmp_path / "new", *arguments)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if "siglip2-b-16" in line]
        assert all("-m siglip2-b-16" in line and "1,501 MB" in line for line in lines)
        assert all("nothing was tried" in line for line in lines)
        return bool(lines)

    assert said("--model-cache", str(tmp_path / "cache"))
    assert not said()
    shutil.rmtree(tmp_path / "new")
    assert not said("-m", DEFAULT_MODEL)


def test_a_table_for_people_goes_to_stdout_and_progress_to_stderr(indexed: Path) -> None:
    done = run_app("-t", "index", "--workspace", indexed)
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    assert "photos" in shown
    assert "captions" in shown
    assert str(len(list(TOY_IMAGES.glob("*.jpg")))) in shown
    assert "\x1b" not in done.stdout
