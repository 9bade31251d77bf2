"""The real programs, killed: ``crossmodal index``, and a server that gets documents over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageEnhance

from crossmodal.errors import CrossmodalError
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, MODALITIES, TEXT, digest_of
from tests.chaos.checks import assert_search_agrees

__all__ = ["Command", "Uploads"]

REPOSITORY = Path(__file__).parents[2]
TOY_DATA = REPOSITORY / "data" / "toy-data"

# Small, with the whole Flow: photos are decoded, both encoders run.
_MODEL = "vse"

_START_SECONDS = 90.0

Held = set[tuple[str, str]]


def held_by(folder: Path) -> Held:
    """The modality and the id of all that a reader sees; nothing where there is no index yet."""
    try:
        store = EmbeddedStore.open_reader(folder)
    except CrossmodalError:
        return set()
    with store:
        return {(modality, id) for modality in MODALITIES for id in store.ids(modality)}


def _started(*arguments: str | Path, **named: object) -> subprocess.Popen[bytes]:
    """The program in a process group of its own, which can be killed as a whole."""
    from conftest import clean_environment

    return subprocess.Popen(
        [sys.executable, "app.py", *map(str, arguments)],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        **named,  # type: ignore[call-overload]
    )


@dataclass
class Command:
    """``crossmodal index`` over the toy data, a few documents at a time, in one workspace after the other."""

    folder: Path
    chance: random.Random
    acknowledged: int = 0
    _kills: int = 0
    _round: int = 0

    @property
    def _workspace(self) -> Path:
        return self.folder / str(self._round)

    def kill(self) -> None:
        """Kills it at a random moment of its run; what a reader had seen before is there afterwards."""
        process = self._start()
        self._kills += 1
        # After a commit, and in every other round perhaps before the first one.
        if self._kills % 2:
            self._wait_for_more(process)
        time.sleep(self.chance.uniform(0.0, 0.8))
        seen = held_by(self._workspace)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        self._check(seen)
        if process.returncode == 0:
            # Nothing was left to do.
            self._check_all()

    def finish(self) -> None:
        """Lets a last run go on where the killed one was, to its end."""
        process = self._start()
        assert process.wait(120) == 0, "the run after the kills failed"
        self._check_all()

    def _start(self) -> subprocess.Popen[bytes]:
        options = ("-m", _MODEL, "--request-size", "4", "--workspace", self._workspace)
        return _started("-t", "index", "-d", TOY_DATA, *options, stderr=subprocess.DEVNULL)

    def _wait_for_more(self, process: subprocess.Popen[bytes]) -> None:
        before = held_by(self._workspace)
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and held_by(self._workspace) == before and time.monotonic() < deadline:
            time.sleep(0.02)

    def _check(self, seen: Held) -> None:
        there = held_by(self._workspace)
        assert seen <= there, f"{len(seen - there)} documents that were there are not"
        self.acknowledged += len(there)
        if not there:
            return
        with EmbeddedStore.open_writer(self._workspace) as store:
            assert (damage := store.verify()) == [], damage
            for modality in MODALITIES:
                ids = [id for of, id in there if of == modality]
                assert len(store.vectors(ids, modality)) == len(ids)
                assert_search_agrees(store, modality)
            for of, id in there:
                if of == IMAGE:
                    (record,) = store.get([id], IMAGE)
                    assert record is not None
                    file = Path(record.uri or "").read_bytes()
                    assert record.digest == digest_of(file), "a torn photo"

    def _check_all(self) -> None:
        there = held_by(self._workspace)
        photos = {id for of, id in there if of == IMAGE}
        assert len(photos) == len(list((TOY_DATA / "images").glob("*.jpg"))), "photos are missing"
        assert len(there) - len(photos) >= len(photos), "captions are missing"
        shutil.rmtree(self._workspace)
        self._round += 1


@dataclass
class Uploads:
    """A server that indexes what is posted to it, killed process by process; all in one workspace."""

    folder: Path
    chance: random.Random
    acknowledged: int = 0
    _kills: int = 0
    _sent: int = 0
    _told: dict[str, str] = field(default_factory=dict)
    _supply: list[dict[str, str]] = field(default_factory=list)

    def kill(self) -> None:
        """Kills its processes one after the other while documents come; all that it has answered is there."""
        self._supply = self._supply or list(_documents())
        self._kills += 1
        with _Server(self.folder) as server:
            sender = _Sender(server.url, self._supply, self._sent)
            sender.start()
            # Before the first answer, and after it in every other round: a slow machine may take long.
            assert self._kills % 2 or sender.answered.wait(60), "no upload was answered"
            time.sleep(self.chance.uniform(0.0, 0.6))
            # Each time another process goes first, and the others live on for a moment: nothing may be
            # acknowledged then that is not durable.
            order = server.pids()
            first = order.pop(self._kills // 2 % len(order))
            self.chance.shuffle(order)
            for pid in (first, *order):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(self.chance.uniform(0.0, 0.15))
            server.process.wait(10)
            sender.join(30)
            assert not sender.is_alive(), "the connection of a killed server stayed open"
        self._told |= sender.acknowledged
        self._sent = sender.next
        self.acknowledged = len(self._told)
        self._check()

    def finish(self) -> None:
        """Sends everything again, after which every document is there once and found."""
        with _Server(self.folder) as server:
            for start in range(0, self._sent, 30):
                numbers = range(start, min(start + 30, self._sent))
                _post(server.url, [self._document(number) for number in numbers])
            server.process.terminate()
            assert server.process.wait(30) == 0, "the server did not end in good order"
        with EmbeddedStore.open_writer(self.folder) as store:
            assert store.verify() == []
            for modality in MODALITIES:
                counts = store.counts(modality)
                assert counts.documents == counts.vectors == self._sent, (
                    "a document is missing, or twice there"
                )
                assert_search_agrees(store, modality)

    def _document(self, number: int) -> dict[str, str]:
        return {"id": f"doc{number}", **self._supply[number % len(self._supply)]}

    def _check(self) -> None:
        if not self._told and not (self.folder / "index.sqlite").exists():
            return
        with EmbeddedStore.open_reader(self.folder) as store:
            assert (damage := store.verify()) == [], damage
            for id, text in self._told.items():
                if text:
                    (record,) = store.get([id], TEXT)
                    assert record is not None, f"{id} is lost"
                    assert record.text == text
                    continue
                sent = base64.b64decode(self._document(int(id.removeprefix("doc")))["blob"])
                assert store.content(id) == sent, f"the photo {id} is lost or torn"
                assert store.thumbnail(id)
                assert id in store.vectors([id], IMAGE)


def _documents() -> Iterator[dict[str, str]]:
    """Photos (variations of real ones) with a caption each."""
    for path in sorted((TOY_DATA / "images").glob("*.jpg")):
        with Image.open(path) as photo:
            small = photo.convert("RGB").resize((160, 120))
        for step in range(4):
            held = BytesIO()
            ImageEnhance.Brightness(small).enhance(0.7 + 0.2 * step).save(held, "JPEG")
            yield {
                "blob": base64.b64encode(held.getvalue()).decode(),
                "mime_type": "image/jpeg",
                "text": f"{path.stem.replace('_', ' ')}, version {step}",
            }


def _post(url: str, batch: list[dict[str, str]]) -> dict[str, str]:
    """The text, by id, of each document that the answer acknowledges; an empty one for a photo."""
    body = json.dumps({"data": batch, "parameters": {}}).encode()
    request = urllib.request.Request(url + "/index", data=body, headers={"Content-Type": "application/json"})
    told = {}
    with urllib.request.urlopen(request, timeout=60) as answer:
        for doc in json.loads(answer.read())["data"]:
            assert doc["tags"].get("outcome") in {"added", "replaced", "unchanged"}, doc
            told[doc["id"]] = doc["text"] or ""
    return told


class _Sender(threading.Thread):
    """Posts small batches until the connection breaks, and keeps what was acknowledged."""

    def __init__(self, url: str, supply: list[dict[str, str]], first: int) -> None:
        super().__init__(daemon=True)
        self._url, self._supply, self.next = url, supply, first
        self.acknowledged: dict[str, str] = {}
        self.answered = threading.Event()

    def run(self) -> None:
        # An answer that breaks off in the middle is none of OSError's.
        with suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            while True:
                numbers = range(self.next, self.next + 3)
                self.next += 3
                batch = [{"id": f"doc{n}", **self._supply[n % len(self._supply)]} for n in numbers]
                self.acknowledged |= _post(self._url, batch)
                self.answered.set()


class _Server:
    """``app.py -t index_restful``, up at the beginning of the context and gone after it."""

    def __init__(self, folder: Path) -> None:
        from conftest import free_port

        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = ("-m", _MODEL, "--workspace", folder, "--port", str(port), "--log", "off")
        self.process = _started("-t", "index_restful", *options, stderr=subprocess.PIPE)

    def __enter__(self) -> _Server:
        assert self.process.stderr is not None
        # What follows is little: the pipe takes it.
        while line := self.process.stderr.readline():
            if line.startswith(b"serving "):
                return self
        raise AssertionError(f"the server did not start ({self.process.wait()})")

    def __exit__(self, *raised: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def pids(self) -> list[int]:
        """The parent and its workers, without the decoders."""
        from conftest import children_of

        return [self.process.pid, *children_of(self.process.pid)]
