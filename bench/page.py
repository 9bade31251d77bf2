"""Writes results into the marked sections of docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cases import CASES
from bench.machine import one_line
from bench.options import REPOSITORY
from bench.report import number, ratio_text, value_text
from bench.results import Result, read_results
from crossmodal.errors import DataError

__all__ = ["PAGE", "table", "with_tables", "write_tables"]

PAGE = REPOSITORY / "docs" / "performance.md"

_HEAD = "| measured | value | reference | ratio (quartiles) | goal | ok |\n|---|---|---|---|---|---|"
_MARKS = {True: "yes", False: "**no**", None: ""}


def write_tables(files: Sequence[Path], page: Path = PAGE) -> None:
    """Replaces each benchmark's table in ``page`` by its results in ``files``; a later file wins.

    Benchmarks without results keep the table that they have. Raises DataError for a file without results,
    and where a benchmark has no section.
    """
    if not files:
        raise DataError("No results are named; write them with: python -m bench all --json RESULTS.json")
    page.write_text(with_tables(page.read_text(encoding="utf-8"), map(read_results, files)), encoding="utf-8")


def with_tables(text: str, runs: Iterable[Sequence[Result]]) -> str:
    """``text`` with the section of each benchmark in ``runs`` replaced."""
    latest: dict[str, list[Result]] = {}
    for run in runs:
        of_run: dict[str, list[Result]] = {}
        for result in run:
            of_run.setdefault(_case_of(result), []).append(result)
        latest |= of_run
    for name, results in latest.items():
        found = re.search(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", text, re.DOTALL)
        if found is None:
            raise DataError(f"docs/performance.md has no section <!-- {name} --> ... <!-- end of {name} -->.")
        text = f"{text[: found.start()]}{table(results)}\n{text[found.end() :]}"
    return text


def table(results: Sequence[Result]) -> str:
    """The results of one benchmark in Markdown, with the machine below."""
    lines = [_HEAD]
    for result in results:
        reference = result.reference or ""
        if result.reference_value is not None:
            reference += f" ({number(result.reference_value)})"
        what = result.name.split(", ", 1)[-1] + (f"; {result.note}" if result.note else "")
        cells = (
            what,
            value_text(result),
            reference,
            ratio_text(result),
            result.goal or "",
            _MARKS[result.ok],
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machine = results[0].machine
    return "\n".join([*lines, "", f"{one_line(machine)}."] if machine else lines)


def _case_of(result: Result) -> str:
    name = result.name.split(", ", 1)[0]
    if name not in CASES:
        raise DataError(f"{name!r} is no benchmark; there are {', '.join(CASES)}.")
    return name
