"""What the browser tests need beside Python: Chromium and the npm packages of package-lock.json."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NODE_MODULES = Path(__file__).parent / "node_modules"

# The first is Chromium without windows at all: a third of the processor time of one that hides them.
_CHROMIUM_NAMES = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
)


def chromium() -> str:
    """The path of Chromium (or Chrome); without one the test is skipped, and with CI=true it fails."""
    found = next(filter(None, map(shutil.which, _CHROMIUM_NAMES)), None)
    if found is None:
        _missing(
            "Chromium is not installed; on Debian, `sudo apt-get install chromium-headless-shell` brings it."
        )
    return found


def npm_file(package: str, path: str) -> Path:
    """A file of an installed npm package; without it the test is skipped, and with CI=true it fails."""
    file = NODE_MODULES / package / path
    if not file.is_file():
        _missing(
            f"The npm package {package} is not installed; on Debian, `sudo apt-get install npm`, "
            "then `npm ci --prefix tests/browser`."
        )
    return file


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
