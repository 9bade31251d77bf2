"""The query Flow over three hosts: one is cut off and comes back, and answers, errors and times are as told.

The hosts are network namespaces on one bridge. On ``front`` the server runs with what is left of the Flow, on
each of the two others an encoder and a shard of the photos, each behind an nginx that ends TLS, as the
exported manifests have it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, Server, clean_environment, copy_index, run_app
from needs_jina import needs_jina
from nginx import nginx_program
from two_networks import Machine, hosts_on_a_bridge

from crossmodal.export.plan import ENCODER_PORT, FOLDERS, TLS_PORT
from crossmodal.export.proxy import proxy_text
from crossmodal.flow.topology import flow_file, read_topology
from crossmodal.jina.launch import TOKEN_FILE
from crossmodal.settings import Settings

pytestmark = [needs_jina, pytest.mark.slow]

BACK = ("10.77.0.2", "10.77.0.3")
QUESTION = {"text": "a cup of coffee on a wooden table", "top_k": 15}

# What runs on each of the hosts behind, and where: the step, its own port, and that of TLS.
STEPS = {"text_encoder": (ENCODER_PORT, TLS_PORT), "image_vector_indexer": (5001, 8444)}

Found = list[tuple[str, float]]


@dataclass
class Hosts:
    """The machines, the switch between them, and the folder that all of them see."""

    front: Machine
    behind: tuple[Machine, ...]
    switch: Machine
    folder: Path

    def cut(self, host: int) -> None:
        """Pulls the cable of one of the hosts behind."""
        self.switch.ip(f"link set port{host + 1} down")

    def heal(self, host: int) -> None:
        """Puts it back."""
        self.switch.ip(f"link set port{host + 1} up")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, toy_workspace: Path) -> Iterator[Hosts]:
    """The three hosts with all that runs on those behind."""
    program = nginx_program()
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "token").write_text("a1" * 32)
    make_certificate(folder)
    write_checkout(folder)
    with hosts_on_a_bridge("10.77.0.1", *BACK) as (switch, front, *behind), ExitStack() as running:
        for number, host in enumerate(behind):
            workspace = copy_index(toy_workspace, folder / f"index-{number}")
            for step, (port, tls_port) in STEPS.items():
                running.enter_context(executor(host, folder, workspace, step, port, number))
                running.enter_context(
                    tls_in_front_of(host, folder, f"{step}-{number}", port, tls_port, program)
                )
        yield Hosts(front, tuple(behind), switch, folder)


def make_certificate(folder: Path) -> None:
    names = ",".join(f"IP:{address}" for address in BACK)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-subj", "/CN=hosts"),
            *("-addext", f"subjectAltName={names}"),
        ],
        check=True,
        capture_output=True,
    )


def write_checkout(folder: Path) -> None:
    """The project with a query Flow whose encoder and shards are on the hosts behind."""
    for name in ("crossmodal", "executors", "flows"):
        shutil.copytree(
            REPOSITORY / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__"),
            copy_function=linked,
        )
    shutil.copy(REPOSITORY / "app.py", folder)
    path = folder / "flows" / "flow-query.yml"
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in described["executors"]:
        if entry["name"] in STEPS:
            _, tls_port = STEPS[entry["name"]]
            entry.update(external=True, host=list(BACK), port=tls_port, tls=True)
            entry.pop("replicas", None)
    path.unlink()
    path.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def variables(folder: Path) -> dict[str, str]:
    return {
        **clean_environment(),
        "PYTHONPATH": str(folder),
        "JINA_OPTOUT_TELEMETRY": "1",
        TOKEN_FILE: str(folder / "token"),
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "tls.crt"),
    }


@contextmanager
def executor(
    host: Machine, folder: Path, workspace: Path, step: str, port: int, shard: int
) -> Iterator[None]:
    """What docs/serving.md says to start on another host."""
    settings = Settings(workspace=workspace, model="clip-mini", shards=len(BACK))
    topology = read_topology(flow_file("query"), settings.flow_environment())
    (entry,) = (each for each in topology.steps if each.name == step)
    shards = ("--shards", str(entry.shards), "--shard-id", str(shard)) if entry.shards > 1 else ()
    process = host.run(
        subprocess.Popen,
        [
            *(Path(sys.executable).with_name("jina"), "executor", "--name", step, *shards),
            *("--uses", f"executors/{step}/config.yml", "--host", "127.0.0.1", "--port", str(port)),
            *("--uses-with", json.dumps(entry.uses_with)),
        ],
        cwd=folder,
        env=variables(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # jina's command ends without the process that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@contextmanager
def tls_in_front_of(
    host: Machine, folder: Path, name: str, port: int, tls_port: int, program: str
) -> Iterator[None]:
    """The proxy of the exported manifests."""
    own = folder / name
    own.mkdir()
    text = proxy_text()
    for before, after in (
        (f"{FOLDERS['temporary']}/", f"{own}/"),
        (str(FOLDERS["tls"]), str(folder)),
        # As Debian's nginx says it.
        (f"listen {TLS_PORT} ssl;\n    http2 on;", f"listen {tls_port} ssl http2;"),
        (f"127.0.0.1:{ENCODER_PORT}", f"127.0.0.1:{port}"),
    ):
        assert before in text
        text = text.replace(before, after)
    (own / "nginx.conf").write_text(text, encoding="utf-8")
    process = host.run(
        subprocess.Popen,
        [
            program,
            "-p",
            own,
            "-c",
            own / "nginx.conf",
            "-e",
            own / "log",
            "-g",
            "daemon off; master_process off;",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def serving(hosts: Hosts, workspace: Path, *arguments: str) -> Iterator[Server]:
    """The server on the host in front."""
    log = hosts.folder / "server.log"
    with log.open("wb") as said:
        process = hosts.front.run(
            subprocess.Popen,
            [
                *(sys.executable, "app.py", "-t", "query_restful", "--workspace", workspace),
                *("--layout", "pods", "--shards", str(len(BACK)), *arguments),
            ],
            cwd=hosts.folder,
            env=variables(hosts.folder),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, "http://127.0.0.1:45678", log)
    try:
        deadline = time.monotonic() + 120
        while "\nserving " not in f"\n{server.output()}":
            assert process.poll() is None, server.output()
            assert time.monotonic() < deadline, server.output()
            time.sleep(0.1)
        yield server
    finally:
        assert server.stop() == 0


def ask(hosts: Hosts, server: Server) -> tuple[int, Any]:
    return hosts.front.run(server.request, "/v1/search", QUESTION, timeout=90)


def wait_for_answer(hosts: Hosts, server: Server, status: int, partial: list[str]) -> Any:
    """The first answer that is as a host's state lets expect; connections notice that state by and by."""
    deadline = time.monotonic() + 60
    while True:
        got, answer = ask(hosts, server)
        if got == status and (got != 200 or answer["results"][0]["partial"] == partial):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def found(answer: Mapping[str, Any]) -> Found:
    (result,) = answer["results"]
    return [(match["id"], match["cosine"]) for match in result["matches"]]


