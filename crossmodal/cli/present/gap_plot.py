"""The picture of the modality gap: photos and captions in a plane, before and after centring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.evaluation.encoding import EncodedSet
from crossmodal.evaluation.gap import GapMeasurement, principal_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_gap"]

_PHOTOS, _CAPTIONS = "#1b6ca8", "#c8553d"

# More pairs than these hide each other.
_PAIRS = 200


def write_gap(result: Mapping[str, Any], measured: GapMeasurement, path: Path) -> None:
    """Draw up to 200 photos, each joined with its first caption, on their two principal components.

    Each panel has its own components, and both have the same scale. The folder must exist.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    reach = 0.0
    for axes, encoded, when in zip(
        panels, (measured.scored, measured.centred), ("before", "after"), strict=True
    ):
        pairs = _pairs(encoded)
        places, explained = principal_plane(np.concatenate(pairs))
        _draw_pairs(axes, places)
        title = "As the model encodes them" if when == "before" else "After centring each modality"
        distance = f"centroids {result[when]['gap']:.2f} apart in all {len(measured.image)} dimensions"
        axes.set_title(f"{title}\n{distance}", fontsize=11, loc="left", pad=8)
        axes.set_xlabel(f"first component ({explained[0]:.0%} of the variance)")
        axes.set_ylabel(f"second component ({explained[1]:.0%})")
        reach = max(reach, float(np.abs(places).max()))
    for axes in panels:
        axes.set_xlim(-1.08 * reach, 1.08 * reach)
        axes.set_ylim(-1.08 * reach, 1.08 * reach)
        axes.set_aspect("equal")
    split = f", split {result['split']}" if result["split"] else ""
    title = f"Photos and captions of {result['data_set']}{split}, encoded by {result['model']}"
    # A path may hold dollars, between which matplotlib would set a formula.
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.15)


def _pairs(encoded: EncodedSet) -> tuple[Any, Any]:
    """The vectors of the first photos that have captions, and of the first caption of each."""
    first: dict[str, int] = {}
    for row, photo in enumerate(encoded.captions.photos):
        first.setdefault(photo, row)
    rows = [row for row, photo in enumerate(encoded.photos.photos) if photo in first][:_PAIRS]
    captions = [first[encoded.photos.photos[row]] for row in rows]
    return encoded.photos.vectors[rows], encoded.captions.vectors[captions]


def _draw_pairs(axes: Axes, places: Any) -> None:
    from matplotlib.collections import LineCollection

    photos, captions = np.split(places, 2)
    lines = list(np.stack([photos, captions], axis=1))
    label = "a photo and its caption"
    axes.add_collection(LineCollection(lines, colors="#999999", linewidths=0.6, alpha=0.35, label=label))
    kinds = ((photos, _PHOTOS, "o", "photos"), (captions, _CAPTIONS, "^", "captions"))
    for points, colour, mark, name in kinds:
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=16,
            c=colour,
            marker=mark,
            alpha=0.75,
            linewidths=0,
            label=name,
            zorder=2,
        )
    for points, colour, mark, name in kinds:
        axes.scatter(
            points[:, 0].mean(),
            points[:, 1].mean(),
            s=130,
            c=colour,
            marker=mark,
            edgecolors="black",
            linewidths=1.3,
            label=f"centroid of the {name}",
            zorder=3,
        )
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
