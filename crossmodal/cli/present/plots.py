"""The plots of ``evaluate --compare``, ``evaluate --gap`` and ``train``, with matplotlib."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.cli.present.console import file_size, printable, shortened_left
from crossmodal.cli.present.evaluation import DIRECTION_NAMES
from crossmodal.errors import StoreUnwritable
from crossmodal.evaluation.encoding import EncodedSet
from crossmodal.evaluation.gap import GapMeasurement, principal_plane
from crossmodal.training import Epoch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_comparison", "write_gap", "write_training"]

_NAME_CELLS = 40

# More pairs than these hide each other.
_PAIRS = 200


def write_comparison(result: Mapping[str, Any], path: Path) -> None:
    """Draws the models of ``--compare``: quality upwards, photos a second to the right on a log scale.

    Bars show the 95% interval of the quality, and the slowest and the fastest round. Raises StoreUnwritable
    where the file cannot be written; its folder is made.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, ScalarFormatter

    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    front = []
    for number, model in enumerate(result["models"]):
        speed, quality, optimal = model["photos_per_second"], model["quality"], model["pareto_optimal"]
        name = printable(shortened_left(model["model"], _NAME_CELLS))
        # A name may hold dollars, between which matplotlib would set a formula.
        described = f"{name}\n{model['dimension']:,}-d, {file_size(model['weights_bytes'])}".replace(
            "$", r"\$"
        )
        axes.errorbar(
            speed["median"],
            quality["value"],
            xerr=[[speed["median"] - speed["min"]], [speed["max"] - speed["median"]]],
            yerr=[[quality["value"] - quality["interval"][0]], [quality["interval"][1] - quality["value"]]],
            # Models beyond the ten colours of the cycle have another marker.
            fmt="osD^v"[number // 10 % 5],
            markersize=8,
            markerfacecolor=None if optimal else "white",
            label=described,
        )
        if optimal:
            front.append((speed["median"], quality["value"]))
    front.sort()
    label = "Pareto front (dominated models are hollow)"
    axes.step(*zip(*front, strict=True), where="pre", color="gray", linestyle="--", label=label, zorder=1)
    axes.set_xscale("log")
    # Whole numbers, closer together where all models are nearly as fast.
    speeds = [model["photos_per_second"][key] for model in result["models"] for key in ("min", "max")]
    axes.set_xlim(min(speeds) / 1.2, max(speeds) * 1.2)
    narrow = max(speeds) < 4 * min(speeds)
    axes.xaxis.set_major_locator(LogLocator(subs=range(1, 10) if narrow else (1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    speed = result["speed"]
    axes.set_xlabel(
        f"photos a second, decoding included ({speed['threads']} thread, median of {speed['rounds']} rounds, "
        f"load average {max(speed['load_average']):.1f})"
    )
    directions = [label for name, label in DIRECTION_NAMES.items() if name in result["models"][0]]
    axes.set_ylabel("hit@10, " + ("mean of both directions" if len(directions) > 1 else directions[0]))
    axes.set_title(f"Quality and speed on {_data_of(result)}", loc="left", parse_math=False)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", title="bars: 95% interval; slowest to fastest round")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StoreUnwritable(
            f"The picture {path} cannot be written ({error.strerror}); choose another folder with --output."
        ) from error


def write_gap(result: Mapping[str, Any], measured: GapMeasurement, path: Path) -> None:
    """Draws up to 200 photos, each joined with its first caption, on their two principal components.

    Each panel, before and after centring, has its own components, and both have the same scale. The folder
    must exist.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = {"before": "As the model encodes them", "after": "After centring each modality"}
    reach = 0.0
    for axes, encoded, (when, title) in zip(
        panels, (measured.scored, measured.centred), titles.items(), strict=True
    ):
        places, explained = principal_plane(_pairs(encoded))
        photos, captions = np.split(places, 2)
        first, *_ = axes.plot(*np.stack([photos, captions]).T, color="gray", linewidth=0.6, alpha=0.35)
        first.set_label("a photo and its caption")
        for points, color, marker, name in ((photos, "C0", "o", "photos"), (captions, "C1", "^", "captions")):
            axes.scatter(*points.T, s=16, c=color, marker=marker, alpha=0.75, label=name, zorder=2)
        for points, color, marker, name in ((photos, "C0", "o", "photos"), (captions, "C1", "^", "captions")):
            label = f"centroid of the {name}"
            axes.scatter(
                *points.mean(axis=0), s=130, c=color, marker=marker, edgecolors="black", label=label, zorder=3
            )
        distance = f"centroids {result[when]['gap']:.2f} apart in all {len(measured.image)} dimensions"
        axes.set_title(f"{title}\n{distance}", loc="left")
        axes.set_xlabel(f"first component ({explained[0]:.0%} of the variance)")
        axes.set_ylabel(f"second component ({explained[1]:.0%})")
        axes.grid(alpha=0.3)
        reach = max(reach, 1.08 * float(np.abs(places).max()))
    for axes in panels:
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    title = f"Photos and captions of {_data_of(result)}, encoded by {result['model']}"
    # A path may hold dollars, between which matplotlib would set a formula.
    figure.suptitle(title, parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=150)


def write_training(history: Path, picture: Path) -> None:
    """Draws ``history.json``: above the loss, below hit@10 of both directions on dev, with borders of stages.

    Each stage may have a loss of its own, so the line of losses is broken there.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs: list[dict[str, Any]] = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    best = max(range(len(epochs)), key=lambda place: Epoch(**epochs[place]).score)
    stages = [epoch["stage"] for epoch in epochs]
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, hits = figure.subplots(2, 1, sharex=True)
    for stage in sorted(set(stages) - {0}):
        own = [place for place in range(len(epochs)) if stages[place] == stage]
        losses.plot(own, [epochs[place]["loss"] for place in own], "o-", color="C3", markersize=3)
    trained = []
    for direction, label in DIRECTION_NAMES.items():
        values = [epoch["metrics"][direction]["hit@10"] for epoch in epochs]
        hits.plot(values, "o-", markersize=3, label=f"{label}: {values[best]:.1%} at the best epoch")
        trained += values[1:]
    for axes in (losses, hits):
        axes.axvline(best, color="C2", linewidth=1, linestyle=":")
        # Stage 0 is the model at the start.
        for place, (before, after) in enumerate(pairwise(stages[1:]), 1):
            if before != after:
                axes.axvline(place + 0.5, color="gray", linewidth=1, linestyle="--")
        axes.grid(alpha=0.3)
    if trained:
        # A model that knew nothing at the start would press everything else into a narrow band.
        room = max(max(trained) - min(trained), 0.04)
        hits.set_ylim(max(min(trained) - room, -0.004), min(max(trained) + room / 2, 1.004))
    losses.set_ylabel("training loss")
    hits.set_ylabel("dev hit@10")
    hits.set_xlabel(
        "epoch (0: the start; dashed: a new stage; dotted: the best epoch, whose weights are saved)"
    )
    hits.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    hits.xaxis.set_major_locator(MaxNLocator(integer=True))
    hits.legend()
    figure.savefig(picture, dpi=150)


def _data_of(result: Mapping[str, Any]) -> str:
    return f"{result['data_set']}, split {result['split']}" if result["split"] else str(result["data_set"])


def _pairs(encoded: EncodedSet) -> NDArray[np.float32]:
    """The vectors of n photos that have captions, then of the first caption of each: (2 n, dimension)."""
    first: dict[str, int] = {}
    for row, photo in enumerate(encoded.captions.photos):
        first.setdefault(photo, row)
    rows = [row for row, photo in enumerate(encoded.photos.photos) if photo in first][:_PAIRS]
    captions = [first[encoded.photos.photos[row]] for row in rows]
    return np.concatenate([encoded.photos.vectors[rows], encoded.captions.vectors[captions]])
