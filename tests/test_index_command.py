"""``-t index`` on real photos: what it counts, skips, replaces, remembers and refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, TOY_DATA, TOY_IMAGES, children_of, clean_environment, is_running, run_app

from crossmodal.models import DEFAULT_MODEL
from crossmodal.workspace import Workspace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the toy data that a test may change."""
    return Path(shutil.copytree(TOY_DATA, tmp_path / "data"))


def index(data: Path | str, workspace: Path, *arguments: str, expect: int = 0) -> dict[str, Any]:
    done = run_app("-t", "index", "-d", data, "--workspace", workspace, "--json", *arguments)
    assert done.returncode == expect, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report == json.loads((workspace / "index-report.json").read_text())
    return report


def counted(report: dict[str, Any]) -> dict[str, list[int]]:
    return {kind: list(report[kind].values()) for kind in ("photos", "captions")}


def photos_in(workspace: Path) -> int:
    with Workspace(workspace) as opened:
        return int(opened.status()["modalities"]["image"]["vectors"]) if opened.exists() else 0


def files(matches: list[dict[str, Any]]) -> list[str]:
    return [Path(match["uri"]).name for match in matches]


def query(workspace: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    done = run_app("-t", "query", "--workspace", workspace, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    matches: list[dict[str, Any]] = json.loads(done.stdout)["results"][0]["matches"]
    return matches


def test_again_skips_changes_replace_and_new_ones_are_added(data: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    photos = len(list(TOY_IMAGES.glob("*.jpg")))
    captions = len((data / "captions.txt").read_text().splitlines()) - 1
    # The columns are added, replaced, unchanged, failed.
    assert counted(index(data, workspace)) == {"photos": [photos, 0, 0, 0], "captions": [captions, 0, 0, 0]}
    assert counted(index(data, workspace)) == {"photos": [0, 0, photos, 0], "captions": [0, 0, captions, 0]}

    # The cat's file now shows a rocket, one caption has another wording, and one photo is new.
    shutil.copy(data / "images" / "rocket.jpg", data / "images" / "cat.jpg")
    shutil.copy(data / "images" / "coins.jpg", data / "images" / "more coins.jpg")
    text = (data / "captions.txt").read_text()
    (data / "captions.txt").write_text(text.replace("A lawn seen from straight above.", "A green carpet."))
    again = counted(index(data, workspace))
    assert again == {"photos": [1, 1, photos - 1, 0], "captions": [0, 1, captions - 1, 0]}
    held = Workspace(workspace).status()["modalities"]
    assert (held["image"]["documents"], held["image"]["vectors"]) == (photos + 1, photos + 1)
    assert (held["text"]["documents"], held["text"]["vectors"]) == (captions, captions)

    found = query(workspace, "--query-text", "a rocket stands on its launch pad", "-k", "1000")
    assert len(found) == photos + 1
    scores = {Path(match["uri"]).name: match["score"] for match in found}
    # Encoded in batches of other sizes, the same photo gets a vector that differs in its last bits.
    assert scores["cat.jpg"] == pytest.approx(scores["rocket.jpg"], abs=1e-6)
    assert scores["coins.jpg"] == pytest.approx(scores["more coins.jpg"], abs=1e-6)
    texts = {
        match["text"] for match in query(workspace, "--query-image", TOY_IMAGES / "grass.jpg", "-k", "1000")
    }
    assert "A green carpet." in texts
    assert "A lawn seen from straight above." not in texts


def test_originals_can_be_shown_after_the_files_have_gone(data: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    index(data, workspace)
    original = (data / "images" / "coffee.jpg").read_bytes()
    shutil.rmtree(data)
    best = query(workspace, "--query-text", "a cup of coffee on a wooden table", "-k", "15")
    coffee = next(match for match in best if match["uri"].endswith("coffee.jpg"))
    assert Workspace(workspace).content(coffee["id"]) == (original, "image/jpeg")


def test_keep_uri_stores_a_thumbnail_instead_of_the_original(data: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    index(data, small, "--keep", "uri")
    index(data, large)
    match = query(small, "--query-text", "a cup of coffee", "-k", "1")[0]
    assert Workspace(small).content(match["id"]) is None
    shown = Workspace(small).thumbnail(match["id"])
    assert shown is not None
    assert shown[0].startswith(b"\xff\xd8")
    assert len(shown[0]) < Path(match["uri"]).stat().st_size
    assert query(large, "--query-text", "a cup of coffee", "-k", "1")[0]["id"] == match["id"]
    # Asked for later, the originals are added.
    index(data, small)
    assert Workspace(small).content(match["id"]) == (Path(match["uri"]).read_bytes(), "image/jpeg")
    assert counted(index(data, small))["photos"] == [0, 0, len(list(TOY_IMAGES.glob("*.jpg"))), 0]


def test_num_docs_counts_photos_and_captions_together(tmp_path: Path) -> None:
    report = index("toy-data", tmp_path / "workspace", "-n", "7")
    assert report["photos"]["added"] + report["captions"]["added"] == 7
    assert report["failures"] == []


def test_strict_stops_at_the_first_failure_and_keep_going_does_not(data: Path, tmp_path: Path) -> None:
    for name in ("bricks.jpg", "raccoon.jpg"):
        (data / "images" / name).write_bytes(b"this is not a photo")
    done = run_app("-t", "index", "-d", data, "--workspace", tmp_path / "strict", "--strict")
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


def test_a_second_writer_is_told_who_is_writing(data: Path, tmp_path: Path) -> None:
    from crossmodal.stores import Store

    workspace = tmp_path / "workspace"
    index(data, workspace)
    with Store.open_writer(Workspace(workspace).store_path("text_indexer")):
        done = run_app("-t", "index", "-d", data, "--workspace", workspace)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "process" in done.stderr


def test_searching_goes_on_while_another_process_writes(data: Path, tmp_path: Path) -> None:
    from crossmodal.stores import Store

    workspace = tmp_path / "workspace"
    index(data, workspace)
    with Store.open_writer(Workspace(workspace).store_path("text_indexer")):
        assert len(query(workspace, "--query-image", TOY_IMAGES / "cat.jpg", "-k", "4")) == 4


def test_ctrl_c_ends_in_order_and_the_next_run_goes_on(tmp_path: Path) -> None:
    photos = tmp_path / "many"
    photos.mkdir()
    for number in range(60):
        for path in TOY_IMAGES.glob("*.jpg"):
            # A trailing byte makes another file of the same picture.
            (photos / f"{number}-{path.name}").write_bytes(path.read_bytes() + bytes([number]))
    workspace = tmp_path / "workspace"
    total = len(list(photos.iterdir()))
    process = subprocess.Popen(
        [sys.executable, "app.py", "-t", "index", "-d", photos, "--workspace", workspace, "--json"],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and photos_in(workspace) == 0:
        time.sleep(0.1)
    pids = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not any(map(is_running, pids))
    first = json.loads(said)
    assert not first["finished"]
    assert 0 < first["photos"]["added"] < total
    second = index(photos, workspace)
    assert second["photos"]["unchanged"] == first["photos"]["added"]
    assert second["photos"]["added"] == total - first["photos"]["added"]


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


def test_a_table_for_people_goes_to_stdout_and_progress_to_stderr(tmp_path: Path) -> None:
    done = run_app("-t", "index", "--workspace", tmp_path / "workspace")
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    assert "photos" in shown
    assert "captions" in shown
    assert str(len(list(TOY_IMAGES.glob("*.jpg")))) in shown
    assert "\x1b" not in done.stdout
