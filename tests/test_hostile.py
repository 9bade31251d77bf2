"""A sample of the hostile inputs against one server; `python -m tests.hostile` sends them all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TOY_IMAGES, Server, children_of, server_over_copy
from hostile.attack import Report, send, send_all, try_call
from hostile.http_inputs import HttpInput, http_inputs
from hostile.other_inputs import command_lines, python_calls

from crossmodal import PhotoIndex
from crossmodal.cli.arguments import read_settings
from crossmodal.errors import CrossmodalError

PHOTO = (TOY_IMAGES / "cat.jpg").read_bytes()

# The same sample each time.
SEED = 13


def sample(inputs: list[HttpInput], number: int) -> list[HttpInput]:
    """Some of each kind."""
    chosen = random.Random(SEED)
    kinds = sorted({given.kind for given in inputs})
    return [
        given
        for kind in kinds
        for given in chosen.sample([one for one in inputs if one.kind == kind], k=number)
    ]


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("hostile")) as server:
        yield server


def test_there_are_more_than_a_thousand_each_with_a_name_of_its_own() -> None:
    inputs = list(http_inputs(PHOTO))
    assert len(inputs) > 1000
    assert len({(given.kind, given.name) for given in inputs}) > 0.95 * len(inputs)
    assert [given.content for given in inputs] == [given.content for given in http_inputs(PHOTO)]


def test_no_request_fails_the_server_or_hangs(server: Server) -> None:
    report = Report()
    processes = children_of(server.process.pid)
    port = int(server.url.rpartition(":")[2])
    send_all(port, sample(list(http_inputs(PHOTO)), 8), report)
    assert report.failures == []
    assert report.outcomes["4xx"] > 32, "most of them are refused"
    assert report.total == 8 * 10
    assert children_of(server.process.pid) == processes
    assert send(port, b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") == 200
    assert "Traceback" not in server.output()


def test_no_call_of_python_fails_with_anything_undocumented(toy_workspace: Path, tmp_path: Path) -> None:
    report = Report()
    calls = random.Random(SEED).sample(list(python_calls(PHOTO)), k=120)
    with PhotoIndex(tmp_path / "empty") as none, PhotoIndex(toy_workspace) as index:
        for name, call in calls:
            target = none if name.startswith(("add", "delete")) else index
            try_call(name, lambda call=call, target=target: call(target), report)
    assert report.failures == []


def test_no_command_line_is_read_with_a_traceback(tmp_path: Path) -> None:
    lines = list(command_lines(tmp_path, tmp_path))
    assert len(lines) > 100
    for arguments in lines:
        code: object = 0
        try:
            read_settings(arguments, {})
        except SystemExit as end:
            code = end.code
        except CrossmodalError:
            code = 1
        assert code in (0, 1, 2), arguments
