"""The picture of a training run: loss and dev metrics by epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.training import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_training"]

_DIRECTIONS = {"text2image": ("text to image", "#1b6ca8"), "image2text": ("image to text", "#c8553d")}
_KEPT = "#2e8b57"


def draw_training(history: Path, picture: Path) -> None:
    """Draw ``history.json``: above the loss, below hit@10 of both directions on dev, with borders of stages.

    Each stage may have a loss of its own, so the line of losses is broken there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs: list[dict[str, Any]] = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    best = max(range(len(epochs)), key=lambda place: Epoch(**epochs[place]).score)
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, hits = figure.subplots(2, 1, sharex=True)
    for axes in (losses, hits):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(best, color=_KEPT, linewidth=1, linestyle=":")
        for border in _borders(epochs):
            axes.axvline(border, color="#999999", linewidth=1, linestyle="--")
    _draw_losses(losses, epochs)
    _draw_hits(hits, epochs, best)
    losses.set_ylabel("training loss")
    hits.set_ylabel("dev hit@10")
    hits.set_xlabel("epoch (0: the start; dashed: a new stage; dotted: the weights that were kept)")
    hits.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    hits.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(picture, dpi=150)


def _draw_losses(axes: Axes, epochs: Sequence[dict[str, Any]]) -> None:
    for stage in sorted({epoch["stage"] for epoch in epochs} - {0}):
        own = [place for place, epoch in enumerate(epochs) if epoch["stage"] == stage]
        values = [epochs[place]["loss"] for place in own]
        axes.plot(own, values, color="#444444", marker="o", markersize=3)


def _draw_hits(axes: Axes, epochs: Sequence[dict[str, Any]], best: int) -> None:
    """One line a direction, named in its colour, with its value at ``best``: the upper line's above it."""
    lines = {
        direction: [epoch["metrics"][direction]["hit@10"] for epoch in epochs] for direction in _DIRECTIONS
    }
    upper = max(lines, key=lambda direction: lines[direction][best])
    for direction, values in lines.items():
        label, colour = _DIRECTIONS[direction]
        above = direction == upper
        axes.plot(values, color=colour, marker="o", markersize=3)
        axes.annotate(
            f"{label} {values[best]:.1%}",
            (best, values[best]),
            (-6 if best > len(epochs) / 2 else 6, 8 if above else -8),
            textcoords="offset points",
            ha="right" if best > len(epochs) / 2 else "left",
            va="bottom" if above else "top",
            color=colour,
        )
    trained = [value for values in lines.values() for value in values[1:]]
    if not trained:
        return
    # A model that knew nothing at the start would press everything else into a narrow band.
    low, high = min(trained), max(trained)
    start = min(values[0] for values in lines.values())
    low = start if start >= low - (high - low) else low
    room = max(0.25 * (high - low), 0.02)
    axes.set_ylim(max(low - room, -0.004), min(high + room, 1.004))


def _borders(epochs: Sequence[dict[str, Any]]) -> list[float]:
    """Where stages after the first begin, between two epochs."""
    return [
        place - 0.5 for place in range(2, len(epochs)) if epochs[place]["stage"] != epochs[place - 1]["stage"]
    ]
