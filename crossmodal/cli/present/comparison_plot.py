"""The picture of a comparison: quality against speed, with the models that are worth choosing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.cli.present.evaluation import DIRECTION_NAMES
from crossmodal.cli.present.labels import place_labels
from crossmodal.cli.present.wording import file_size, printable, shortened_left
from crossmodal.errors import StoreUnwritable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_comparison"]

_OPTIMAL, _OTHER = "#1b6ca8", "#8a8a8a"
_NAME_CELLS = 40


def write_comparison(result: Mapping[str, Any], path: Path) -> None:
    """Draw the models of ``--compare``: quality upwards, photos a second to the right on a log scale.

    Bars show the 95% interval of the quality, and the slowest and the fastest round. Raises StoreUnwritable
    where the file cannot be written; its folder is made.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = result["models"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _set_limits(axes, models)
    front = _draw_front(axes, [model for model in models if model["pareto_optimal"]])
    for model in models:
        _draw_model(axes, model)
    _describe(axes, result)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=4, fontsize=8.5)
    place_labels(
        axes,
        [(_speed(model), _quality(model)) for model in models],
        [_label(model) for model in models],
        [_OPTIMAL if model["pareto_optimal"] else "#555555" for model in models],
        [*itertools.pairwise(front), *(bar for model in models for bar in _bars(model))],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.15)
    except OSError as error:
        raise StoreUnwritable(
            f"The picture {path} cannot be written ({error.strerror}); choose another folder with --output."
        ) from error


def _set_limits(axes: Axes, models: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

    speeds = [model["photos_per_second"][key] for model in models for key in ("min", "max")]
    bounds = [bound for model in models for bound in model["quality"]["interval"]]
    axes.set_xscale("log")
    # Room for labels beside and above the outermost points.
    axes.set_xlim(min(speeds) / 1.7, max(speeds) * 1.7)
    margin = max(0.02, 0.2 * (max(bounds) - min(bounds)))
    axes.set_ylim(max(0, min(bounds) - margin), min(1, max(bounds) + margin))
    narrow = max(speeds) < 4 * min(speeds)
    axes.xaxis.set_major_locator(LogLocator(subs=range(1, 10) if narrow else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    # As many decimals as the ticks need: half a percent must not be shown as a whole one.
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_front(axes: Axes, optimal: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The border of what is dominated, under a point's quality and left of its speed; returns its corners."""
    points = sorted((_speed(model), _quality(model)) for model in optimal)
    across, up = [axes.get_xlim()[0]], [points[0][1]]
    for (speed, quality), following in zip(points, [*points[1:], None], strict=True):
        across += [speed, speed]
        up += [quality, axes.get_ylim()[0] if following is None else following[1]]
    axes.plot(
        across, up, color=_OPTIMAL, linewidth=1, linestyle="--", alpha=0.7, label="Pareto front", zorder=1
    )
    axes.fill_between(across, up, axes.get_ylim()[0], color=_OPTIMAL, alpha=0.05, linewidth=0, zorder=0)
    return list(zip(across, up, strict=True))


def _draw_model(axes: Axes, model: Mapping[str, Any]) -> None:
    colour = _OPTIMAL if model["pareto_optimal"] else _OTHER
    speed, quality = model["photos_per_second"], model["quality"]
    axes.errorbar(
        speed["median"],
        quality["value"],
        xerr=[[speed["median"] - speed["min"]], [speed["max"] - speed["median"]]],
        yerr=[[quality["value"] - quality["interval"][0]], [quality["interval"][1] - quality["value"]]],
        fmt="o",
        markersize=8,
        color=colour,
        markerfacecolor=colour if model["pareto_optimal"] else "white",
        ecolor=colour,
        elinewidth=0.9,
        alpha=0.95,
        zorder=2,
    )


def _bars(model: Mapping[str, Any]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    speed, (low, high) = model["photos_per_second"], model["quality"]["interval"]
    return [
        ((speed["min"], _quality(model)), (speed["max"], _quality(model))),
        ((_speed(model), low), (_speed(model), high)),
    ]


def _describe(axes: Axes, result: Mapping[str, Any]) -> None:
    speed = result["speed"]
    split = f", split {result['split']}" if result["split"] else ""
    title = printable(f"Models on {result['data_set']}{split}")
    # A path may hold dollars, between which matplotlib would set a formula.
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left", pad=10, parse_math=False)
    load = max(speed["load_average"])
    axes.set_xlabel(
        f"photos a second, decoding included ({speed['threads']} thread, median of {speed['rounds']} rounds, "
        f"load average {load:.1f})"
    )
    directions = [label for name, label in DIRECTION_NAMES.items() if name in result["models"][0]]
    axes.set_ylabel("hit@10, " + ("mean of both directions" if len(directions) > 1 else directions[0]))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for colour, face, label in (
        (_OPTIMAL, _OPTIMAL, "Pareto-optimal"),
        (_OTHER, "white", "dominated"),
    ):
        axes.plot([], [], "o", color=colour, markerfacecolor=face, markersize=8, label=label)
    bars = "95% interval; slowest to fastest round"
    axes.plot([], [], "+", color=_OTHER, markersize=11, markeredgewidth=0.9, label=bars)


def _label(model: Mapping[str, Any]) -> str:
    name = shortened_left(printable(model["model"]), _NAME_CELLS)
    return f"{name}\n{model['dimension']:,}-d, {file_size(model['weights_bytes'])}"


def _speed(model: Mapping[str, Any]) -> float:
    return float(model["photos_per_second"]["median"])


def _quality(model: Mapping[str, Any]) -> float:
    return float(model["quality"]["value"])
