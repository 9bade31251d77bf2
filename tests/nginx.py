"""nginx as Debian has it, with a configuration of its own, in front of a server under two paths."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import free_port

__all__ = ["KEPT", "TAKEN_OFF", "nginx", "nginx_program"]

# The path that nginx takes off and names in X-Forwarded-Prefix, and the one that it passes on as it is.
TAKEN_OFF, KEPT = "/photos", "/album"

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    types {{ }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port};
        location {taken_off}/ {{
            proxy_pass http://{server}/;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Prefix {taken_off};
        }}
        location {kept} {{
            proxy_pass http://{server};
        }}
    }}
}}
"""


def nginx_program() -> str:
    """Where nginx is; without it the test is skipped, or with CI=true fails."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        sentence = "nginx is not installed; on Debian, `sudo apt-get install nginx` brings it."
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    return program


@contextmanager
def nginx(server: str, folder: Path) -> Iterator[str]:
    """The address of an nginx before the server at that address; without nginx the test is skipped."""
    program = nginx_program()
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder, port=port, server=urlsplit(server).netloc, taken_off=TAKEN_OFF, kept=KEPT
        ),
        encoding="utf-8",
    )
    log = folder / "nginx.log"
    command = [program, "-p", str(folder), "-c", str(configuration), "-e", str(log)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"nginx does not answer: {log.read_text() if log.exists() else ''}")
        time.sleep(0.05)
