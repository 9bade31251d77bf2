"""A server that speaks S3, moto's, in a process of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from client_environments import client_environment
from conftest import free_port

__all__ = ["s3_server"]


@contextmanager
def s3_server() -> Iterator[subprocess.Popen[bytes]]:
    """Its process; the variables of this one name its address, and it has the bucket ``bucket``.

    Skips the test where the extra ``s3`` or moto cannot be had.
    """
    s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    made = client_environment(
        "moto[s3]==5.2.5",
        "Flask==3.1.3",
        "flask-cors==6.0.5",
        python="3.11",
        options=["--only-binary", ":all:"],
    )
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        program = [str(made.folder / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # It may know another server, of tests before.
            s3fs.S3FileSystem.clear_instance_cache()
            fs = s3fs.S3FileSystem()
            until = time.monotonic() + 60
            while True:
                try:
                    fs.mkdir("bucket")
                    break
                except Exception:  # noqa: BLE001  it isn't up yet, which each library says in its own way
                    assert time.monotonic() < until
                    time.sleep(0.2)
            yield server
        finally:
            server.kill()
            server.wait(10)
