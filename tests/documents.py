"""What the documents hold that can be tried: command lines, Python, links."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

from conftest import REPOSITORY

from crossmodal.cli.arguments import read_settings

PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    REPOSITORY / "data" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]


def unfenced(text: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[list[str]]:
    """The arguments of each `crossmodal` and `python app.py`, in blocks of code and in the prose.

    In the prose, a command whose words stand for others (``crossmodal COMMAND``) is none.
    """
    blocks = re.findall(r"^(?:crossmodal|python app\.py) +(.*)$", text, re.MULTILINE)
    spans = re.findall(r"`(?:crossmodal|python app\.py) ([^`]+)`", unfenced(text))
    spans = [span for span in spans if not re.search(r"\b(?:TASK|COMMAND)\b", span)]
    return [shlex.split(line, comments=True) for line in (*blocks, *spans)]


def refused_commands(text: str) -> list[list[str]]:
    """Those of the command lines that the program doesn't accept."""
    refused = []
    for arguments in command_lines(text):
        try:
            read_settings(arguments, {})
        except SystemExit as end:
            if end.code:
                refused.append(arguments)
    return refused


def dead_links(page: Path) -> list[str]:
    """Links of a page to files that don't exist."""
    targets = re.findall(
        r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", unfenced(page.read_text(encoding="utf-8"))
    )
    return [target for target in targets if not (page.parent / target).exists()]


def unknown_extras(text: str) -> set[str]:
    """Extras that a `pip install` in a document asks for and that the project hasn't."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.findall(r"(?:\.|crossmodal-search)\[([\w,]+)\]", text)
    return {name for names in asked for name in names.split(",")} - set(project["optional-dependencies"])


def python_examples(text: str, start: str) -> list[str]:
    """The Python examples that begin with ``start``."""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [code for code in blocks if code.startswith(start)]
