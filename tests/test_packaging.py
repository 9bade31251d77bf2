"""The wheel and the sdist: what is in them, and that the wheel does its work in an empty environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from conftest import REPOSITORY, TOY_IMAGES, clean_environment, free_port
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

import crossmodal

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIST_INFO = f"crossmodal_search-{crossmodal.__version__}.dist-info"

# What an installation without extras may take, in MiB.
LARGEST_BASE = 600


def build(kind: str, source: Path, target: Path) -> Path:
    """A wheel or an sdist of the project in ``source``, made with the backend that is installed here."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", REPOSITORY, tmp_path_factory.mktemp("sdist"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{DIST_INFO}/METADATA").decode())


def files_below(folder: str, pattern: str = "*") -> set[str]:
    return {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / folder).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_nothing_but_the_package_gets_into_site_packages(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == {"crossmodal", DIST_INFO}


def test_everything_that_the_package_needs_is_in_the_wheel(wheel: Path) -> None:
    expected = files_below("crossmodal") | {
        f"crossmodal/{name}" for name in files_below("flows") | files_below("executors")
    }
    found = {name for name in names(wheel) if name.startswith("crossmodal/")}
    assert found == expected
    for file in (
        "crossmodal/py.typed",
        "crossmodal/flows/flow-index.yml",
        "crossmodal/flows/flow-query.yml",
        "crossmodal/executors/executor.py",
        "crossmodal/executors/joiner/config.yml",
        "crossmodal/server/page/index.html",
        "crossmodal/server/v1/openapi.yaml",
        "crossmodal/models/native/weights/clip-mini/text.safetensors",
        "crossmodal/training/configs/clip-mini-flickr8k.json",
    ):
        assert file in found


def test_the_metadata_are_those_of_the_project(wheel: Path) -> None:
    held = metadata(wheel)
    assert (held["Name"], held["Version"]) == ("crossmodal-search", crossmodal.__version__)
    assert held["License-Expression"] == "Apache-2.0"
    assert held["Requires-Python"] == ">=3.11"
    assert held["Author"] == "the crossmodal-search authors"
    assert held.get_payload().startswith("# Cross-modal search")
    extras = {"all", "clip", "convert", "jina", "onnx", "otel", "places", "parquet", "plot", "train"}
    extras |= {"jxl", "mcp", "milvus", "ocr", "postgres", "qdrant", "raw", "ray", "s3", "video"}
    assert set(held.get_all("Provides-Extra", [])) == extras
    assert {f"{DIST_INFO}/licenses/LICENSE", f"{DIST_INFO}/licenses/NOTICE"} <= names(wheel)
    with zipfile.ZipFile(wheel) as archive:
        scripts = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
    assert "crossmodal = crossmodal.__main__:main" in scripts


def test_the_licence_is_whole() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_notice_names_every_photo_and_every_model() -> None:
    from crossmodal.models.native.checkpoint import SHIPPED

    notice = (REPOSITORY / "NOTICE").read_text(encoding="utf-8")
    assert [path.name for path in TOY_IMAGES.iterdir() if path.name not in notice] == []
    assert [name for name in SHIPPED if not re.search(rf"^{name}$", notice, re.MULTILINE)] == []


def test_the_version_stands_in_one_place() -> None:
    files = [REPOSITORY / "app.py", REPOSITORY / "pyproject.toml", *(REPOSITORY / "crossmodal").rglob("*.py")]
    held = [path for path in files if f'"{crossmodal.__version__}"' in path.read_text(encoding="utf-8")]
    assert held == [REPOSITORY / "crossmodal" / "__init__.py"]
    assert f"## [{crossmodal.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_sdist_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", source, tmp_path / "wheel")
    assert names(again) == names(wheel)
    # What a packager needs to check it: the tests, what they run on, and what `make` needs.
    for file in ("tests/conftest.py", "data/toy-data/captions.txt", "Makefile", ".ci/find-python"):
        assert (source / file).is_file(), file


def requirements(*files: str) -> dict[str, list[Requirement]]:
    """The requirements of pip's files by name."""
    found: dict[str, list[Requirement]] = {}
    for file in files:
        for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith(("#", "-")):
                requirement = Requirement(line)
                found.setdefault(canonical(requirement.name), []).append(requirement)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_pinned_versions_are_those_that_the_project_asks_for(python: str) -> None:
    def applies(marker: Marker | None) -> bool:
        return marker is None or marker.evaluate({"python_version": python, "extra": ""})

    pins: dict[str, str] = {}
    for name, lines in requirements("constraints.txt").items():
        held = [line for line in lines if applies(line.marker)]
        assert len(held) == 1, f"{name} has {len(held)} versions on Python {python}"
        (pin,) = held[0].specifier
        assert pin.operator == "=="
        pins[name] = pin.version
    # In no environment with the others.
    apart = ("requirements-mcp.txt", "requirements-ray.txt")
    for name, (line,) in requirements(*apart).items():
        (pin,) = line.specifier
        pins[name] = pin.version

    base, full = (
        requirements("requirements-base.txt"),
        requirements(*(f"requirements{extra}.txt" for extra in ("", "-clip", "-jina", "-stores")), *apart),
    )
    extras = [line for name, lines in PROJECT["optional-dependencies"].items() for line in lines]
    for texts, files in ((PROJECT["dependencies"], base), (extras, {**base, **full})):
        for requirement in map(Requirement, texts):
            name = canonical(requirement.name)
            if name == "crossmodal-search" or not applies(requirement.marker):
                continue
            assert requirement.specifier.contains(pins[name]), f"{requirement}: {pins[name]}"
            # What jina brings along is pinned, and not asked for by name.
            assert name in files or name.startswith(("opentelemetry", "grpcio")), name
    wanted = {canonical(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert set(base) == wanted
    for lines in (*base.values(), *full.values(), *requirements("requirements-test.txt").values()):
        for line in lines:
            if applies(line.marker) and line.specifier:
                assert line.specifier.contains(pins[canonical(line.name)]), line


def test_jina_is_asked_for_where_it_can_be_installed() -> None:
    jina = [Requirement(text) for text in PROJECT["optional-dependencies"]["jina"]]
    assert all(str(requirement.marker) == 'python_version < "3.12"' for requirement in jina)


class Installation:
    """An environment with the wheel in it, used from a folder that has nothing to do with the checkout."""

    def __init__(self, python: Path, elsewhere: Path) -> None:
        self.python = python
        self.elsewhere = elsewhere
        self.photos = elsewhere / "photos"
        self.photos.mkdir(parents=True)
        for name in ("cat.jpg", "coffee.jpg", "rocket.jpg", "stair-tower.jpg"):
            shutil.copy(TOY_IMAGES / name, self.photos)

    def environment(self) -> dict[str, str]:
        left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        held = {name: value for name, value in clean_environment().items() if name not in left_out}
        # Nothing may be read from or written to the home folder of whoever runs the tests.
        return {**held, "HOME": str(self.elsewhere)}

    def run(self, *arguments: str) -> str:
        """What ``crossmodal ARGUMENTS`` prints."""
        done = subprocess.run(
            [str(self.python.parent / "crossmodal"), *arguments],
            cwd=self.elsewhere,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def server(self) -> Iterator[str]:
        """The address of ``crossmodal serve``."""
        port = free_port()
        log = self.elsewhere / "serve.log"
        with log.open("wb") as held:
            process = subprocess.Popen(
                [str(self.python.parent / "crossmodal"), "serve", "--workspace", "W", "--port", str(port)],
                cwd=self.elsewhere,
                env=self.environment(),
                stdout=held,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + 90
            while "serving" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()


def answer(url: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as held:
        return bytes(held.read())


def works(installed: Installation) -> None:
    """Indexes, searches and serves with what is installed."""
    assert installed.run("--version").split() == ["crossmodal", crossmodal.__version__]
    installed.run("index", "photos", "--workspace", "W")
    searched = installed.run("search", "a rocket on its launch pad", "--workspace", "W", "--json")
    first = json.loads(searched)["results"][0]["matches"][0]
    assert first["file"] == "rocket.jpg"
    with installed.server() as url:
        page = answer(url + "/").decode()
        assert "<title>" in page
        for file in re.findall(r'(?:src|href)="(/?[\w./-]+\.(?:js|css|svg))"', page):
            assert answer(f"{url}/{file.lstrip('/')}")
        assert json.loads(answer(url + "/v1/openapi.json"))["openapi"].startswith("3.")
        found = json.loads(answer(url + "/v1/search", {"text": "a cup of coffee", "top_k": 1}))
        assert "coffee.jpg" in json.dumps(found)
    where = "import crossmodal; print(crossmodal.__file__)"
    done = subprocess.run(
        [str(installed.python), "-c", where],
        cwd=installed.elsewhere,
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(installed.python.parents[1])


def new_environment(folder: Path) -> Path:
    """The Python of a new, empty virtual environment."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def pip(python: Path, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_the_wheel_works_beside_the_packages_that_are_here(wheel: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "environment")
    done = pip(python, "--no-deps", "--no-index", str(wheel), timeout=120)
    assert done.returncode == 0, done.stderr
    # Its dependencies come from here, the package itself doesn't: it stands first on the path.
    (here,) = {path for path in sys.path if path.endswith("site-packages") and Path(path, "numpy").exists()}
    (site_packages,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    (site_packages / "here.pth").write_text(here + "\n", encoding="utf-8")
    works(Installation(python, tmp_path / "elsewhere"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_works_in_an_empty_environment_and_takes_little(wheel: Path, tmp_path: Path) -> None:
    """What ``pip install`` brings is enough, and is below the limit."""
    python = new_environment(tmp_path / "environment")
    done = pip(python, "-c", str(REPOSITORY / "constraints.txt"), str(wheel), timeout=500)
    if done.returncode != 0 and not os.environ.get("CI"):
        pytest.skip(f"pip could not install the dependencies: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    works(Installation(python, tmp_path / "elsewhere"))
    size = int(subprocess.check_output(["du", "-sm", tmp_path / "environment"]).split()[0])
    assert size <= LARGEST_BASE
    (site_packages,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    for package in ("torch", "jina", "docarray", "pydantic", "onnx", "matplotlib"):
        assert not (site_packages / package).exists(), package


def test_the_lowest_python_is_said_once() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    lowest = Version(PROJECT["requires-python"].removeprefix(">="))
    said = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert min(map(Version, said)) == lowest


def test_the_hooks_run_the_ruff_that_the_tests_run() -> None:
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (ruff,) = requirements("requirements-test.txt")["ruff"]
    assert f"ruff-pre-commit\n    rev: v{str(ruff.specifier).removeprefix('==')}\n" in hooks


def test_the_workflows_call_targets_of_the_makefile_on_every_python() -> None:
    workflow = (REPOSITORY / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"run: make ([\w-]+)", workflow)
    assert set(targets) == {"test", "test-short", "package"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert 'python: ["3.11", "3.12", "3.13"]' in workflow


def test_every_short_test_exists() -> None:
    listed = (REPOSITORY / "tests" / "short.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if not line.startswith("#") and not (REPOSITORY / line).is_file()] == []
