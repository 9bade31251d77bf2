"""Clients that take a large photo slowly hold no more memory than there is for all of them."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from conftest import Server, children_of, server_over_copy
from PIL import Image

from crossmodal.server import admission

PATH = "/v1/documents/large/content"
SIDE = 2900
READERS = 24


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("slow")) as server:
        yield server


@pytest.fixture(scope="module")
def photo(server: Server) -> bytes:
    """A photo of 24 MiB, indexed under the id ``large``."""
    held = BytesIO()
    pixels = os.urandom(SIDE * SIDE * 3)
    Image.frombytes("RGB", (SIDE, SIDE), pixels).save(held, "PNG", compress_level=0)
    answer = httpx2.post(
        f"{server.url}/v1/documents",
        data={"metadata": '{"large.png": {"id": "large"}}'},
        files={"file": ("large.png", held.getvalue())},
        timeout=60,
    )
    assert answer.json()["added"] == 1, answer.text
    return held.getvalue()


def resident(server: Server) -> int:
    """Bytes of the serving process."""
    (worker,) = children_of(server.process.pid)
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def begin(server: Server) -> tuple[socket.socket, int, bytes]:
    """Asks for the photo and reads little more than the headers: the connection, the status, what came."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection.connect((host, int(port)))
    connection.settimeout(30)
    connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    came = b""
    while b"\r\n\r\n" not in came:
        came += connection.recv(256)
    head, _, body = came.partition(b"\r\n\r\n")
    return connection, int(head.split()[1]), body


def readers_tag(server: Server) -> str:
    answer = httpx2.head(server.url + PATH)
    assert answer.status_code == 200
    return str(answer.headers["ETag"])


def test_slow_readers_hold_what_there_is_for_them_and_others_are_answered(
    server: Server, photo: bytes
) -> None:
    before = resident(server)
    readers = [begin(server) for _ in range(READERS)]
    most = admission._PHOTOS_SENT_MIB
    sent = most // -(-len(photo) >> 20)
    assert Counter(status for _, status, _ in readers) == {200: sent, 429: READERS - sent}
    assert resident(server) - before < (most + 128) << 20
    refused = httpx2.get(server.url + PATH)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert f"MiB of photos and takes on {most}" in refused.json()["detail"]
    # What is small is not counted, nor is what the client has already, or asks no bytes of.
    for path in ("/v1/documents/large/thumbnail", "/v1/documents?limit=1", "/healthz"):
        assert httpx2.get(server.url + path).status_code == 200
    tag = {"If-None-Match": readers_tag(server)}
    assert httpx2.get(server.url + PATH, headers=tag).status_code == 304
    slow = next((connection, body) for connection, status, body in readers if status == 200)
    whole = bytearray(slow[1])
    while part := slow[0].recv(1 << 20):
        whole += part
    assert bytes(whole) == photo
    for connection, _, _ in readers:
        connection.close()
    deadline = time.monotonic() + 30
    while (again := httpx2.get(server.url + PATH)).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert again.content == photo
    (queue,) = (
        line for line in httpx2.get(f"{server.url}/metrics").text.splitlines() if "MiB of photos.held" in line
    )
    assert float(queue.rpartition(" ")[2]) == 0
