"""The drawings of the Flows hold what the YAML says, no more and no less."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import REPOSITORY, run_app
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.flow.diagram import draw_flow
from crossmodal.flow.topology import (
    FLOW_KINDS,
    GATEWAY,
    FlowKind,
    StepEntry,
    Topology,
    flow_file,
    read_topology,
)
from crossmodal.settings import Settings

SVG = "{http://www.w3.org/2000/svg}"


def topology(kind: FlowKind, **settings: int) -> Topology:
    return read_topology(flow_file(kind), Settings(**settings).flow_environment())  # type: ignore[arg-type]


def steps_of(drawing: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {
        group.attrib["data-step"]: group for group in drawing.iter(f"{SVG}g") if "data-step" in group.attrib
    }


def edges_of(drawing: ElementTree.Element) -> dict[tuple[str, str], ElementTree.Element]:
    return {
        (group.attrib["data-from"], group.attrib["data-to"]): group
        for group in drawing.iter(f"{SVG}g")
        if "data-from" in group.attrib
    }


def texts(group: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in group.iter(f"{SVG}text")]


def box(group: ElementTree.Element) -> tuple[float, float, float, float]:
    """The left, top, right and bottom of the rectangle in front."""
    front = list(group.iter(f"{SVG}rect"))[-1].attrib
    x, y, width, height = (float(front[name]) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def line_points(edge: ElementTree.Element) -> list[tuple[float, float]]:
    path = next(iter(edge.iter(f"{SVG}path"))).attrib["d"]
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_the_drawings_in_the_documentation_are_those_of_the_yaml(kind: str) -> None:
    committed = REPOSITORY / "docs" / "images" / f"flow-{kind}.svg"
    drawn = draw_flow(topology(kind))
    assert committed.read_text(encoding="utf-8") == drawn, "python app.py -t plot --output docs/images"


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_every_step_and_every_connection_is_drawn(kind: str) -> None:
    flow = topology(kind)
    drawing = ElementTree.fromstring(draw_flow(flow))
    assert list(steps_of(drawing)) == [GATEWAY, *(step.name for step in flow.steps)]
    for name, group in steps_of(drawing).items():
        assert texts(group) == [name]
    assert set(edges_of(drawing)) == {(need, step.name) for step in flow.steps for need in step.needs}


def test_the_filter_stands_at_the_branch() -> None:
    edges = edges_of(ElementTree.fromstring(draw_flow(topology("index"))))
    assert texts(edges[GATEWAY, "image_loader"]) == ["modality = image"]
    # The loader decodes a photo for both of its branches.
    assert texts(edges["image_loader", "image_kv_indexer"]) == []
    assert (GATEWAY, "image_kv_indexer") not in edges
    assert texts(edges[GATEWAY, "text_encoder"]) == ["modality = text"]
    assert texts(edges["image_loader", "image_normalizer"]) == []


def test_shards_and_replicas_are_stacked_with_their_number() -> None:
    steps = steps_of(ElementTree.fromstring(draw_flow(topology("query", shards=2, parallel=5))))
    assert texts(steps["image_vector_indexer"]) == ["image_vector_indexer", "2 shards"]
    assert len(list(steps["image_vector_indexer"].iter(f"{SVG}rect"))) == 2
    assert texts(steps["text_encoder"]) == ["text_encoder", "5 replicas"]
    assert len(list(steps["text_encoder"].iter(f"{SVG}rect"))) == 3
    assert texts(steps["join_all"]) == ["join_all"]
    assert len(list(steps["join_all"].iter(f"{SVG}rect"))) == 1


def test_a_step_tells_what_its_executor_does() -> None:
    steps = steps_of(ElementTree.fromstring(draw_flow(topology("index"))))
    assert steps["text_encoder"].findtext(f"{SVG}title") == "Encodes text into embedding."
    assert all(step.findtext(f"{SVG}title") for step in steps.values())


def test_the_drawing_can_be_read_without_being_seen_and_in_the_dark() -> None:
    drawing = ElementTree.fromstring(draw_flow(topology("query")))
    described = {element.attrib.get("id"): element.text or "" for element in drawing}
    title, steps = (described[name] for name in drawing.attrib["aria-labelledby"].split())
    assert title == "The Flow flow-query"
    assert "image_vector_indexer follows text_encoder." in steps
    assert "text_encoder follows gateway where seeks = image." in steps
    style = drawing.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    assert not re.search(r"url\(|@import|https?:", style)


@st.composite
def flows(draw: st.DrawFn) -> Topology:
    """Any Flow: steps that need one to three of those before them, with names of any length."""
    config = REPOSITORY / "executors" / "joiner" / "config.yml"
    names = [f"{'step' * draw(st.integers(1, 5))}_{number}" for number in range(draw(st.integers(1, 9)))]
    steps: list[StepEntry] = []
    for number, name in enumerate(names):
        earlier = [GATEWAY, *names[:number]]
        needs = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=3, unique=True))
        when = draw(st.sampled_from([{}, {"modality": "image"}, {"modality": "text"}, {"kind": "<&>"}]))
        steps.append(
            StepEntry(
                name,
                config,
                tuple(needs),
                when,
                shards=draw(st.integers(1, 4)),
                replicas=draw(st.integers(1, 4)),
            )
        )
    return Topology("flow-any", tuple(steps))


@given(flows())
def test_no_step_lies_over_another_and_no_line_over_a_step(flow: Topology) -> None:
    drawing = ElementTree.fromstring(draw_flow(flow))
    boxes = {name: box(group) for name, group in steps_of(drawing).items()}
    width, height = (float(drawing.attrib[name]) for name in ("width", "height"))
    for name, (left, top, right, bottom) in boxes.items():
        assert 0 < left < right < width, name
        assert 0 < top < bottom < height, name
        for other, (x0, y0, x1, y1) in boxes.items():
            assert other == name or left >= x1 or right <= x0 or top >= y1 or bottom <= y0
    for (start, end), edge in edges_of(drawing).items():
        points = line_points(edge)
        assert points[0][0] == boxes[start][2]
        for (x0, y0), (x1, y1) in pairwise(points):
            for name, (left, top, right, bottom) in boxes.items():
                apart = (
                    max(x0, x1) <= left or min(x0, x1) >= right or max(y0, y1) <= top or min(y0, y1) >= bottom
                )
                assert apart, f"{start} to {end} runs through {name}"


def test_the_command_writes_both(tmp_path: Path) -> None:
    done = run_app("-t", "plot", "--output", tmp_path / "made", "--shards", "2", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert set(written) == {"index", "query"}
    for kind, name in written.items():
        assert Path(name).read_text(encoding="utf-8") == draw_flow(topology(kind, shards=2))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = run_app("-t", "plot", "--output", tmp_path / "taken" / "here")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: The drawing {tmp_path / 'taken' / 'here' / 'flow-index.svg'} cannot"
    )
    assert "--output" in done.stderr
