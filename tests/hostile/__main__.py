"""``python -m tests.hostile``: every input there is, against real processes; exit code 1 where any failed.

``python -m tests.hostile http grpc`` tries these faces alone. ``--without-bombs`` leaves out the photos that
unpack to gigabytes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import TOY_IMAGES, children_of, free_port, run_app, start_server

from .attack import Report, call_grpc, run_command, send, send_all, try_call
from .http_inputs import bombs, http_inputs
from .other_inputs import command_lines, grpc_requests, python_calls

FACES = ("command-line", "http", "grpc", "python")
PHOTO = (TOY_IMAGES / "cat.jpg").read_bytes()


def main() -> int:
    """Runs them all and prints what became of them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("faces", nargs="*", metavar="FACE", help=", ".join(FACES))
    parser.add_argument("--without-bombs", action="store_true")
    asked = parser.parse_args()
    faces = asked.faces or FACES
    if unknown := set(faces) - set(FACES):
        parser.error(f"{min(unknown)!r} is not one of {', '.join(FACES)}")
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        done = run_app("index", "toy-data", "--workspace", workspace)
        if done.returncode:
            sys.exit(f"the toy data cannot be indexed: {done.stderr}")
        # First, while this process has no threads that a fork would lose.
        if "command-line" in faces:
            reports["command-line"] = attack_command_line(workspace, Path(folder))
        if {"http", "grpc"} & set(faces):
            reports |= attack_server(workspace, faces, bombs_too=not asked.without_bombs)
        if "python" in faces:
            reports["python"] = attack_python(workspace)
    return print_reports(reports)


def attack_command_line(workspace: Path, folder: Path) -> Report:
    """Runs each command line."""
    report = Report()
    empty = folder / "empty"
    empty.mkdir()
    for arguments in command_lines(workspace, empty):
        run_command(arguments, report, folder)
    return report


def attack_server(workspace: Path, faces: Collection[str], *, bombs_too: bool) -> dict[str, Report]:
    """Sends each request to one server, whose processes all have to be there afterwards."""
    reports = {}
    with_grpc = "grpc" in faces and sys.version_info < (3, 12)
    grpc_port = free_port()
    server = start_server(
        *("query_restful", "--workspace", workspace), *(("--grpc-port", grpc_port) if with_grpc else ())
    )
    port = int(server.url.rpartition(":")[2])
    processes = set(children_of(server.process.pid))
    if "http" in faces:
        reports["http"] = Report()
        inputs = itertools.chain(http_inputs(PHOTO), bombs() if bombs_too else ())
        send_all(port, inputs, reports["http"])
    if with_grpc:
        # Importing jina takes its time, and is no hang of the server.
        call_grpc(grpc_port, [("warm", "/search", [{"text": "a"}], {})], Report())
        reports["grpc"] = Report()
        call_grpc(grpc_port, grpc_requests(PHOTO), reports["grpc"])
    time.sleep(1)
    failures = next(iter(reports.values())).failures
    if lost := processes - set(children_of(server.process.pid)):
        failures.append(f"{len(lost)} processes of the server ended")
    if send(port, b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") != 200:
        failures.append("the server is not ready afterwards")
    if "Traceback" in (said := server.output()):
        failures.append("the server's output has a traceback: " + said[said.index("Traceback") :][:2000])
    server.stop()
    return reports


def attack_python(workspace: Path) -> Report:
    """Makes each call of ``PhotoIndex``."""
    from crossmodal import PhotoIndex

    report = Report()
    with PhotoIndex(workspace) as index:
        for name, call in python_calls(PHOTO):
            try_call(name, lambda call=call: call(index), report)
    return report


def print_reports(reports: dict[str, Report]) -> int:
    """Prints figures and failures; 1 where there are any."""
    for face, report in reports.items():
        counted = ", ".join(f"{outcome} {number}" for outcome, number in report.outcomes.most_common(9))
        print(f"{face}: {report.total} inputs, slowest {report.slowest:.1f} s: {counted}")
    failures = [f"{face}: {failure}" for face, report in reports.items() for failure in report.failures]
    print(f"{sum(report.total for report in reports.values())} inputs, {len(failures)} failures")
    for failure in failures:
        print(f"  {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
