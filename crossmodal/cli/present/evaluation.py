"""An evaluation for a terminal: a metric a row, a direction a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TextIO

from crossmodal.cli.present.console import open_console, plain_table, shown
from crossmodal.cli.present.progress import IndexProgress

__all__ = ["EvaluationProgress", "print_evaluation"]

_DIRECTIONS = {"text2image": "text to image", "image2text": "image to text"}
_SEARCHED = {"text2image": "photos", "image2text": "captions"}
_NAMES = {"mrr": "MRR", "map": "mAP", "ndcg@10": "nDCG@10"}


class EvaluationProgress(IndexProgress):
    """The progress of an evaluation; ``stage`` says what it is doing."""

    label = "Evaluating"
    stage = "encoding"

    def counts(self) -> str:
        """``indexing, 2 failed``."""
        return f"{self.stage}, {self.failed:,} failed" if self.failed else self.stage


def print_evaluation(result: Mapping[str, Any], *, title: str, file: TextIO | None = None) -> None:
    """The result of ``-t evaluate``: each metric with its interval, then how it was measured."""
    console = open_console(file)
    directions = [name for name in _DIRECTIONS if name in result]
    table = plain_table()
    table.add_column("", no_wrap=True)
    for name in directions:
        table.add_column(_DIRECTIONS[name], justify="right", no_wrap=True)
        table.add_column("95% interval", justify="right", no_wrap=True)
    _add_row(table, "queries", [(f"{result['queries'][name]:,}", "") for name in directions])
    searched = [(f"{result['gallery'][name]:,} {_SEARCHED[name]}", "") for name in directions]
    _add_row(table, "gallery", searched)
    for metric in result[directions[0]]["intervals"]:
        cells = []
        for name in directions:
            write = _writer(metric)
            low, high = (write(bound) for bound in result[name]["intervals"][metric])
            cells.append(
                (write(result[name][metric]) + ("%" if _is_share(metric) else ""), f"{low} to {high}")
            )
        _add_row(table, _NAMES.get(metric, metric.replace("_", " ")), cells)
    console.print(shown(title, console, "bold"))
    console.print(table)
    for line in _how(result):
        console.print(shown(line, console, "dim"))


def _add_row(table: Any, name: str, cells: list[tuple[str, str]]) -> None:
    table.add_row(name, *[text for pair in cells for text in pair])


def _is_share(metric: str) -> bool:
    return metric.startswith(("hit@", "recall@"))


def _writer(metric: str) -> Callable[[float], str]:
    """Shares of queries or items in percent, ranks below 100 with one digit after the point."""
    if _is_share(metric):
        return lambda value: f"{100 * value:.1f}"
    if metric.endswith("_rank"):
        return lambda value: f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
    return lambda value: f"{value:.3f}"


def _how(result: Mapping[str, Any]) -> list[str]:
    folds = f", the mean of {result['folds']} folds" if result["folds"] > 1 else ""
    rounds = result["bootstrap"]["rounds"]
    return [
        f"Protocol {result['protocol']}{folds}: {result['protocol_source']}.",
        f"Relevance by photo id; {result['tie_rule']}. Intervals from {rounds:,} resamples of the photos, "
        "each with its captions.",
    ]
