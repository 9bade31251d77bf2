"""The types of the page's scripts, which stand in their comments, hold (`tsc --checkJs`); none are sent."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest
from conftest import REPOSITORY, Server

from browser.tools import npm_file

# What the server makes of its table of formats.
FORMATS = "export const ENDINGS: string[];\nexport const FORMATS: string;\nexport const VIDEOS: string[];\n"

PAGE = REPOSITORY / "crossmodal" / "server" / "page"

# Answers, for each two texts, what is left of them without comments and with the compiler's own layout.
_PRINTED = """
const ts = require(process.argv[1]);
const texts = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const options = {compilerOptions: {target: "esnext", module: "esnext", removeComments: true}};
console.log(JSON.stringify(texts.map(each => ts.transpileModule(each, options).outputText)));
"""


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


def test_scripts_are_sent_without_their_comments_and_with_all_else(node: str, toy_server: Server) -> None:
    names = sorted(path.name for path in PAGE.glob("*.js"))
    source = [(PAGE / name).read_text() for name in names]
    sent = [httpx2.get(f"{toy_server.url}/page/{name}").text for name in names]
    compiler = str(npm_file("typescript", "lib/typescript.js"))
    done = subprocess.run(
        [node, "-e", _PRINTED, compiler],
        input=json.dumps([*source, *sent]),
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    printed = json.loads(done.stdout)
    assert printed[: len(names)] == printed[len(names) :]
    assert all(printed)
    assert not [
        line for text in sent for line in text.splitlines() if line.lstrip().startswith(("//", "/**"))
    ]


def test_the_types_of_the_page_hold(node: str, tmp_path: Path) -> None:
    compiler = npm_file("typescript", "bin/tsc")
    shutil.copytree(PAGE, tmp_path / "page")
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
