"""kill -9 of the real indexing server at random moments: nothing acknowledged is lost, nothing is torn."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import random
import signal
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, Server, children_of, run_app, start_server
from PIL import Image, ImageEnhance

from crossmodal.records import IMAGE, TEXT, Record
from crossmodal.workspace import Workspace

KILLS = 10


def documents() -> list[dict]:
    """Photos (variations of real ones) with a caption each, in an endless supply of ids."""
    made = []
    for path in sorted(TOY_IMAGES.glob("*.jpg")):
        with Image.open(path) as photo:
            small = photo.convert("RGB").resize((160, 120))
        for step in range(4):
            held = io.BytesIO()
            ImageEnhance.Brightness(small).enhance(0.7 + 0.2 * step).save(held, "JPEG")
            made.append(
                {
                    "blob": base64.b64encode(held.getvalue()).decode(),
                    "mime_type": "image/jpeg",
                    "text": f"{path.stem.replace('_', ' ')}, version {step}",
                }
            )
    return made


class Sender(threading.Thread):
    """Posts small batches until the connection breaks, and keeps what was acknowledged."""

    def __init__(self, server: Server, supply: list[dict], first: int) -> None:
        super().__init__(daemon=True)
        self.server, self.supply, self.next = server, supply, first
        self.acknowledged: dict[str, str] = {}
        self.answered = threading.Event()

    def run(self) -> None:
        # An answer that breaks off in the middle is none of OSError's.
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            while True:
                batch = []
                for _ in range(3):
                    batch.append({"id": f"doc{self.next}", **self.supply[self.next % len(self.supply)]})
                    self.next += 1
                body = json.dumps({"data": batch, "parameters": {}}).encode()
                request = urllib.request.Request(
                    self.server.url + "/index", data=body, headers={"Content-Type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=20) as answer:
                    for doc in json.loads(answer.read())["data"]:
                        assert doc["tags"].get("outcome") in {"added", "replaced", "unchanged"}, doc
                        self.acknowledged[doc["id"]] = doc["text"] or ""
                self.answered.set()


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    supply = documents()
    chance = random.Random(20261121)
    acknowledged: dict[str, str] = {}
    sent = 0
    for round_number in range(KILLS):
        server = start_server("index_restful", "--workspace", workspace)
        pids = children_of(server.process.pid)
        sender = Sender(server, supply, sent)
        sender.start()
        # Before the first answer, and after it in every other round: a slow machine may need long for that.
        assert round_number % 2 == 0 or sender.answered.wait(60)
        time.sleep(chance.uniform(0.0, 0.6))
        # Each time another process goes first (the one that writes, the gateway, or the parent), and the
        # others live on for a moment: nothing may be acknowledged then that is not durable.
        order = [server.process.pid, *pids]
        first = order.pop(round_number // 2 % len(order))
        chance.shuffle(order)
        for pid in (first, *order):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 0.15))
        server.process.wait(10)
        sender.join(30)
        assert not sender.is_alive()
        acknowledged |= sender.acknowledged
        sent = sender.next
        verify(workspace, acknowledged, f"after kill {round_number + 1}")
    assert len(acknowledged) >= 3 * (KILLS // 2)

    # What was not acknowledged is simply done again, and then every photo can be found.
    server = start_server("index_restful", "--workspace", workspace)
    again = [{"id": f"doc{n}", **supply[n % len(supply)]} for n in range(sent)]
    for start in range(0, sent, 30):
        status, _ = server.request("/index", {"data": again[start : start + 30], "parameters": {}})
        assert status == 200
    status, told = server.request("/v1/status")
    assert (status, told["index"]["tier"], told["modalities"]["image"]["documents"]) == (200, "none", sent)
    assert server.stop() == 0
    held = Workspace(workspace).status()["modalities"]
    assert held["image"]["documents"] == held["image"]["vectors"] == sent
    assert held["text"]["documents"] == held["text"]["vectors"] == sent
    found = run_app(
        "-t", "query", "--workspace", workspace, "--query-text", "a cat", "-k", str(min(sent, 1000)), "--json"
    )
    matches = json.loads(found.stdout)["results"][0]["matches"]
    assert len({match["id"] for match in matches}) == min(sent, 1000)


def verify(workspace: Path, acknowledged: dict[str, str], moment: str) -> None:
    """Every acknowledged document is whole, and the index is not damaged."""
    from crossmodal.index.embedded.store import EmbeddedStore

    if not (workspace / "index.sqlite").exists() and not acknowledged:
        return
    with EmbeddedStore.open_reader(workspace) as store:
        assert store.verify() == [], moment
        for id, text in acknowledged.items():
            (record,) = store.get([id], TEXT if text else IMAGE)
            assert record is not None, f"{id} lost {moment}"
            if text:
                assert record.text == text
            else:
                hashed = Record(**{**_fields(record), "content": store.content(id)}).hashed()
                assert hashed.content_hash == record.content_hash, f"photo {id} torn {moment}"
                assert store.thumbnail(id), moment
                assert id in store.vectors([id], IMAGE), moment


def _fields(record: Record) -> dict:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}