@pytest.fixture(scope="module")
def plain(toy_workspace: Path) -> Found:
    """What one process finds."""
    asked = ("-t", "query", "--workspace", toy_workspace, "--json", "-k", "15")
    done = run_app(*asked, "--query-text", str(QUESTION["text"]))
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    return [(match["id"], match["cosine"]) for match in result["matches"]]


def test_a_lost_shard_makes_answers_partial(hosts: Hosts, toy_workspace: Path, plain: Found) -> None:
    with serving(hosts, toy_workspace, "--lost-shards", "partial") as server:
        assert found(wait_for_answer(hosts, server, 200, [])) == plain
        held: list[set[tuple[str, float]]] = []
        for number in (0, 1):
            lost = f"image_vector_indexer/{number}"
            hosts.cut(number)
            rest = found(wait_for_answer(hosts, server, 200, [lost]))
            # What the other shard holds, in its order.
            assert rest == [each for each in plain if each in rest]
            held.append(set(rest))
            assert hosts.front.run(server.request, "/readyz")[0] == 200
            hosts.heal(number)
            assert found(wait_for_answer(hosts, server, 200, [])) == plain
            assert f"The shard {lost} does not answer" in server.output()
            assert f"The shard {lost} answers again" in server.output()
        assert all(held)
        assert not held[0] & held[1]
        assert held[0] | held[1] == set(plain)
        for number in (0, 1):
            hosts.cut(number)
        problem = wait_for_answer(hosts, server, 503, [])
        assert problem["detail"] == "The query Flow does not answer: text_encoder cannot be reached."
        for number in (0, 1):
            hosts.heal(number)
        assert found(wait_for_answer(hosts, server, 200, [])) == plain


def test_a_lost_shard_is_an_error_otherwise(hosts: Hosts, toy_workspace: Path, plain: Found) -> None:
    with serving(hosts, toy_workspace) as server:
        assert found(wait_for_answer(hosts, server, 200, [])) == plain
        hosts.cut(1)
        problem = wait_for_answer(hosts, server, 503, [])
        assert "documents never came through image_vector_indexer/1" in problem["detail"]
        assert hosts.front.run(server.request, "/readyz", timeout=60)[0] == 503
        hosts.heal(1)
        assert found(wait_for_answer(hosts, server, 200, [])) == plain
