"""The table of the models that ``-m`` knows by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from crossmodal.cli.present.console import open_console, plain_table, shown
from crossmodal.cli.present.wording import file_size
from crossmodal.models.zoo import ModelRecord, Result

__all__ = ["print_models"]

# What all columns take.
_WIDE = 116

_STYLES = {"shipped": "green", "cached": "green", "download": None, "files": "dim"}


def print_models(rows: Sequence[tuple[ModelRecord, str]], cache: Path, file: TextIO | None = None) -> None:
    """One line a model, with where its weights are, then what the columns mean.

    A narrow terminal gets fewer columns; ``--json`` and the documentation have all of them.
    """
    console = open_console(file)
    wide = console.width >= _WIDE
    table = plain_table()
    for name in ("-m", "weights"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "dim", *(("px", "text") if wide else ()), "Flickr30k", "COCO"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("languages", "licence") if wide else ():
        table.add_column(name, no_wrap=True)
    for record, where in rows:
        length = "any" if record.text_length is None else f"{record.text_length:,}"
        table.add_row(
            shown(record.name, console, "bold" if where in ("shipped", "cached") else None),
            shown(where, console, _STYLES[where]),
            "" if record.download_size is None else file_size(record.download_size),
            str(record.dimension),
            *((str(record.preprocessing.size), length) if wide else ()),
            _both(record.result("flickr30k")),
            _both(record.result("coco")),
            *((record.languages, record.licence) if wide else ()),
        )
    console.print(table)
    for line in (*_own_results(rows), *_legend(rows, cache)):
        console.print(shown(line, console, "dim"), soft_wrap=True)


def _both(result: Result | None) -> str:
    return "" if result is None else f"{result.text_to_image:.1f}/{result.image_to_text:.1f}"


def _own_results(rows: Sequence[tuple[ModelRecord, str]]) -> list[str]:
    """What the shipped models were measured on: another data set, and so not beside the others' numbers."""
    return [
        f"{record.name}: {result.metric} on {result.data_set} {_both(result)}"
        for record, where in rows
        if where == "shipped"
        for result in record.results
    ]


def _legend(rows: Sequence[tuple[ModelRecord, str]], cache: Path) -> list[str]:
    trusted = [record.name for record, _ in rows if record.custom_code]
    return [
        "Flickr30k, COCO: recall@1 in percent, text to image / image to text, as published (docs/models.md "
        "has the sources). text: tokens that are read.",
        f"weights: shipped with this program, cached in {cache}, a download on first use, or only from local "
        "files with -m NAME:PATH, which works for all others too.",
        f"{' and '.join(trusted)} run code of their own, and need --trust-remote-code.",
        "Apple AMLR allows research only, CC-BY-NC-4.0 nothing commercial.",
    ]
