"""Labels beside the points of a plot, none over another or over a point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

__all__ = ["place_labels"]

Point = tuple[float, float]

# How far from its point a label may lie, in points of type, nearest first.
_DISTANCES = (9, 16, 26, 40, 60, 85)

# Where it may lie: right, left, above, below, then between these.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))

# A marker with its border, in pixels around its middle at the figure's own resolution.
_MARKER = 9.0

# The same around a line.
_LINE = 1.0

# From this distance on a line leads to the point.
_LEADER = 26


def place_labels(
    axes: Axes,
    points: Sequence[Point],
    labels: Sequence[str],
    colours: Sequence[str],
    lines: Sequence[tuple[Point, Point]] = (),
) -> None:
    """Write each of ``labels`` near its point, at the nearest place where it covers nothing.

    ``lines`` are upright or level ones, each from one point to another, that labels keep off as well. Call it
    last: it settles the figure's layout, which labels could otherwise change after they were placed. Where
    every place covers something, the one that covers least is taken.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    taken = [_around(axes, point, point, _MARKER) for point in points]
    taken += [_around(axes, start, end, _LINE) for start, end in lines]
    for point, label, colour in zip(points, labels, colours, strict=True):
        taken.append(_place(axes, point, label, colour, taken))


def _place(axes: Axes, point: Point, label: str, colour: str, taken: Sequence[Bbox]) -> Bbox:
    """Write one label, and return the box around it."""
    least, best, around = float("inf"), (_DISTANCES[0], _DIRECTIONS[0]), None
    for place in product(_DISTANCES, _DIRECTIONS):
        tried = _annotate(axes, point, label, colour, *place, leader=False)
        box = tried.get_window_extent().padded(2)
        tried.remove()
        covered = _covered(axes, box, taken)
        if covered < least:
            least, best, around = covered, place, box
        if not covered:
            break
    assert around is not None
    _annotate(axes, point, label, colour, *best, leader=best[0] >= _LEADER)
    return around


def _annotate(
    axes: Axes,
    point: Point,
    label: str,
    colour: str,
    distance: float,
    direction: tuple[int, int],
    *,
    leader: bool,
) -> Annotation:
    across, up = direction
    return axes.annotate(
        label,
        point,
        (across * distance, up * distance),
        textcoords="offset points",
        ha=("right", "center", "left")[across + 1],
        va=("top", "center", "bottom")[up + 1],
        color=colour,
        fontsize=9,
        linespacing=1.15,
        parse_math=False,
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 5} if leader else None,
        zorder=3,
    )


def _around(axes: Axes, start: Point, end: Point, margin: float) -> Bbox:
    from matplotlib.transforms import Bbox

    corners = axes.transData.transform([start, end])
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    return Bbox.from_extents(left - margin, bottom - margin, right + margin, top + margin)


def _covered(axes: Axes, box: Bbox, taken: Sequence[Bbox]) -> float:
    """The area in square pixels that ``box`` shares with others, or that lies outside of the axes."""
    from matplotlib.transforms import Bbox

    shared = 0.0
    for other in taken:
        common = Bbox.intersection(box, other)
        shared += 0.0 if common is None else common.width * common.height
    inside = Bbox.intersection(box, axes.get_window_extent())
    outside = box.width * box.height - (0.0 if inside is None else inside.width * inside.height)
    return shared + max(0.0, outside)
