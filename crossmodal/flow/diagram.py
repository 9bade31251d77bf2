"""A Flow as an SVG drawing, made from what its YAML says.

Layers run from left to right: a step stands in the column after the last one that it needs. A branch keeps
its row. The drawing has a light and a dark form, needs no font from elsewhere, and its text can be selected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from crossmodal.flow.step_loading import configured_class
from crossmodal.flow.topology import GATEWAY, StepEntry, Topology

__all__ = ["draw_flow"]

_FONT_SIZE = 13
_SMALL_FONT_SIZE = 11.5
# The widest of the usual sans-serif fonts (DejaVu Sans, Verdana) take about so much of the font's size for
# one lower-case letter; the text is anchored in its middle, so that narrower ones stay centred.
_LETTER = 0.61

_MARGIN = 22
_NODE_HEIGHT = 44
_NODE_PADDING = 13
_ROW_HEIGHT = 78
_COLUMN_GAP = 46
_CORNER = 9
_TURN = 18
_ARROW = 7
_LABEL_LIFT = 7
# How far each copy of a replicated or sharded step stands out behind the one before it.
_STACK_OFFSET = 4
_COPIES_SHOWN = 2

# Two steps of one column must be a row apart.
_SAME_ROW = 0.99

_STYLE = """
    svg { --paper: #fbfaf7; --ink: #1f1f22; --soft: #66645f; --line: #8d8a83; --node: #ffffff;
          --one: #a8431f; --one-fill: #fdf1eb; --two: #1d5f8a; --two-fill: #ecf4f9; }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #17181b; --ink: #ececea; --soft: #a9a7a1; --line: #85837d; --node: #232529;
            --one: #f09a73; --one-fill: #33241d; --two: #82bde6; --two-fill: #1b2a35; }
    }
    text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
           font-size: 13px; fill: var(--ink); text-anchor: middle; }
    .paper { fill: var(--paper); }
    .step rect { fill: var(--node); stroke: var(--line); stroke-width: 1.25; }
    .number, .filter { font-size: 11.5px; fill: var(--soft); }
    .filter { text-anchor: end; }
    .needs path { fill: none; stroke: var(--line); stroke-width: 1.5; }
    .needs .head { fill: var(--line); stroke: none; }
    .step.branch-1 rect { fill: var(--one-fill); stroke: var(--one); }
    .needs.branch-1 path { stroke: var(--one); }
    .needs.branch-1 .head { fill: var(--one); stroke: none; }
    .branch-1 .filter { fill: var(--one); }
    .step.branch-2 rect { fill: var(--two-fill); stroke: var(--two); }
    .needs.branch-2 path { stroke: var(--two); }
    .needs.branch-2 .head { fill: var(--two); stroke: none; }
    .branch-2 .filter { fill: var(--two); }
