"""A calibration for a terminal: what it consists of, and how often its scores are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from crossmodal.cli.present.console import open_console, plain_table, shown
from crossmodal.cli.present.wording import counted

__all__ = ["print_calibration"]

_PAIRS = {
    "image_image": "two photos",
    "image_text": "a photo and a caption",
    "text_text": "two captions",
}
_TABLES = {"photo_caption": "a photo and a caption", "two_captions": "two captions"}


def print_calibration(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``--calibrate``: unrelated pairs, the fitted curve, and a reliability table a kind."""
    console = open_console(file)
    split = f", split {result['split']}" if result["split"] else ""
    title = f"The calibration of {result['model']} on {result['data_set']}{split}"
    console.print(shown(title, console, "bold"))
    calibration = result["calibration"]
    table = plain_table()
    table.add_column("cosines of unrelated pairs")
    for name in ("mean", "std"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, name in _PAIRS.items():
        pair = calibration[key]
        table.add_row(name, *(f"{pair[part] + 0.0:.3f}" for part in ("mean", "std")))
    console.print(table)
    for key, name in _TABLES.items():
        console.print(_reliability(name, result["reliability"][key]))
    for line in _notes(result):
        console.print(shown(line, console, "dim"))


def _reliability(name: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    table = plain_table()
    table.add_column(f"score of {name}")
    for heading in ("mean score", "share that matches", "matching", "unrelated"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shares = ("-" if row[key] is None else f"{100 * row[key]:.1f}%" for key in ("score", "observed"))
        bounds = f"{row['from']:g} to {row['to']:g}"
        table.add_row(bounds, *shares, f"{row['matching']:,}", f"{row['unrelated']:,}")
    return table


def _notes(result: Mapping[str, Any]) -> list[str]:
    fitted, scored = (
        f"{counted(result[half]['photos'], 'photo')} and {counted(result[half]['captions'], 'caption')}"
        for half in ("fitted", "scored")
    )
    calibration = result["calibration"]
    return [
        f"score = 1 / (1 + exp(-({calibration['slope']:.3f} z {calibration['intercept']:+.3f}))), where z is "
        "the cosine minus the mean, divided by the std.",
        f"Fitted on {fitted}, checked on the other {scored}; the bytes of a photo decide its half. Matching "
        f"pairs are weighted to {calibration['prior']:.0%} of all.",
    ]
