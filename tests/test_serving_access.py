"""Who gets in to real servers: beyond this machine, in a container, over TLS, with keys from every caller."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from conftest import REPOSITORY, Server, children_of, copy_index, run_app, start_server
from PIL import Image

from crossmodal.access.keys import KEYS_FILE, KeyFile
from crossmodal.client import ApiError, AsyncClient, Client, ClientError, ServerUnavailable

OWN_KEY = "a-key-of-the-environment"


def test_beyond_this_machine_nothing_is_served_without_a_key(toy_workspace: Path) -> None:
    for beyond in (("--host", "0.0.0.0"), ("--host", "::"), ("--trusted-proxy", "127.0.0.1")):
        for task in ("query_restful", "index_restful"):
            refused = run_app("-t", task, "--workspace", toy_workspace, *beyond)
            assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
            for words in (beyond[1] if "host" in beyond[0] else "proxy", "keys add", "--insecure-no-auth"):
                assert words in refused.stderr
    short = run_app("serve", "--workspace", toy_workspace, environment={"CROSSMODAL_KEY": "too short"})
    assert short.returncode == 2
    assert "CROSSMODAL_KEY has to hold a key of 16 to 256" in short.stderr
    assert "too short" not in short.stderr


def container(workspace: Path, **environment: str) -> Server:
    """A server started with what the Dockerfile's CMD says."""
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    command = json.loads([line for line in lines if line.startswith("CMD ")][-1].removeprefix("CMD "))
    assert command[:4] == ["python", "app.py", "-t", "query_restful"]
    return start_server("query_restful", *command[4:], "--workspace", workspace, environment=environment)


def test_the_container_serves_the_toy_photos_to_everybody_until_there_are_others(tmp_path: Path) -> None:
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    (bake,) = [line for line in lines if line.startswith("RUN python app.py")]
    baked = tmp_path / "baked"
    words = shlex.split(bake.removesuffix("\\"))
    assert run_app(*words[3:], "--workspace", baked).returncode == 0
    server = container(baked)
    try:
        assert "key" not in server.output()
        curl = next(
            line
            for line in (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("curl --request POST") and ":45678/search" in line
        )
        words = shlex.split(curl.replace("http://localhost:45678", server.url))
        answer = json.loads(subprocess.run([*words, "-sS"], capture_output=True, check=True).stdout)
        with urllib.request.urlopen(answer["search"]["docs"][0]["matches"][0]["uri"]) as photo:
            assert photo.headers["Content-Type"] == "image/jpeg"
        assert server.request("/delete", {"ids": ["x"]})[0] == 403
        # Somebody indexes photos of their own into the baked workspace.
        own = tmp_path / "own"
        own.mkdir()
        Image.new("RGB", (64, 64), "red").save(own / "private.png")
        assert run_app("index", own, "--workspace", baked).returncode == 0
        assert server.request("/v1/status")[0] == 401
    finally:
        server.stop()


def test_the_container_makes_a_key_for_any_other_index_and_prints_it_once(
    toy_workspace: Path, tmp_path: Path
) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    server = container(workspace)
    try:
        (key,) = re.findall(r"crossmodal_\S+", server.output())
        assert server.request("/v1/status")[0] == 401
        bearer = {"Authorization": f"Bearer {key}"}
        assert server.request("/v1/status", headers=bearer)[0] == 200
        assert "Traceback" not in server.output()
    finally:
        server.stop()
    assert key not in (workspace / KEYS_FILE).read_text()
    again = container(workspace)
    try:
        assert "crossmodal_" not in again.output()
        assert again.request("/v1/status", headers=bearer)[0] == 200
    finally:
        again.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine that vouches for itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-out", files[0], "-keyout", files[1], "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        capture_output=True,
        check=True,
    )
    return files