"""

_COLOURED_BRANCHES = 2


def draw_flow(topology: Topology) -> str:
    """The Flow as an SVG document, a text that ends with a line break; the same Flow gives the same text.

    Each step is a ``g`` element with ``data-step``, its name, and a tooltip from its class; each
    ``needs`` of the YAML is a ``g`` element with ``data-from`` and ``data-to``.
    """
    layout = _Layout(topology)
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_number(layout.width)} {_number(layout.height)}",
            "width": _number(layout.width),
            "height": _number(layout.height),
            "role": "img",
            "aria-labelledby": f"{topology.name}-title {topology.name}-steps",
        },
    )
    _child(svg, "title", id=f"{topology.name}-title").text = f"The Flow {topology.name}"
    _child(svg, "desc", id=f"{topology.name}-steps").text = _in_words(topology)
    _child(svg, "style").text = _STYLE
    paper = {"class": "paper", "rx": str(_CORNER)}
    _child(svg, "rect", width=_number(layout.width), height=_number(layout.height), **paper)
    for step in topology.steps:
        for needed in step.needs:
            _draw_edge(svg, layout, needed, step)
    _draw_shared_ends(svg, layout)
    gateway = _child(svg, "g", **{"class": "step", "data-step": GATEWAY})
    _child(gateway, "title").text = "Where requests come in."
    _draw_box(gateway, layout.places[GATEWAY], GATEWAY, 1, "")
    for step in topology.steps:
        group = _child(svg, "g", **{"class": layout.css("step", step.name), "data-step": step.name})
        _child(group, "title").text = _purpose(step)
        _draw_box(group, layout.places[step.name], step.name, *_copies(step))
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


@dataclass(slots=True)
class _Place:
    """Where a step stands: its column, its row (a fraction where branches meet), and its box in pixels."""

    column: int
    row: float
    left: float = 0
    width: float = 0
    middle: float = 0

    @property
    def right(self) -> float:
        return self.left + self.width


@dataclass(slots=True)
class _Layout:
    """The columns, rows and boxes of all steps, and the rows on which long connections run."""

    topology: Topology
    places: dict[str, _Place] = field(default_factory=dict)
    routes: dict[tuple[str, str], float] = field(default_factory=dict)
    branches: dict[str, int] = field(default_factory=dict)
    width: float = 0
    height: float = 0
    _taken: dict[int, set[float]] = field(default_factory=dict)
    _rows: int = 0

    def __post_init__(self) -> None:
        self.places[GATEWAY] = _Place(0, 0)
        for step in self.topology.steps:
            self._place(step)
        self.places[GATEWAY].row = _mean(
            self.places[step.name].row for step in self.topology.steps if GATEWAY in step.needs
        )
        self._measure()
        self._colour()

    def css(self, kind: str, name: str) -> str:
        """The classes of a step, or of the connections that lead to it."""
        branch = self.branches.get(name, 0)
        return f"{kind} branch-{branch}" if branch else kind

    def _place(self, step: StepEntry) -> None:
        column = 1 + max(self.places[name].column for name in step.needs)
        for name in step.needs:
            self._route(name, step.name, column)
        wanted = _mean(self.routes.get((name, step.name), self.places[name].row) for name in step.needs)
        # Each step behind the gateway opens a branch of its own.
        free = step.needs != (GATEWAY,) and self._is_free(wanted, range(column, column + 1))
        row = wanted if free else self._new_row()
        self._taken.setdefault(column, set()).add(row)
        self.places[step.name] = _Place(column, row)

    def _route(self, start: str, end: str, column: int) -> None:
        """Finds a row for a connection that passes by other columns, and keeps it free of steps."""
        passed = range(self.places[start].column + 1, column)
        if not passed:
            return
        row = self.places[start].row
        if start == GATEWAY or not self._is_free(row, passed):
            row = self._new_row()
        for between in passed:
            self._taken.setdefault(between, set()).add(row)
        self.routes[start, end] = row

    def _is_free(self, row: float, columns: Iterable[int]) -> bool:
        return not any(
            abs(row - taken) < _SAME_ROW for column in columns for taken in self._taken.get(column, ())
        )

    def _new_row(self) -> int:
        self._rows += 1
        return self._rows - 1

    def _measure(self) -> None:
        """Gives every column its width, and every gap the room that the filters written in it need."""
        widths: dict[int, float] = {0: _box_width(GATEWAY, "")}
        gaps: dict[int, float] = {}
        for step in self.topology.steps:
            column = self.places[step.name].column
            number, label = _copies(step)
            stack = _STACK_OFFSET * min(number - 1, _COPIES_SHOWN)
            widths[column] = max(widths.get(column, 0), _box_width(step.name, label) + stack)
            gaps[column] = max(gaps.get(column, _COLUMN_GAP), _approach(step) + _TURN)
        lefts = [float(_MARGIN)]
        for column in range(1, len(widths)):
            lefts.append(lefts[-1] + widths[column - 1] + gaps[column])
        top = _MARGIN + _NODE_HEIGHT / 2 + _STACK_OFFSET * _COPIES_SHOWN
        numbers = {step.name: _copies(step)[0] for step in self.topology.steps}
        for name, place in self.places.items():
            stack = _STACK_OFFSET * min(numbers.get(name, 1) - 1, _COPIES_SHOWN)
            place.left = lefts[place.column]
            place.width = widths[place.column] - stack
            place.middle = top + place.row * _ROW_HEIGHT
        self.width = lefts[-1] + widths[len(widths) - 1] + _MARGIN
        self.height = top + (self._rows - 1) * _ROW_HEIGHT + _NODE_HEIGHT / 2 + _MARGIN

    def row_middle(self, row: float) -> float:
        """The height of a row's middle line in pixels."""
        return self.places[GATEWAY].middle + (row - self.places[GATEWAY].row) * _ROW_HEIGHT

    def _colour(self) -> None:
        """Numbers branches by the filter that they begin with, so that one filter has one colour."""
        filters: dict[str, int] = {}
        for step in self.topology.steps:
            if step.when:
                branch = filters.setdefault(_filter_text(step), len(filters) + 1)
            else:
                inherited = {self.branches.get(name, 0) for name in step.needs}
                branch = inherited.pop() if len(inherited) == 1 else 0
            self.branches[step.name] = branch if branch <= _COLOURED_BRANCHES else 0


def _draw_box(parent: ElementTree.Element, place: _Place, name: str, number: int, label: str) -> None:
    top = place.middle - _NODE_HEIGHT / 2
    for copy in reversed(range(min(number, _COPIES_SHOWN + 1))):
        offset = copy * _STACK_OFFSET
        _child(
            parent,
            "rect",
            x=_number(place.left + offset),
            y=_number(top - offset),
            width=_number(place.width),
            height=str(_NODE_HEIGHT),
            rx=str(_CORNER),
        )
    centre = _number(place.left + place.width / 2)
    name_line = place.middle + (-2 if label else _FONT_SIZE * 0.36)
    _child(parent, "text", x=centre, y=_number(name_line)).text = name
    if label:
        number_line = {"class": "number", "x": centre, "y": _number(place.middle + 14)}
        _child(parent, "text", **number_line).text = label


