"""The diagrams of the Flows hold what the YAML says, no more and no less."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, Server, run_app

from crossmodal.flow.topology import (
    FLOW_KINDS,
    FlowKind,
    Topology,
    describe_steps,
    draw_flow,
    flow_file,
    read_topology,
)
from crossmodal.settings import Settings


def topology(kind: FlowKind, **settings: int) -> Topology:
    return read_topology(flow_file(kind), Settings(**settings).flow_environment())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_the_diagrams_in_the_documentation_are_those_of_the_yaml(kind: FlowKind) -> None:
    page = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
    block = f"```mermaid\n{draw_flow(topology(kind))}```"
    assert block in page, "python app.py -t plot writes the text"


def test_a_filter_stands_at_its_branch_and_every_connection_is_an_arrow() -> None:
    assert draw_flow(topology("query")).splitlines() == [
        "flowchart LR",
        "    accTitle: The Flow flow-query",
        '    gateway -->|"seeks = text"| image_loader',
        "    image_loader --> image_normalizer",
        "    image_normalizer --> image_encoder",
        "    image_encoder --> text_indexer",
        '    gateway -->|"seeks = image"| text_encoder',
        "    text_encoder --> image_vector_indexer",
        "    image_vector_indexer --> image_kv_indexer",
        '    gateway -->|"stage = rerank"| reranker',
        "    text_indexer --> join_all",
        "    image_kv_indexer --> join_all",
        "    reranker --> join_all",
    ]


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_every_step_and_every_need_is_drawn(kind: FlowKind) -> None:
    flow = topology(kind)
    arrows = set(re.findall(r"^    (\w+) -->(?:\|[^|]+\|)? (\w+)$", draw_flow(flow), re.MULTILINE))
    assert arrows == {(need, step.name) for step in flow.steps for need in step.needs}


def test_shards_and_replicas_stand_in_the_node() -> None:
    lines = draw_flow(topology("query", shards=2, parallel=5)).splitlines()
    assert '    image_vector_indexer["image_vector_indexer<br>2 shards"]' in lines
    assert '    text_encoder["text_encoder<br>5 replicas"]' in lines
    assert not any(line.startswith("    join_all[") for line in lines)


def test_steps_are_described_with_what_they_do() -> None:
    steps = {step["name"]: step for step in describe_steps(topology("index", parallel=3))}
    assert steps["text_encoder"] == {
        "name": "text_encoder",
        "needs": ["gateway"],
        "filter": "modality = text",
        "copies": "3 replicas",
        "purpose": "Encodes text into embedding.",
    }
    assert all(step["purpose"] for step in steps.values())


def test_the_server_describes_both_flows(toy_server: Server) -> None:
    for kind in FLOW_KINDS:
        flow = topology(kind)
        assert toy_server.request(f"/v1/flows/{kind}") == (
            200,
            {"name": kind, "steps": describe_steps(flow), "mermaid": draw_flow(flow)},
        )


def test_the_command_writes_both(tmp_path: Path) -> None:
    done = run_app("-t", "plot", "--output", tmp_path / "made", "--shards", "2", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert set(written) == {"index", "query"}
    for kind, name in written.items():
        assert Path(name).name == f"flow-{kind}.mmd"
        assert Path(name).read_text(encoding="utf-8") == draw_flow(topology(kind, shards=2))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = run_app("-t", "plot", "--output", tmp_path / "taken" / "here")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: The diagram {tmp_path / 'taken' / 'here' / 'flow-index.mmd'} cannot"
    )
    assert "--output" in done.stderr
