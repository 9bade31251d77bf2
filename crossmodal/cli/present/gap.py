"""The modality gap for a terminal: before and after centring, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from crossmodal.cli.present.console import open_console, plain_table, shown
from crossmodal.cli.present.wording import counted

__all__ = ["print_gap"]

# Where each number is in the result, by what it is called; None for the heading of those that follow.
_ROWS: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("the gap", None),
    ("distance of the centroids", ("gap",)),
    ("mean cosine of two photos", ("cone", "image")),
    ("mean cosine of two captions", ("cone", "text")),
    ("mean cosine of a photo and its caption", ("matching",)),
    ("mean cosine of a photo and another caption", ("others",)),
    ("captions find their photo", None),
    ("hit@1", ("text2image", "hit@1")),
    ("hit@10", ("text2image", "hit@10")),
    ("MRR", ("text2image", "mrr")),
    ("photos find their captions", None),
    ("hit@1", ("image2text", "hit@1")),
    ("hit@10", ("image2text", "hit@10")),
    ("MRR", ("image2text", "mrr")),
    ("captions find captions of the same photo", None),
    ("hit@1", ("text2text", "hit@1")),
    ("hit@10", ("text2text", "hit@10")),
    ("MRR", ("text2text", "mrr")),
    ("captions search photos and captions together", None),
    ("captions among the first 10", ("mixed", "text", "own_modality@10")),
    ("hit@10 of their photo", ("mixed", "text", "hit@10")),
    ("photos search photos and captions together", None),
    ("photos among the first 10", ("mixed", "image", "own_modality@10")),
    ("hit@10 of their captions", ("mixed", "image", "hit@10")),
)


def print_gap(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``--gap``: each number before and after centring, then how it was measured."""
    console = open_console(file)
    split = f", split {result['split']}" if result["split"] else ""
    console.print(
        shown(f"The modality gap of {result['model']} on {result['data_set']}{split}", console, "bold")
    )
    table = plain_table()
    table.add_column("")
    for name in ("before", "after centring"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, path in _ROWS:
        if path is None:
            table.add_row(shown(label, console, "bold"))
        else:
            cells = [_written(_at(result[when], path), path) for when in ("before", "after")]
            table.add_row(f"  {label}", *cells)
    console.print(table)
    for line in _notes(result):
        console.print(shown(line, console, "dim"))


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = values
    for key in path:
        value = value[key]
    return None if value is None else float(value)


def _written(value: float | None, path: tuple[str, ...]) -> str:
    if value is None:
        return "-"
    if path[-1].endswith(("@1", "@10")):
        return f"{100 * value:.1f}%"
    # Without a minus in front of what rounds to zero.
    return f"{round(value, 3) + 0.0:.3f}"


def _notes(result: Mapping[str, Any]) -> list[str]:
    made_of, scored = (
        f"{counted(result[half]['photos'], 'photo')} and {counted(result[half]['captions'], 'caption')}"
        for half in ("means_of", "scored")
    )
    text, image = (result["before"]["mixed"][kind]["own_modality_in_gallery"] for kind in ("text", "image"))
    return [
        f"Measured on {scored}; the means that centring subtracts are those of the other {made_of}. The "
        "bytes of a photo decide its half.",
        "The distance is that of the mean unit vectors (Liang et al. 2022). Searched together, captions are "
        f"{text:.1%} of what a caption searches, photos {image:.1%} of what a photo searches.",
    ]
