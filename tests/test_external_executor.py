"""A step that runs elsewhere: jina's own command behind TLS, with a token that both sides share."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import REPOSITORY, clean_environment, free_port
from edited_flows import EditedFlows
from needs_jina import needs_jina

from crossmodal.documents import Document
from crossmodal.jina.launch import TOKEN_FILE
from crossmodal.records import Record
from crossmodal.settings import Settings

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
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
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


def test_a_step_runs_elsewhere_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, certificate, key = (tmp_path / name for name in ("token", "certificate.pem", "key.pem"))
    secret.write_text("a1" * 32)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", certificate, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    executor = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("jina"), "executor", "--name", "text_encoder"),
            *("--uses", "executors/text_encoder/config.yml", "--host", "127.0.0.1", "--port", str(port)),
            *("--uses-with", "model:vse", f"model_cache:{tmp_path}"),
            *("trust_remote_code:false", "runtime:auto"),
        ],
        cwd=REPOSITORY,
        env={
            **clean_environment(),
            "PYTHONPATH": str(REPOSITORY),
            "JINA_OPTOUT_TELEMETRY": "1",
            TOKEN_FILE: str(secret),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with tls_in_front_of(port, certificate, key) as front:
            flows = EditedFlows(tmp_path)
            flows.edit(
                "index",
                lambda steps: next(step for step in steps if step["name"] == "text_encoder").update(
                    external=True, host="localhost", port=front, tls=True
                ),
            )
            monkeypatch.setenv(TOKEN_FILE, str(secret))
            monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
            settings = Settings(
                workspace=tmp_path / "index", model="vse", model_cache=tmp_path, layout="pods"
            )
            with flows.open("index", settings) as flow:
                record = Record("a", "text", text="words").hashed()
                (doc,) = flow.run("index", [Document.of_record(record)])
                assert (doc.error, doc.outcome) == (None, "added")
    finally:
        # jina's command ends without the process that it has started.
        os.killpg(executor.pid, signal.SIGKILL)
        executor.wait(20)
