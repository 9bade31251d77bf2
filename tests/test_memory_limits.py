"""A server among processes that may use little memory: what needs too much is refused, and it lives."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, children_of, copy_index, decoders_of, is_running, start_server
from PIL import Image

LIMIT = 800 << 20

# Where the kernel has groups that limit memory, and the file that limits it: version 1, and version 2.
GROUPS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))

# Writing 0 moves whoever writes.
INSIDE = """
import sys
from pathlib import Path
Path(sys.argv.pop(1), "cgroup.procs").write_text("0")
from crossmodal.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """The folder of a new group with LIMIT bytes; the test is skipped where none can be made."""
    for root, limit in GROUPS:
        folder = root / f"crossmodal-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(LIMIT))
        except OSError:
            folder.rmdir()
            continue
        yield folder
        remove(folder)
        return
    pytest.skip("no group of processes with a limit can be made here")


def remove(folder: Path) -> None:
    """Removes the group once its last process has ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
    pytest.fail(f"processes are left in {folder}: {(folder / 'cgroup.procs').read_text()}")


def photo(side: int) -> str:
    """A data URI of a PNG that is small as a file and takes ``3 * side**2`` bytes when it is decoded."""
    held = BytesIO()
    Image.new("RGB", (side, side), (side % 256, 90, 30)).save(held, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def test_what_needs_too_much_is_refused_and_the_server_lives(
    group: Path, toy_workspace: Path, tmp_path: Path
) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    server = start_server(*("query_restful", "--workspace", workspace), program=("-c", INSIDE, str(group)))
    small = "data:image/jpeg;base64," + base64.b64encode((TOY_IMAGES / "cat.jpg").read_bytes()).decode()
    try:
        (worker,) = children_of(server.process.pid)
        assert str(server.process.pid) in (group / "cgroup.procs").read_text().split()
        # A quarter of the group's memory is for decoding, of which this would take more.
        status, told = server.request("/v1/search", {"image": photo(9000)}, timeout=60)
        assert (status, "decode-memory" in told["detail"]) == (422, True), told
        # Several that fit one after the other wait for each other.
        with ThreadPoolExecutor(6) as pool:
            asked = [{"image": photo(side)} for side in range(3600, 3606)]
            answers = list(pool.map(lambda body: server.request("/v1/search", body, timeout=90), asked))
        assert [status for status, _ in answers] == [200] * 6
        queries = {"queries": [{"image": small}, {"image": photo(9001)}]}
        status, told = server.request("/v1/search", queries, timeout=60)
        assert status == 200
        assert told["results"][0]["matches"][0]["id"]
        assert "decode-memory" in told["results"][1]["error"]["detail"]
        decoders = decoders_of(server.process.pid)
        assert decoders
        assert list(children_of(server.process.pid)) == [worker]
        assert "ended unexpectedly" not in server.output()
        assert server.stop() == 0
        assert [pid for pid in decoders if is_running(pid)] == []
    finally:
        server.stop(9)