def _draw_edge(parent: ElementTree.Element, layout: _Layout, start: str, step: StepEntry) -> None:
    source, target = layout.places[start], layout.places[step.name]
    # A branch has its colour to its end; where it meets others, the connection is still its own.
    owner = step.name if step.when or len(step.needs) == 1 else start
    group = _child(
        parent, "g", **{"class": layout.css("needs", owner), "data-from": start, "data-to": step.name}
    )
    route = layout.routes.get((start, step.name))
    row = source.middle if route is None else layout.row_middle(route)
    if len(step.needs) == 1:
        row = target.middle
    leaving, arriving = source.right + _TURN, target.left - max(_approach(step), _TURN + _ARROW)
    points = [
        (source.right, source.middle),
        (leaving, source.middle),
        (leaving, row),
        (arriving, row),
        (arriving, target.middle),
        (target.left - _ARROW, target.middle),
    ]
    _child(group, "path", d=_rounded(points))
    if len(step.needs) == 1:
        _draw_head(group, target)
    # The first connection carries the filter where several lead to one step, because they share the end.
    if step.when and start == step.needs[0]:
        label = {
            "class": "filter",
            "x": _number(target.left - 12),
            "y": _number(target.middle - _LABEL_LIFT),
        }
        _child(group, "text", **label).text = _filter_text(step)


def _draw_shared_ends(parent: ElementTree.Element, layout: _Layout) -> None:
    """Where connections leave one step or arrive at one together, they have the colour of none of them."""
    steps = layout.topology.steps
    group = _child(parent, "g", **{"class": "needs"})
    for name, place in layout.places.items():
        if len({layout.css("", step.name) for step in steps if name in step.needs}) > 1:
            shared = [(place.right, place.middle), (place.right + _TURN - _CORNER, place.middle)]
            _child(group, "path", d=_rounded(shared))
    for step in steps:
        if len(step.needs) > 1:
            place = layout.places[step.name]
            arriving = place.left - max(_approach(step), _TURN + _ARROW)
            shared = [(arriving + _CORNER, place.middle), (place.left - _ARROW, place.middle)]
            _child(group, "path", d=_rounded(shared))
            _draw_head(group, place)


def _draw_head(parent: ElementTree.Element, place: _Place) -> None:
    tip = f"M{_number(place.left)} {_number(place.middle)}"
    _child(parent, "path", **{"class": "head", "d": f"{tip}l-9 -4.5v9z"})


def _rounded(points: list[tuple[float, float]]) -> str:
    """A path along ``points``, each next one straight beside or below, with round corners."""
    kept = [points[0]]
    for point in points[1:]:
        if point == kept[-1]:
            continue
        if len(kept) > 1 and _on_one_line(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    path = [f"M{_pair(kept[0])}"]
    for before, corner, after in zip(kept, kept[1:], kept[2:], strict=False):
        radius = min(_CORNER, _distance(before, corner) / 2, _distance(corner, after) / 2)
        path.append(f"L{_pair(_towards(corner, before, radius))}")
        path.append(f"Q{_pair(corner)} {_pair(_towards(corner, after, radius))}")
    path.append(f"L{_pair(kept[-1])}")
    return "".join(path)


def _on_one_line(*points: tuple[float, float]) -> bool:
    return len({x for x, _ in points}) == 1 or len({y for _, y in points}) == 1


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(start: tuple[float, float], end: tuple[float, float], length: float) -> tuple[float, float]:
    share = length / _distance(start, end)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _pair(point: tuple[float, float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)


def _child(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _box_width(name: str, label: str) -> float:
    text = max(len(name) * _FONT_SIZE, len(label) * _SMALL_FONT_SIZE) * _LETTER
    return float(round(text + 2 * _NODE_PADDING))


def _approach(step: StepEntry) -> float:
    """How much straight line before a step its filter needs; 0 without one."""
    return round(len(_filter_text(step)) * _SMALL_FONT_SIZE * _LETTER + 24) if step.when else 0


def _filter_text(step: StepEntry) -> str:
    return ", ".join(f"{name} = {value}" for name, value in step.when.items())


def _copies(step: StepEntry) -> tuple[int, str]:
    """How many of a step there are at once, and that in words; no words for one alone."""
    parts = [
        f"{number} {noun}"
        for number, noun in ((step.shards, "shards"), (step.replicas, "replicas"))
        if number > 1
    ]
    return step.shards * step.replicas, ", ".join(parts)


def _in_words(topology: Topology) -> str:
    return " ".join(_sentences(topology))


def _sentences(topology: Topology) -> Iterator[str]:
    for step in topology.steps:
        _, copies = _copies(step)
        condition = f" where {_filter_text(step)}" if step.when else ""
        numbered = f" ({copies})" if copies else ""
        yield f"{step.name}{numbered} follows {' and '.join(step.needs)}{condition}."


def _purpose(step: StepEntry) -> str:
    """The first line of the step's docstring, or "" where it has none."""
    docstring = configured_class(step.config).__doc__ or ""
    return docstring.strip().partition("\n")[0].replace("``", "")
