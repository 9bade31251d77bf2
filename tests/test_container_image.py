"""The Dockerfile, really built and started: its size, and what it answers to whom.

No container engine is needed. buildah builds it on a Debian 12 with Python 3.11 that debootstrap makes, which
stands for the base that the Dockerfile names. The image then runs as an engine would run it: as the first
process of namespaces of its own, on a read-only root, as a user that it doesn't know.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, TOY_IMAGES
from two_networks import Machine, hosts_on_a_bridge, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PORT = 45678
ADDRESS = "10.78.0.1"
MOST_MB = 800

# A stranger to the image's /etc/passwd, whose home folder isn't there.
SOMEBODY = "1000:1000"

PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")

# What an engine mounts, and one folder in memory. $0 is the root, the rest the image's own command.
_AS_AN_ENGINE = """
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
mount -t proc proc "$0/proc"
mount -t sysfs sysfs "$0/sys"
mount -t tmpfs tmpfs "$0/tmp"
mount --rbind /dev "$0/dev"
exec "$@"
"""


@dataclass(frozen=True)
class Image:
    """What was built: its files, what its configuration says, and the bytes of its layers."""

    root: Path
    config: dict[str, Any]
    bytes: int

    def inside(self, command: list[str]) -> list[str]:
        """A command line that runs ``command`` in the image, as a user who isn't root."""
        variables = [*self.config["Env"], "HOME=/"]
        start = ["chroot", f"--userspec={SOMEBODY}", str(self.root), "/usr/bin/env", "-i", *variables]
        folder = self.config["WorkingDir"]
        return [*start, "/bin/sh", "-c", 'cd "$0" && exec "$@"', folder, *command]


class Builder:
    """buildah with its layers in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", str(folder / "layers"), "--runroot", str(folder / "run")]

    def __call__(self, *arguments: str | Path) -> str:
        command = ["buildah", *self._options, "--storage-driver", "vfs", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def make_base(self, root: Path) -> None:
        """Debian 12 with its Python 3.11 under the name of the base, `python` and `pip` on its path."""
        (name,) = set(re.findall(r"^FROM (\S+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE))
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
        for folder in _NOT_NEEDED:
            shutil.rmtree(root / folder)
        for program in ("python", "pip"):
            (root / "usr/local/bin" / program).symlink_to(f"/usr/bin/{program}3")
        container = self("from", "scratch")
        self("add", "--quiet", container, root, "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        self("commit", "--quiet", container, name if "/" in name else f"docker.io/library/{name}")
        self("rm", container)

    def build(self) -> Image:
        """The image of the Dockerfile."""
        volumes = [f"--volume={path}:{path}:ro" for path in files_of_pip()]
        self(
            "build",
            "--format=docker",
            "--isolation=chroot",
            "--pull-never",
            "--network=host",
            *volumes,
            "-t",
            "it",
            REPOSITORY,
        )
        described = json.loads(self("inspect", "--type", "image", "it"))
        (listed,) = json.loads(self("images", "--json", "it"))
        root = self("mount", self("from", "--pull-never", "it"))
        return Image(Path(root), described["Docker"]["config"], round(_megabytes(listed["size"]) * 1e6))


def _megabytes(size: str) -> float:
    number, unit = size.split()
    return float(number) * {"MB": 1, "GB": 1000}[unit]


def files_of_pip() -> list[str]:
    """What pip is configured with and by of this machine's files, so that it finds them while it builds."""
    listed = subprocess.run(["pip", "config", "debug"], capture_output=True, text=True, check=True).stdout
    named = {found.removesuffix("/simple") for found in re.findall(r"(?:file://)?(/[^\s',]+)", listed)}
    return sorted(path for path in named if Path(path).exists())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed; on Debian, `sudo apt-get install {program}` brings it.")
    if os.geteuid() != 0:
        missing("Only root can make the base of the image: run this test as root.")
    folder = tmp_path_factory.mktemp("image")
    builder = Builder(folder)
    try:
        builder.make_base(folder / "base")
        yield builder.build()
    finally:
        with suppress(AssertionError):
            builder("umount", "--all")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(image: Image, machine: Machine, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``unshare``, whose only child is the image's command, as the first process of its namespace."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _AS_AN_ENGINE]
    command += [str(image.root), *image.inside(image.config["Cmd"])]
    with log.open("wb") as file:
        process = machine.run(subprocess.Popen, command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked(machine: Machine, path: str, body: object = None) -> Any:
    """What the server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADDRESS}:{PORT}{path}", data)
    request.add_header("Content-Type", "application/json")
    return json.loads(machine.run(lambda: urllib.request.urlopen(request, timeout=20).read()))


def wait_until_ready(machine: Machine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        with suppress(OSError):
            assert asked(machine, "/readyz")["status"] == "ready"
            return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


def test_the_image_is_small(image: Image) -> None:
    assert image.bytes <= MOST_MB * 1e6


def test_it_serves_the_toy_photos_to_anybody_and_ends_when_told(image: Image, tmp_path: Path) -> None:
    log = tmp_path / "log"
    sentence = "a cup of coffee on a wooden table"
    with hosts_on_a_bridge(ADDRESS) as (_, machine), started(image, machine, log) as process:
        wait_until_ready(machine, process, log)
        found = asked(machine, "/search", {"data": [sentence], "top_k": 3})
        (document,) = found["search"]["docs"]
        photo = document["matches"][0]
        # A photo's id is the beginning of the SHA-256 of its file.
        assert hashlib.sha256((TOY_IMAGES / "coffee.jpg").read_bytes()).hexdigest().startswith(photo["id"])
        (result,) = asked(machine, "/v1/search", {"text": sentence, "top_k": 3})["results"]
        assert [match["id"] for match in result["matches"]] == [match["id"] for match in document["matches"]]

        kind, *check = image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        # As an engine asks: in the container's network, for its exit status.
        checked = machine.run(subprocess.run, image.inside(check), capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr

        (first,) = children(process.pid)
        os.kill(first, signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
        # With the first process of its namespace all others are gone.
        assert not Path(f"/proc/{first}").exists()
        assert "stopped" in log.read_text()
