"""Models side by side for a terminal: a model a column, a number a row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from crossmodal.cli.present.console import open_console, plain_table, shown
from crossmodal.cli.present.wording import file_size

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DIRECTION_NAMES", "print_comparison"]

DIRECTION_NAMES: Mapping[str, str] = {"text2image": "text to image", "image2text": "image to text"}

_METRICS = {"hit@1": "hit@1", "hit@5": "hit@5", "hit@10": "hit@10", "mrr": "MRR"}

# Of the names of rows, and of a column with a number and its interval.
_LABEL_CELLS = 17
_COLUMN_CELLS = 21


def print_comparison(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``--compare``; as many tables as it takes for the models to fit the width."""
    console = open_console(file)
    split = f", split {result['split']}" if result["split"] else ""
    models = result["models"]
    directions = [name for name in DIRECTION_NAMES if name in models[0]]
    queries, gallery = models[0]["queries"], models[0]["gallery"]
    counts = "; ".join(
        f"{DIRECTION_NAMES[name]} {queries[name]:,} queries, {gallery[name]:,} searched"
        for name in directions
    )
    console.print(shown(f"{result['data_set']}{split}, protocol {result['protocol']}", console, "bold"))
    console.print(shown(counts, console, "dim"))
    size = max(1, (console.width - _LABEL_CELLS) // _COLUMN_CELLS)
    for start in range(0, len(models), size):
        console.print()
        _print_models(models[start : start + size], directions, console)
    console.print()
    for line in _notes(result):
        console.print(shown(line, console, "dim"))


def _print_models(models: Sequence[Mapping[str, Any]], directions: Sequence[str], console: Console) -> None:
    from rich.text import Text

    table = plain_table()
    # Narrower than elsewhere: three models then fit 80 columns.
    table.padding = (0, 1, 0, 0)
    table.add_column("", no_wrap=True)
    for model in models:
        name = Text("\n").join(shown(line, console) for line in _lines(model["model"], _COLUMN_CELLS - 2))
        table.add_column(name, justify="right", overflow="fold", max_width=_COLUMN_CELLS - 2)
    for direction in directions:
        table.add_row(shown(DIRECTION_NAMES[direction], console, "bold"))
        for metric, label in _METRICS.items():
            cells = [_measured(model[direction], metric) for model in models]
            table.add_row(f"  {label}", *cells)
    table.add_row(
        "quality",
        *[_with_interval(100, model["quality"]["value"], model["quality"]["interval"]) for model in models],
    )
    for key, label in (("photos_per_second", "photos/s"), ("captions_per_second", "captions/s")):
        table.add_row(label, *[_speed(model[key]) for model in models])
    table.add_row("dimension", *[f"{model['dimension']:,}" for model in models])
    table.add_row("weights on disk", *[file_size(model["weights_bytes"]) for model in models])
    marks = [shown("yes", console, "bold green") if model["pareto_optimal"] else "no" for model in models]
    table.add_row("Pareto-optimal", *marks)
    console.print(table)


def _lines(name: str, cells: int) -> list[str]:
    """``name`` broken behind slashes and before question marks where it is longer than ``cells``."""
    lines = [""]
    for part in re.findall(r"[^/?]*/|\??[^/?]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > cells:
            lines.append("")
        lines[-1] += part
    return lines


def _measured(metrics: Mapping[str, Any], name: str) -> str:
    return _with_interval(1 if name == "mrr" else 100, metrics[name], metrics["intervals"][name])


def _with_interval(factor: int, value: float, interval: Sequence[float]) -> str:
    """``58.8% (57.0-60.6)`` for a share, ``0.366 (0.352-0.380)`` for a factor of 1."""
    digits, sign = (3, "") if factor == 1 else (1, "%")
    low, high = (f"{factor * bound:.{digits}f}" for bound in interval)
    return f"{factor * value:.{digits}f}{sign} ({low}-{high})"


def _speed(speed: Mapping[str, float]) -> str:
    return f"{_number(speed['median'])} ({_number(speed['min'])}-{_number(speed['max'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _notes(result: Mapping[str, Any]) -> list[str]:
    speed = result["speed"]
    before, after = speed["load_average"]
    return [
        f"Quality is {result['quality_rule']}. In brackets: 95% intervals from resampled photos.",
        f"Speed: median (lowest-highest) of {speed['rounds']} rounds in which the models take turns on the "
        f"same {speed['photos']} photos (decoding and resizing included) and {speed['captions']} captions, "
        f"on {speed['threads']} thread. The load average was {before:.1f} before and {after:.1f} after.",
        result["pareto_rule"],
    ]