@pytest.fixture(scope="module")
def server(
    toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[Server]:
    """Two processes behind TLS and a key of the environment, over a copy of the toy index."""
    workspace = copy_index(toy_workspace, tmp_path_factory.mktemp("tls-index") / "workspace")
    served = start_server(
        *("query_restful", "--workspace", workspace, "--workers", "2"),
        *("--tls-cert", certificate[0], "--tls-key", certificate[1], "--writing", "on"),
        environment={"CROSSMODAL_KEY": OWN_KEY},
    )
    yield replace(served, url=served.url.replace("http:", "https:"))
    served.stop()


def test_it_says_its_address_with_tls(server: Server) -> None:
    assert f"open {server.url} " in server.output()


def test_the_clients_bring_a_key_and_know_the_certificate(
    server: Server, certificate: tuple[Path, Path]
) -> None:
    with Client(server.url, key=OWN_KEY, tls_ca=certificate[0]) as client:
        assert len(client.search("a cat", top_k=3).matches) == 3
        assert client.status().modalities["image"].documents > 10
    with Client(server.url, tls_ca=certificate[0]) as client, pytest.raises(ApiError) as refused:
        client.search("a cat")
    assert refused.value.status == 401
    with Client(server.url, key=OWN_KEY, retries=None) as client, pytest.raises(ServerUnavailable):
        client.search("a cat")

    async def search() -> int:
        async with AsyncClient(server.url, key=OWN_KEY, tls_ca=str(certificate[0])) as client:
            return len((await client.search("a cat", top_k=2)).matches)

    assert asyncio.run(search()) == 2
    with pytest.raises(ClientError) as unusable:
        Client(server.url, key="has a\nbreak")
    assert "break" not in str(unusable.value)
    with pytest.raises(ClientError, match="cannot be read"):
        Client(server.url, tls_ca="/nothing.pem")


def test_the_command_line_brings_a_key(server: Server, certificate: tuple[Path, Path]) -> None:
    asked = ("search", "a cat", "--url", server.url, "--tls-ca", certificate[0], "--print", "json")
    by_variable = run_app(*asked, environment={"CROSSMODAL_KEY": OWN_KEY})
    by_option = run_app(*asked, "--key", OWN_KEY)
    assert by_variable.returncode == by_option.returncode == 0, by_variable.stderr
    assert by_variable.stdout == by_option.stdout
    wrong = run_app(*asked, "--key", "not-the-key-at-all")
    assert wrong.returncode == 1
    assert "The key is not known here" in wrong.stderr
    assert "not-the-key-at-all" not in wrong.stderr + wrong.stdout
    twice = run_app(*asked, "--key", "the-first-one", "--key", "the-second-one")
    assert twice.returncode == 2
    assert "the-first-one" not in twice.stderr
    alone = run_app("search", "a cat", "--key", "x")
    assert "--key has no meaning without --url" in alone.stderr


def test_sessions_and_writing_hold_in_all_processes(server: Server, certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=certificate[0])
    own = {"Origin": server.url}

    def fresh(cookies: httpx2.Cookies | None = None) -> httpx2.Client:
        """A connection of its own, which any of the processes may get."""
        return httpx2.Client(base_url=server.url, verify=trusting, cookies=cookies, headers=own, timeout=60)

    with fresh() as http:
        assert http.post("/login", data={"key": OWN_KEY}).status_code == 303
        cookies = http.cookies
    for number in range(12):
        with fresh(cookies) as http:
            assert http.get("/v1/status").json()["access"]["session"] is True
            line = json.dumps({"id": f"of-{number}", "text": f"caption {number}"})
            lines = {"Content-Type": "application/x-ndjson"}
            assert http.post("/v1/documents", content=line, headers=lines).json()["added"] == 1
    with fresh(cookies) as http:
        assert http.post("/logout").status_code == 200
    for _ in range(6):
        with fresh(cookies) as http:
            assert http.get("/v1/status").status_code == 401


def test_keys_stand_in_no_log_and_on_no_command_line(server: Server, certificate: tuple[Path, Path]) -> None:
    with Client(server.url, key=OWN_KEY, tls_ca=certificate[0]) as client:
        client.status()
    with httpx2.Client(base_url=server.url, verify=ssl.create_default_context(cafile=certificate[0])) as http:
        assert http.get(f"/v1/status?key={OWN_KEY}").status_code == 200
        assert http.get(f"/v1/nothing?key={OWN_KEY}").status_code == 404
    pids = [server.process.pid, *children_of(server.process.pid)]
    assert len(pids) >= 3
    for pid in pids:
        assert OWN_KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert OWN_KEY not in server.output()


def test_an_unusable_certificate_is_a_sentence(toy_workspace: Path, certificate: tuple[Path, Path]) -> None:
    serve = ("serve", "--workspace", toy_workspace, "--tls-cert", certificate[0])
    for key in (certificate[0], certificate[0].with_name("nothing.pem")):
        refused = run_app(*serve, "--tls-key", key)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "--tls-cert and --tls-key take PEM files" in refused.stderr
    assert "--tls-cert has no meaning without --tls-key" in run_app(*serve).stderr


def test_the_command_keys(tmp_path: Path) -> None:
    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_app("keys", *arguments, "--workspace", tmp_path / "new")

    assert "There are no keys" in keys().stdout
    added = keys("add", "laptop", "--scope", "write")
    assert added.returncode == 0
    secret = added.stdout.strip()
    assert KeyFile(tmp_path / "new").find(secret) is not None
    assert secret not in added.stderr
    assert "from now on a server there lets nobody in without a key" in added.stderr
    listed = keys("list", "--json")
    assert [(key["name"], key["scope"]) for key in json.loads(listed.stdout)["keys"]] == [("laptop", "write")]
    assert secret not in listed.stdout
    assert re.match(r"laptop +write +made 20", keys("list").stdout)
    for arguments, words in (
        (("add",), "needs the name of a key"),
        (("add", "laptop"), "There is a key 'laptop' already"),
        (("revoke", "other"), "There is no key 'other'"),
    ):
        refused = keys(*arguments)
        assert refused.returncode == 2
        assert words in refused.stderr
    assert keys("revoke", "laptop").returncode == 0
    assert KeyFile(tmp_path / "new").find(secret) is None
