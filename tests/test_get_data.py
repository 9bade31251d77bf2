"""get_data.sh against a server on this machine: what it fetches, refuses, continues and leaves behind."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from crossmodal.data_sets import open_data_set
from crossmodal.records import IMAGE, TEXT, Record

ROOT = Path(__file__).resolve().parents[1]
TOY_IMAGES = ROOT / "data" / "toy-data" / "images"
PHOTOS = ["cat.jpg", "coffee.jpg", "rocket.jpg"]
STALL_SECONDS = 60


class Mirror(ThreadingHTTPServer):
    """Serves ``files`` with byte ranges, and can be told to misbehave for a file.

    ``cut`` closes the connection after so many bytes of each answer, as often as ``cuts`` says;
    ``stall`` keeps the connection open after them; ``status`` answers with an error.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        self.stall: set[str] = set()
        self.status: dict[str, int] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.stalled = threading.Event()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges_of(self, path: str) -> list[str | None]:
        return [asked for name, asked, _ in self.requests if name == path]


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name, asked = self.path, self.headers["Range"]
        self.server.requests.append((name, asked, self.headers["Authorization"]))
        if name in self.server.status or name not in self.server.files:
            self.send_error(self.server.status.get(name, 404))
            return
        content = self.server.files[name]
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        body = content[start:]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts.get(name, 0) > 0:
            self.server.cuts[name] -= 1
            self.wfile.write(body[: self.server.cut[name]])
        elif name in self.server.stall:
            self.wfile.write(body[: self.server.cut[name]])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.released.wait(STALL_SECONDS)
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps the test's output free of one line for each request."""


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environment(tmp_path: Path, mirror: Mirror) -> dict[str, str]:
    """The script's environment: a folder to fill, the mirror, no account, and no waiting between attempts."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sleep").write_text("#!/bin/sh\n")
    (tools / "sleep").chmod(0o755)
    return {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "CROSSMODAL_DATA_ROOT": str(tmp_path / "data"),
        "CROSSMODAL_MIRROR": mirror.url,
        "CROSSMODAL_PARTIAL": "1",
    }


def zipped(members: dict[str, bytes]) -> bytes:
    blob = BytesIO()
    with zipfile.ZipFile(blob, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return blob.getvalue()


def photo(name: str) -> bytes:
    return (TOY_IMAGES / name).read_bytes()


@pytest.fixture
def f8k(mirror: Mirror) -> Mirror:
    tokens = "".join(f"{name}#{n}\tCaption {n} , of {name}\n" for name in PHOTOS for n in range(2))
    tokens += "absent.jpg.1#0\tA photo that the archive lacks\n"
    mirror.files["/Flickr8k_text.zip"] = zipped(
        {
            "Flickr8k.token.txt": tokens.encode(),
            "Flickr_8k.trainImages.txt": b"cat.jpg\ncoffee.jpg\n",
            "Flickr_8k.devImages.txt": b"rocket.jpg\n",
            "readme.txt": b"not needed",
        }
    )
    members = {f"Flicker8k_Dataset/{name}": photo(name) for name in PHOTOS}
    members["__MACOSX/Flicker8k_Dataset/._cat.jpg"] = b"resource fork"
    mirror.files["/Flickr8k_Dataset.zip"] = zipped(members)
    return mirror


def get_data(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "get_data.sh", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def records_of(environment: dict[str, str], name: str, split: str | None = None) -> list[Record]:
    found = list(open_data_set(name, data_root=Path(environment["CROSSMODAL_DATA_ROOT"]), split=split))
    assert all(isinstance(item, Record) for item in found), found
    return [item for item in found if isinstance(item, Record)]


def names_in(environment: dict[str, str]) -> list[str]:
    return sorted(path.name for path in Path(environment["CROSSMODAL_DATA_ROOT"]).glob("*"))


def test_f8k_becomes_kaggles_layout_with_splits(f8k: Mirror, environment: dict[str, str]) -> None:
    done = get_data(environment, "f8k")
    assert done.returncode == 0, done.stderr
    assert "3 photos, 6 captions of them" in done.stderr
    assert "left out 1 captions whose photo is not in the archive" in done.stderr
    assert names_in(environment) == ["f8k"]
    folder = Path(environment["CROSSMODAL_DATA_ROOT"]) / "f8k"
    assert sorted(path.name for path in folder.iterdir()) == [
        "captions.txt",
        "dev.txt",
        "images",
        "train.txt",
    ]
    records = records_of(environment, "f8k")
    assert [record.text for record in records if record.modality == TEXT][:2] == [
        "Caption 0 , of cat.jpg",
        "Caption 1 , of cat.jpg",
    ]
    assert [r.content for r in records if r.modality == IMAGE] == [photo(name) for name in PHOTOS]
    assert [Path(r.uri or "").name for r in records_of(environment, "f8k", "dev") if r.modality == IMAGE] == [
        "rocket.jpg"
    ]


@pytest.fixture
def f30k(mirror: Mirror) -> Mirror:
    images = [
        {
            "filename": name,
            "split": split,
            "sentences": [{"raw": f"One of {name}"}, {"raw": f"Two of {name}"}],
        }
        for name, split in zip(PHOTOS, ["train", "val", "test"], strict=True)
    ]
    described = json.dumps({"images": images, "dataset": "flickr30k"}).encode()
    mirror.files["/caption_datasets.zip"] = zipped(
        {"dataset_flickr30k.json": described, "dataset_coco.json": b"{}"}
    )
    nested = {f"flickr30k_images/flickr30k_images/{name}": photo(name) for name in PHOTOS}
    mirror.files["/flickr30k-images.zip"] = zipped(nested)
    return mirror


def test_f30k_becomes_karpathys_layout(f30k: Mirror, environment: dict[str, str]) -> None:
    done = get_data(environment, "f30k")
    assert done.returncode == 0, done.stderr
    assert len(f30k.requests) == 2
    records = records_of(environment, "f30k", "dev")
    assert [record.text for record in records] == [None, "One of coffee.jpg", "Two of coffee.jpg"]
    assert records[0].content == photo("coffee.jpg")
    assert not (Path(environment["CROSSMODAL_DATA_ROOT"]) / "f30k" / "dataset_coco.json").exists()


def test_coco_becomes_cocos_layout(mirror: Mirror, environment: dict[str, str]) -> None:
    annotations = {
        "images": [{"id": 7 + n, "file_name": name} for n, name in enumerate(PHOTOS)],
        "annotations": [{"image_id": 8, "caption": "A cup ."}, {"image_id": 7, "caption": "A cat ."}],
    }
    mirror.files["/annotations_trainval2017.zip"] = zipped(
        {
            "annotations/captions_val2017.json": json.dumps(annotations).encode(),
            "annotations/captions_train2017.json": b"{}",
        }
    )
    mirror.files["/val2017.zip"] = zipped({f"val2017/{name}": photo(name) for name in PHOTOS})
    done = get_data(environment, "coco")
    assert done.returncode == 0, done.stderr
    records = records_of(environment, "coco", "val")
    assert [record.text for record in records] == [None, "A cup .", None, "A cat .", None]
    assert records[-1].content == photo("rocket.jpg")


def test_a_second_run_fetches_nothing(f8k: Mirror, environment: dict[str, str]) -> None:
    assert get_data(environment, "f8k").returncode == 0
    f8k.requests.clear()
    again = get_data(environment, "f8k")
    assert again.returncode == 0
    assert "f8k is already in" in again.stderr
    assert f8k.requests == []


def test_a_broken_connection_is_continued_where_it_broke(f8k: Mirror, environment: dict[str, str]) -> None:
    f8k.cut["/Flickr8k_Dataset.zip"], f8k.cuts["/Flickr8k_Dataset.zip"] = 50_000, 2
    done = get_data(environment, "f8k")
    assert done.returncode == 0, done.stderr
    assert f8k.ranges_of("/Flickr8k_Dataset.zip") == [None, "bytes=50000-", "bytes=100000-"]
    assert [r.content for r in records_of(environment, "f8k") if r.modality == IMAGE] == [
        photo(p) for p in PHOTOS
    ]


def test_a_download_that_stays_truncated_fails_and_the_next_run_continues(
    f8k: Mirror, environment: dict[str, str]
) -> None:
    f8k.cut["/Flickr8k_Dataset.zip"], f8k.cuts["/Flickr8k_Dataset.zip"] = 1_000, 99
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert "could not be fetched in 4 attempts" in done.stderr
    assert names_in(environment) == ["f8k.part"]
    f8k.cuts.clear()
    f8k.requests.clear()
    assert get_data(environment, "f8k").returncode == 0
    assert f8k.requests[0][:2] == ("/Flickr8k_Dataset.zip", "bytes=4000-")
    assert names_in(environment) == ["f8k"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_ends_at_once_and_the_next_one_continues(
    f8k: Mirror, environment: dict[str, str], number: signal.Signals, status: int
) -> None:
    f8k.cut["/Flickr8k_Dataset.zip"] = 70_000
    f8k.stall.add("/Flickr8k_Dataset.zip")
    process = subprocess.Popen(
        [ROOT / "get_data.sh", "f8k"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and bash cannot trap what it
        # was started to ignore.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert f8k.stalled.wait(60)
    partial = Path(environment["CROSSMODAL_DATA_ROOT"]) / "f8k.part" / "Flickr8k_Dataset.zip.partial"
    deadline = time.monotonic() + 60
    while (not partial.exists() or partial.stat().st_size < 60_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    # The server would keep it waiting for longer.
    _, errors = process.communicate(timeout=STALL_SECONDS / 2)
    assert process.returncode == status
    assert "run the same command again" in errors
    assert names_in(environment) == ["f8k.part"]
    assert not (partial.parent / "unpacked").exists()
    kept = partial.stat().st_size
    f8k.stall.clear()
    f8k.released.set()
    f8k.requests.clear()
    assert get_data(environment, "f8k").returncode == 0
    assert f8k.requests[0][:2] == ("/Flickr8k_Dataset.zip", f"bytes={kept}-")
    assert names_in(environment) == ["f8k"]


def test_a_web_page_is_refused(f8k: Mirror, environment: dict[str, str]) -> None:
    archive = f8k.files["/Flickr8k_Dataset.zip"]
    f8k.files["/Flickr8k_Dataset.zip"] = b"\n<!DOCTYPE html><html><body>Please sign in</body></html>"
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert "sent a web page instead of data" in done.stderr
    assert names_in(environment) == ["f8k.part"]
    f8k.files["/Flickr8k_Dataset.zip"] = archive
    assert get_data(environment, "f8k").returncode == 0


def test_a_damaged_archive_is_removed_and_fetched_anew(f8k: Mirror, environment: dict[str, str]) -> None:
    archive = f8k.files["/Flickr8k_Dataset.zip"]
    at = archive.index(photo("coffee.jpg")) + 1000
    f8k.files["/Flickr8k_Dataset.zip"] = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert "Flickr8k_Dataset.zip is damaged or no zip file: Bad CRC-32" in done.stderr
    f8k.files["/Flickr8k_Dataset.zip"] = archive
    assert get_data(environment, "f8k").returncode == 0


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "answered with status 404: the file is not there"), (403, "status 403: the account may be wrong")],
)
def test_an_error_status_is_told(f8k: Mirror, environment: dict[str, str], status: int, message: str) -> None:
    f8k.status["/Flickr8k_text.zip"] = status
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(f8k.requests) == 1
    assert names_in(environment) == ["f8k.part"]


def test_a_busy_server_is_asked_again_and_then_given_up(f8k: Mirror, environment: dict[str, str]) -> None:
    f8k.status["/Flickr8k_text.zip"] = 503
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert len(f8k.requests) == 4
    assert "could not be fetched in 4 attempts" in done.stderr


def test_no_server_is_told(environment: dict[str, str]) -> None:
    done = get_data(environment | {"CROSSMODAL_MIRROR": "http://127.0.0.1:1"}, "f8k")
    assert done.returncode == 1
    assert "cannot reach http://127.0.0.1:1/Flickr8k_text.zip" in done.stderr


def test_too_few_photos_are_refused(f30k: Mirror, environment: dict[str, str]) -> None:
    del environment["CROSSMODAL_PARTIAL"]
    done = get_data(environment, "f30k")
    assert done.returncode == 1
    assert len(f30k.requests) == 2
    assert "at least 31,000 photos and 155,000 captions of them should be there" in done.stderr
    assert names_in(environment) == ["f30k.part"]


def test_another_file_than_the_published_one_is_refused(f8k: Mirror, environment: dict[str, str]) -> None:
    del environment["CROSSMODAL_PARTIAL"]
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    digest = hashlib.md5(f8k.files["/Flickr8k_text.zip"]).hexdigest()
    assert (
        f"Flickr8k_text.zip has the md5 checksum {digest}, and the published one is bf6c1abc" in done.stderr
    )
    part = Path(environment["CROSSMODAL_DATA_ROOT"]) / "f8k.part"
    assert not list(part.glob("*.zip"))


@pytest.mark.parametrize("from_file", [False, True])
def test_a_kaggle_account_is_used_and_not_shown(
    f8k: Mirror, environment: dict[str, str], tmp_path: Path, from_file: bool
) -> None:
    """The text archive always comes from the mirror; here it lies ready from an earlier run."""
    part = Path(environment["CROSSMODAL_DATA_ROOT"]) / "f8k.part"
    part.mkdir(parents=True)
    (part / "Flickr8k_text.zip").write_bytes(f8k.files["/Flickr8k_text.zip"])
    f8k.files["/kaggle/adityajn105/flickr8k"] = zipped(
        {f"Images/{name}": photo(name) for name in PHOTOS} | {"captions.txt": b"image,caption\n"}
    )
    del environment["CROSSMODAL_MIRROR"]
    environment["CROSSMODAL_KAGGLE"] = f8k.url + "/kaggle"
    if from_file:
        (tmp_path / "home" / ".kaggle").mkdir(parents=True)
        account = {"username": "somebody", "key": "0123"}
        (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text(json.dumps(account))
    else:
        environment |= {"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": "0123"}
    done = get_data(environment, "f8k")
    assert done.returncode == 0, done.stderr
    (name, _, authorization), *rest = f8k.requests
    assert rest == []
    assert name == "/kaggle/adityajn105/flickr8k"
    assert authorization == "Basic " + base64.b64encode(b"somebody:0123").decode()
    assert "0123" not in done.stderr + done.stdout
    assert len(records_of(environment, "f8k")) == 9


def test_a_damaged_kaggle_file_is_told(f8k: Mirror, environment: dict[str, str], tmp_path: Path) -> None:
    part = Path(environment["CROSSMODAL_DATA_ROOT"]) / "f8k.part"
    part.mkdir(parents=True)
    (part / "Flickr8k_text.zip").write_bytes(f8k.files["/Flickr8k_text.zip"])
    (tmp_path / "home" / ".kaggle").mkdir(parents=True)
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text("{")
    del environment["CROSSMODAL_MIRROR"]
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert "kaggle.json has no username and key" in done.stderr


def test_two_runs_at_once_are_refused(f8k: Mirror, environment: dict[str, str]) -> None:
    part = Path(environment["CROSSMODAL_DATA_ROOT"]) / "f8k.part"
    part.mkdir(parents=True)
    (part / "running").write_text(str(os.getpid()))
    done = get_data(environment, "f8k")
    assert done.returncode == 1
    assert f"another run, process {os.getpid()}, is fetching f8k" in done.stderr
    assert (part / "running").read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "usage: ./get_data.sh NAME..."),
        ([], 2, "usage: ./get_data.sh NAME..."),
        (["f9k"], 2, "there is no data set f9k here: use f8k, f30k or coco"),
    ],
)
def test_the_command_line(
    environment: dict[str, str], arguments: list[str], status: int, message: str
) -> None:
    done = get_data(environment, *arguments)
    assert done.returncode == status
    assert message in done.stdout + done.stderr
