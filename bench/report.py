"""Results as JSON, as a table on the terminal and in docs/performance.md, with the machine they are of."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from bench.cases import CASES
from bench.harness import REPOSITORY, Result
from crossmodal.cli.present.console import open_console, plain_table, shown
from crossmodal.errors import DataError
from crossmodal.machine import available_cores

__all__ = ["PAGE", "facts", "print_results", "read_results", "with_tables", "write_results", "write_tables"]

PAGE = REPOSITORY / "docs" / "performance.md"

_LIBRARIES = (
    "torch",
    "open_clip_torch",
    "openvino",
    "onnxruntime",
    "faiss-cpu",
    "numpy",
    "lmdb",
    "jina",
    "pillow",
)

# What decides how quickly small numbers are multiplied.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

_WIDTH_OF_FILES = 120


def facts(threads: int | None) -> dict[str, Any]:
    """The machine as it is now; ``threads`` is what a benchmark was limited to, None for one a core.

    ``load_average`` is that of the last minute, on ``cores`` cores.
    """
    cpu = _processor()
    return {
        "processor": cpu.get("model name", platform.processor() or platform.machine()),
        "instructions": [name for name in _INSTRUCTIONS if name in cpu.get("flags", "").split()],
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "threads": threads or available_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Writes a JSON list with an object for each result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> list[Result]:
    """The reverse of ``write_results``. Raises DataError where the file is no list of results."""
    try:
        return [
            Result(**{**values, "spread": values.get("spread") and tuple(values["spread"])})
            for values in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no results of a benchmark ({error}).") from error


def print_results(results: Sequence[Result], file: TextIO | None = None) -> None:
    """Prints a line for each result: its value, its ratio with quartiles, and whether its goal is reached."""
    console = open_console(file)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    table = plain_table()
    table.add_column("measured", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("reference", overflow="fold")
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("goal", no_wrap=True)
    for result in results:
        verdict = {True: "ok", False: "NOT MET", None: "not judged"}[result.ok]
        name, value, reference, ratio, goal = _cells(result, result.name)
        table.add_row(
            shown(name, console),
            value,
            shown(reference, console),
            ratio,
            f"{goal} {verdict}" if goal else "",
        )
    console.print(table)
    for machine in [result.machine for result in results if result.machine][:1]:
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        console.print(shown(f"{_one_line(machine)}; Python {machine['python']}, {versions}", console, "dim"))


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
        text = f"{text[: found.start()]}{_markdown(results)}\n{text[found.end() :]}"
    return text


def _markdown(results: Sequence[Result]) -> str:
    """The results of one benchmark as a table, with the machine below."""
    lines = ["| measured | value | reference | ratio (quartiles) | goal | ok |", "|---|---|---|---|---|---|"]
    for result in results:
        verdict = {True: "yes", False: "**no**", None: ""}[result.ok]
        cells = [*_cells(result, result.name.split(", ", 1)[-1]), verdict]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machine = results[0].machine
    return "\n".join([*lines, "", f"{_one_line(machine)}."] if machine else lines)


def _cells(result: Result, name: str) -> tuple[str, str, str, str, str]:
    """A result's name and note, value, reference, ratio with quartiles, and goal; empty what it lacks."""
    value = "" if result.value is None else f"{_number(result.value)} {result.unit}"
    reference = result.reference or ""
    if result.reference_value is not None:
        reference += f" ({_number(result.reference_value)})"
    ratio = "" if result.ratio is None else _number(result.ratio)
    if ratio and result.spread is not None and result.rounds > 1:
        ratio += f" ({_number(result.spread[0])}-{_number(result.spread[1])})"
    return f"{name}; {result.note}" if result.note else name, value, reference, ratio, result.goal or ""


def _number(value: float) -> str:
    """Three significant digits, thousands with commas; four decimals near 1, as in a recall of 0.9987."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 0.99 <= abs(value) < 1 else f"{value:.3g}"


def _case_of(result: Result) -> str:
    name = result.name.split(", ", 1)[0]
    if name not in CASES:
        raise DataError(f"{name!r} is no benchmark; there are {', '.join(CASES)}.")
    return name


def _one_line(machine: Mapping[str, Any]) -> str:
    """The facts as a person reads them, without versions."""
    threads = machine["threads"]
    before, after = machine["load_average"]
    instructions = ", ".join(machine["instructions"]) or "no AVX2"
    return (
        f"{machine['processor']}, {machine['cores']} cores ({instructions}), {machine['memory_gb']} GB; "
        f"{threads} thread{'' if threads == 1 else 's'}; load average {before} before, {after} after"
    )


def _processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"^([^\t\n]+)\t*: (.*)$", text.split("\n\n")[0], re.MULTILINE))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
