"""The picture of a training run: loss and dev metrics by epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw_training"]

_DIRECTIONS = {"text2image": ("text to image", "#1b6ca8"), "image2text": ("image to text", "#c8553d")}


def draw_training(history: Path, picture: Path) -> None:
    """Draw ``history.json``: above the loss, below hit@10 of both directions on dev, with borders of stages.

    Each stage may have a loss of its own, so the line of losses is broken there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs: list[dict[str, Any]] = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    places = list(range(len(epochs)))
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, hits = figure.subplots(2, 1, sharex=True)
    for stage in sorted({epoch["stage"] for epoch in epochs} - {0}):
        own = [place for place in places if epochs[place]["stage"] == stage]
        losses.plot(own, [epochs[place]["loss"] for place in own], color="#444444", marker="o", markersize=3)
    for direction, (label, colour) in _DIRECTIONS.items():
        values = [epoch["metrics"][direction]["hit@10"] for epoch in epochs]
        hits.plot(places, values, color=colour, marker="o", markersize=3, label=label)
        hits.annotate(
            f"{max(values):.1%}",
            (values.index(max(values)), max(values)),
            (0, 6),
            color=colour,
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    best = max(places, key=lambda place: _score(epochs[place]))
    for axes in (losses, hits):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(best, color="#2e8b57", linewidth=1, linestyle=":")
        for border in _borders(epochs):
            axes.axvline(border, color="#999999", linewidth=1, linestyle="--")
    losses.set_ylabel("training loss")
    hits.set_ylabel("dev hit@10")
    hits.set_xlabel("epoch (0 is the start; dashed: a new stage; dotted: the weights that were kept)")
    hits.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    hits.xaxis.set_major_locator(MaxNLocator(integer=True))
    hits.margins(y=0.15)
    hits.legend(frameon=False, loc="lower right")
    figure.savefig(picture, dpi=150)


def _borders(epochs: Sequence[dict[str, Any]]) -> list[float]:
    """Where stages after the first begin, between two epochs."""
    return [
        place - 0.5 for place in range(2, len(epochs)) if epochs[place]["stage"] != epochs[place - 1]["stage"]
    ]


def _score(epoch: dict[str, Any]) -> float:
    return float(sum(epoch["metrics"][direction]["hit@10"] for direction in _DIRECTIONS))
