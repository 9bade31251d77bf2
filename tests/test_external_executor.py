"""Steps that run elsewhere: jina's own command behind TLS, with a token that both sides share."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, clean_environment, free_port
from edited_flows import EditedFlows
from needs_jina import needs_jina

from crossmodal.documents import Document
from crossmodal.errors import ServiceError
from crossmodal.flow.topology import flow_file, read_topology
from crossmodal.jina.launch import TOKEN_FILE
from crossmodal.records import Record
from crossmodal.settings import LOST_SHARDS, Settings

pytestmark = [
    needs_jina,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate"),
]


@contextmanager
def tls_in_front_of(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """What ends TLS before ``port``; the port that it listens on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            writer.close()
            return
        await asyncio.gather(pump(reader, behind_writer), pump(behind_reader, writer), return_exceptions=True)

    loop = asyncio.new_event_loop()
    front = free_port()
    server = loop.run_until_complete(asyncio.start_server(connect, "127.0.0.1", front, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a token, a certificate and its key, which the variables of this process name."""
    (tmp_path / "token").write_text("a1" * 32)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "token"))
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(tmp_path / "tls.crt"))
    return tmp_path


@contextmanager
def executor(
    secrets: Path, step: str, uses_with: Mapping[str, Any], *arguments: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """What docs/serving.md says to start on another host: its process, and the port with TLS before it."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("jina"), "executor", "--name", step, *arguments),
            *("--uses", f"executors/{step}/config.yml", "--host", "127.0.0.1", "--port", str(port)),
            *("--uses-with", json.dumps(uses_with)),
        ],
        cwd=REPOSITORY,
        env={
            **clean_environment(),
            "PYTHONPATH": str(REPOSITORY),
            "JINA_OPTOUT_TELEMETRY": "1",
            TOKEN_FILE: str(secrets / "token"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with tls_in_front_of(port, secrets / "tls.crt", secrets / "tls.key") as front:
            yield process, front
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills an executor, unless that is done; jina's command ends without the process that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


def test_a_step_runs_elsewhere_over_tls(secrets: Path, tmp_path: Path) -> None:
    uses_with = {
        **{"model": "vse", "model_cache": str(tmp_path)},
        **{"trust_remote_code": "false", "runtime": "auto"},
    }
    with executor(secrets, "text_encoder", uses_with) as (_, front):
        flows = EditedFlows(tmp_path)
        flows.edit(
            "index",
            lambda steps: next(step for step in steps if step["name"] == "text_encoder").update(
                external=True, host="localhost", port=front, tls=True
            ),
        )
        settings = Settings(workspace=tmp_path / "index", model="vse", model_cache=tmp_path, layout="pods")
        with flows.open("index", settings) as flow:
            record = Record("a", "text", text="words").hashed()
            (doc,) = flow.run("index", [Document.of_record(record)])
            assert (doc.error, doc.outcome) == (None, "added")


@pytest.mark.parametrize("lost_shards", LOST_SHARDS)
def test_without_any_shard_a_search_is_an_error(
    secrets: Path, tmp_path: Path, toy_workspace: Path, lost_shards: str
) -> None:
    settings = Settings(
        workspace=toy_workspace, model="clip-mini", shards=2, layout="pods", lost_shards=lost_shards
    )
    name = "image_vector_indexer"
    topology = read_topology(flow_file("query"), settings.flow_environment())
    (entry,) = (step for step in topology.steps if step.name == name)
    with ExitStack() as running:
        shards = [
            running.enter_context(
                executor(secrets, name, entry.uses_with, "--shards", "2", "--shard-id", str(number))
            )
            for number in (0, 1)
        ]
        flows = EditedFlows(tmp_path)

        def keep_shards_alone(steps: list[dict[str, Any]]) -> None:
            (step,) = (step for step in steps if step["name"] == name)
            ports = [front for _, front in shards]
            step.update(external=True, host=["localhost"] * 2, port=ports, tls=True, needs="gateway")
            steps[:] = [step]

        flows.edit("query", keep_shards_alone)
        with flows.open("query", settings) as flow:

            def search() -> Document:
                embedding = np.eye(1, 512, dtype=np.float32)[0]
                query = Document("q", "text", "image", embedding=embedding, corrected=False)
                (found,) = flow.run("search", [query], {"top_k": 15})
                return found

            assert len(search().matches or ()) == 15
            end(shards[1][0])
            if lost_shards == "partial":
                found = search()
                assert found.lost_shards == [f"{name}/1"]
                assert 0 < len(found.matches or ()) < 15
            else:
                with pytest.raises(ServiceError, match=f"never came through {name}/1"):
                    search()
            end(shards[0][0])
            for _ in range(2):
                with pytest.raises(ServiceError) as raised:
                    search()
                # And not that the request was at fault.
                assert type(raised.value) is ServiceError
                assert str(raised.value) == f"The query Flow does not answer: {name} cannot be reached."
