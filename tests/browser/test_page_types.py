"""The types of the page's scripts, which stand in their comments, hold: `tsc --checkJs`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

from browser.tools import npm_file

# What the server makes of its table of formats.
FORMATS = "export const ENDINGS: string[];\nexport const FORMATS: string;\nexport const VIDEOS: string[];\n"


def test_the_types_of_the_page_hold(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    compiler = npm_file("typescript", "bin/tsc")
    shutil.copytree(REPOSITORY / "crossmodal" / "server" / "page", tmp_path / "page")
    shutil.copy(Path(__file__).with_name("page.d.ts"), tmp_path)
    (tmp_path / "page" / "formats.d.ts").write_text(FORMATS)
    options = {
        "allowJs": True,
        "checkJs": True,
        "noEmit": True,
        "skipLibCheck": True,
        "target": "esnext",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["esnext", "dom", "dom.iterable"],
        "types": [],
    }
    settings = {"compilerOptions": options, "files": ["page.d.ts", "page/main.js", "page/theme.js"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [node, compiler, "-p", tmp_path], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.splitlines() == []
    assert done.returncode == 0
