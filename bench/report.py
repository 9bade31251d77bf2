"""Results as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from bench.machine import one_line
from bench.results import Result
from crossmodal.cli.present.console import open_console, plain_table, shown

__all__ = ["number", "print_results", "ratio_text", "value_text"]

_WIDTH_OF_FILES = 120


def print_results(results: Sequence[Result], file: TextIO | None = None) -> None:
    """Prints a line for each result: its value, its ratio with quartiles, and whether its goal is reached."""
    if not results:
        return
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
        reference = result.reference or ""
        if result.reference_value is not None:
            reference += f" ({number(result.reference_value)})"
        verdict = {True: "ok", False: "NOT MET", None: "not judged"}[result.ok]
        name = f"{result.name}; {result.note}" if result.note else result.name
        table.add_row(
            shown(name, console),
            value_text(result),
            shown(reference, console),
            ratio_text(result),
            f"{result.goal} {verdict}" if result.goal else "",
        )
    console.print(table)
    machine = results[0].machine
    if machine:
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        console.print(shown(f"{one_line(machine)}; Python {machine['python']}, {versions}", console, "dim"))


def ratio_text(result: Result) -> str:
    """The median ratio and its quartiles, ``1.24 (1.20-1.27)``; empty without a reference."""
    if result.ratio is None:
        return ""
    if result.spread is None or result.rounds == 1:
        return number(result.ratio)
    low, high = result.spread
    return f"{number(result.ratio)} ({number(low)}-{number(high)})"


def value_text(result: Result) -> str:
    """The value with its unit; empty where nothing could be measured."""
    return "" if result.value is None else f"{number(result.value)} {result.unit}"


def number(value: float) -> str:
    """Three significant digits, thousands with commas; a value near 1 keeps what tells it from 1."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if 0.99 <= abs(value) < 1:
        return f"{value:.4f}"
    return f"{value:.3g}"
