"""A file that unpacks to gigabytes is refused by itself: its neighbours are indexed, everywhere."""

from __future__ import annotations

import base64
import os
import signal
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, Server, copy_index, decoders_of, is_running, start_server

from crossmodal import PhotoIndex
from crossmodal.images.budget import process_budget
from crossmodal.records import IMAGE

GOOD = ("cat.jpg", "coffee.jpg")


def thin_png() -> bytes:
    """66 bytes or so that claim 1 x 170,000,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 1, 170_000_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 4), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def wide_gif() -> bytes:
    """35 bytes that claim 13,000 x 13,000 pixels."""
    size = struct.pack("<HH", 13_000, 13_000)
    screen = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return screen + b"," + b"\0" * 4 + size + b"\0" + b"\x02\x02\x44\x01\0" + b";"


BOMBS = {"thin.png": thin_png(), "wide.gif": wide_gif()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    for name in GOOD:
        (made / name).write_bytes((TOY_IMAGES / name).read_bytes())
    for name, blob in BOMBS.items():
        assert len(blob) < 80
        (made / name).write_bytes(blob)
    return made


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = copy_index(toy_workspace, tmp_path_factory.mktemp("bombed") / "index")
    started = start_server("query_restful", "--workspace", workspace, "--decode-memory", "256")
    yield started
    started.stop()


def test_a_folder_is_indexed_without_them(folder: Path, tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        before = process_budget()
        try:
            process_budget(256 << 20)
            summary = index.add(folder)
        finally:
            process_budget(before.limit)
        found = {Path(record.uri or "").name for record in index if record.modality == IMAGE}
        failures = {Path(failure.source).name: failure.reason for failure in summary.failures}
    assert found == set(GOOD)
    assert failures.keys() == BOMBS.keys()
    assert "a side may have 65,535" in failures["thin.png"]
    assert "--decode-memory" in failures["wide.gif"]


def test_an_upload_takes_the_others(server: Server, folder: Path) -> None:
    boundary = "frontier"
    parts = [
        f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        + f'name="file"; filename="{path.name}"\r\n\r\n'.encode()
        + path.read_bytes()
        + b"\r\n"
        for path in sorted(folder.iterdir())
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    status, answer = server.request("/v1/documents", body, headers=headers, timeout=90)
    assert status == 200, answer
    errors = {result["source"]: result["error"] for result in answer["results"]}
    assert {name for name, error in errors.items() if error is None} == set(GOOD)
    assert "a side may have 65,535" in errors["thin.png"]
    assert "256 MB" in errors["wide.gif"]
    assert str(folder) not in str(answer)


def test_many_at_once_as_queries_are_refused_and_others_answered(server: Server) -> None:
    def search(blob: bytes) -> tuple[int, str]:
        image = "data:image/gif;base64," + base64.b64encode(blob).decode()
        status, answer = server.request("/v1/search", {"image": image, "top_k": 1}, timeout=90)
        return status, str(answer)

    cat = (TOY_IMAGES / "cat.jpg").read_bytes()
    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(search, blob) for blob in (wide_gif(), thin_png(), cat) * 4]
        answers = [future.result() for future in asked]
    for number, (status, said) in enumerate(answers):
        if number % 3 == 2:
            assert status == 200
            assert "matches" in said
        else:
            assert status in (400, 413, 422), said
            assert ("256 MB" if number % 3 == 0 else "65,535") in said


def test_decoders_are_replaced_and_end_with_a_killed_server(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, "--writing", "off")
    photo = "data:image/jpeg;base64," + base64.b64encode((TOY_IMAGES / "cat.jpg").read_bytes()).decode()
    try:
        assert server.request("/v1/search", {"image": photo}, timeout=60)[0] == 200
        decoders = decoders_of(server.process.pid)
        assert decoders
        for pid in decoders:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        assert server.request("/v1/search", {"image": photo}, timeout=60)[0] == 200
        again = decoders_of(server.process.pid)
        assert again
        assert not set(again) & set(decoders)
    finally:
        server.process.kill()
        server.process.wait()
    deadline = time.monotonic() + 20
    while any(map(is_running, again)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, again))
