"""The server as a process: how it starts, ends, loses a part, and what it listens on."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import Server, children_of, free_port, is_running, run_app, start_server
from needs_jina import needs_jina

NDJSON = {"Content-Type": "application/x-ndjson"}


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """The processes that still run after at most so many seconds."""
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if is_running(pid)]


def search(server: Server) -> list[str]:
    status, answer = server.request("/search", {"data": ["a cat"], "top_k": 3, "mode": "search"})
    assert status == 200
    return [match["id"] for match in answer["search"]["docs"][0]["matches"]]


@pytest.mark.parametrize(
    ("layout", "number"),
    [
        ("fused", signal.SIGTERM),
        ("fused", signal.SIGINT),
        pytest.param("pods", signal.SIGTERM, marks=needs_jina),
        pytest.param("pods", signal.SIGINT, marks=[needs_jina, pytest.mark.slow]),
    ],
)
def test_a_signal_ends_it_cleanly_with_nothing_left(toy_workspace: Path, layout: str, number: int) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, "--layout", layout)
    assert len(search(server)) == 3
    pids = children_of(server.process.pid)
    assert len(pids) == 1 if layout == "fused" else len(pids) >= 9
    assert_only_this_machine_reaches(server)
    assert server.stop(number) == 0
    assert wait_until_gone(pids, 20) == []
    assert "Traceback" not in server.output()
    with socket.create_server(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))):
        pass


@needs_jina
@pytest.mark.parametrize("which", [3, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_dead_pod_ends_the_server_with_words(toy_workspace: Path, which: int) -> None:
    """jina starts nothing again; of the default layout test_supervisor says what happens."""
    server = start_server("query_restful", "--workspace", toy_workspace, "--layout", "pods")
    pids = children_of(server.process.pid)
    os.kill(pids[which], signal.SIGKILL)
    # It is noticed within half a second; jina itself would wait a minute for the dead one.
    assert server.process.wait(40) == 1
    assert wait_until_gone(pids, 20) == []
    said = server.output()
    assert "ended unexpectedly (killed by SIGKILL)" in said
    assert "Traceback" not in said


@needs_jina
@pytest.mark.slow
def test_nothing_outlives_a_killed_server(toy_workspace: Path) -> None:
    server = start_server("query_restful", "--workspace", toy_workspace, "--layout", "pods", "--shards", "1")
    pids = children_of(server.process.pid)
    server.process.kill()
    server.process.wait()
    assert wait_until_gone(pids, 20) == []


def assert_only_this_machine_reaches(server: Server) -> None:
    """It listens on 127.0.0.1 alone, and below the ports that Linux gives to connections of any client."""
    own = {server.process.pid, *children_of(server.process.pid)}
    addresses = [address for pid in own for address in listening_addresses(pid)]
    assert {host for host, _ in addresses} == {"127.0.0.1"}
    ports = {port for _, port in addresses}
    assert int(server.url.rsplit(":", 1)[1]) in ports
    assert max(ports) < 32768


def test_host_opens_it_to_other_machines_which_may_only_read(toy_workspace: Path) -> None:
    server = start_server(
        "query_restful", "--workspace", toy_workspace, "--host", "0.0.0.0", "--insecure-no-auth"
    )
    try:
        own = {server.process.pid, *children_of(server.process.pid)}
        hosts = {host for pid in own for host, _ in listening_addresses(pid)}
        assert "0.0.0.0" in hosts
        assert hosts <= {"0.0.0.0", "127.0.0.1"}
        writing = server.request("/v1/status")[1]["writing"]
        assert writing["allowed"] is False
        assert "listens on 0.0.0.0" in writing["reason"]
        assert "--writing on" in writing["reason"]
        status, answer = server.request("/v1/documents", b'{"id": "x", "text": "no"}', headers=NDJSON)
        assert status == 403
        assert "listens on 0.0.0.0" in answer["detail"]
    finally:
        server.stop()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_it_listens_on_ipv6(toy_workspace: Path, host: str) -> None:
    opened = ["--insecure-no-auth"] if host == "::" else []
    server = start_server("query_restful", "--workspace", toy_workspace, "--host", host, *opened)
    try:
        port = server.url.rpartition(":")[2]
        for name in ("[::1]", "127.0.0.1") if host == "::" else ("[::1]",):
            server.url = f"http://{name}:{port}"
            status, answer = server.request("/search", {"data": ["a cat"], "mode": "search", "top_k": 1})
            assert status == 200
            (match,) = answer["search"]["docs"][0]["matches"]
            assert match["uri"].startswith(f"http://{name}:{port}/images/")
            with urllib.request.urlopen(match["uri"]) as photo:
                assert photo.read(2) == b"\xff\xd8"
            status, found = server.request("/v1/search", {"image": match["uri"], "top_k": 1})
            assert (status, len(found["results"][0]["matches"])) == (200, 1)
    finally:
        server.stop()


def test_a_taken_port_is_a_sentence(toy_workspace: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = run_app("-t", "query_restful", "--workspace", toy_workspace, "--port", port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {port} on 127.0.0.1 cannot be listened on (Address already in use)" in done.stderr
    assert "--port" in done.stderr


def test_a_workspace_without_an_index_is_a_sentence(tmp_path: Path) -> None:
    for task in ("query_restful", "status"):
        done = run_app("-t", task, "--workspace", tmp_path / "nothing")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert str(tmp_path / "nothing") in done.stderr
        assert "crossmodal index" in done.stderr


def test_it_needs_no_locale_with_unicode(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    workspace = tmp_path / "index"
    done = run_app("-t", "index", "-n", "12", "--workspace", workspace, environment=locale)
    assert done.returncode == 0, done.stderr
    server = start_server("query_restful", "--workspace", workspace, environment=locale)
    try:
        record, query = b'{"id": "a", "text": "gr\xc3\xbcn"}', {"text": "grün", "modality": "text"}
        assert server.request("/v1/documents", record, headers=NDJSON)[0] == 200
        status, answer = server.request("/v1/search", query)
        assert status == 200
        assert answer["results"][0]["matches"][0]["text"] == "grün"
        assert len(search(server)) == 3
        assert server.stop() == 0
        assert "Traceback" not in server.output()
    finally:
        server.stop(signal.SIGKILL)


def listening_addresses(pid: int) -> list[tuple[str, int]]:
    """Address and port of every TCP socket that a process listens on, from /proc."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                host, port = fields[1].split(":")
                found.append((_address(host), int(port, 16)))
    return found


def _address(text: str) -> str:
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    raw = b"".join(words)
    if len(raw) == 16 and raw[:12] == bytes(10) + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
