"""The YAML files say what the steps are, and the fused layout reads exactly that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from crossmodal.errors import ServiceError
from crossmodal.settings import Settings
from crossmodal.flow.topology import FLOW_FILES, read_topology

VARIABLES = Settings(model="vse", shards=2, parallel=3).flow_environment()


def chain(kind: str, modality: str) -> list[str]:
    """The steps that a document of one modality walks through, branch by branch."""
    document = SimpleNamespace(modality=modality)
    reached = {"gateway"}
    walked = []
    for step in read_topology(FLOW_FILES[kind], VARIABLES).steps:
        if reached & set(step.needs) and step.takes(document):
            reached.add(step.name)
            walked.append(step.name)
    return walked


def test_indexing_walks_photos_and_captions_through_their_own_branches() -> None:
    photo = ["image_loader", "image_normalizer", "image_encoder", "image_vector_indexer", "image_kv_indexer"]
    assert chain("index", "image") == [*photo, "join_all"]
    assert chain("index", "text") == ["text_encoder", "text_indexer", "join_all"]


def test_a_query_goes_to_the_index_of_the_other_modality() -> None:
    photo = ["image_loader", "image_normalizer", "image_encoder", "text_indexer", "join_all"]
    assert chain("query", "image") == photo
    assert chain("query", "text") == ["text_encoder", "image_vector_indexer", "image_kv_indexer", "join_all"]


def test_shards_and_replicas_come_from_the_variables() -> None:
    for kind in FLOW_FILES:
        steps = {step.name: step for step in read_topology(FLOW_FILES[kind], VARIABLES).steps}
        assert {name for name, step in steps.items() if step.shards == 2} == {
            "image_vector_indexer",
            "image_kv_indexer",
            "text_indexer",
        }
        assert {name for name, step in steps.items() if step.replicas == 3} == {
            *("image_loader", "image_normalizer", "image_encoder", "text_encoder"),
        }


@pytest.mark.parametrize(
    ("kind", "endpoints"), [("index", {"/index", "/delete"}), ("query", {"/search", "/encode", "/status"})]
)
def test_every_shard_sees_every_request(kind: str, endpoints: set[str]) -> None:
    steps = yaml.safe_load(FLOW_FILES[kind].read_text(encoding="utf-8"))["executors"]
    polling = [step["polling"] for step in steps if "shards" in step]
    # By name: jina has defaults of its own for some endpoints, which one word for all does not change.
    assert polling == [dict.fromkeys(endpoints, "ALL")] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("executors:\n- {name: a, uses: a.yml, needs: b}", "a needs b, which is not above it"),
        (
            "executors:\n- {name: a, uses: a.yml, needs: gateway, shards: $NOWHERE}",
            "NOWHERE, which has no value",
        ),
        (
            "executors:\n- {name: a, uses: a.yml, needs: gateway}\n- {name: b, uses: b.yml, needs: gateway}",
            "must end in one step, but a, b all do",
        ),
        (
            "executors:\n- {name: a, uses: a.yml, needs: gateway, when: {size: {$gt: 3}}}",
            "only \\$eq is understood",
        ),
    ],
)
def test_a_flow_that_cannot_run_is_refused_with_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "flow.yml"
    path.write_text(text)
    with pytest.raises(ServiceError, match=words):
        read_topology(path, {})


def test_values_reach_the_steps_as_they_are_whatever_they_mean_in_yaml() -> None:
    model, workspace = "vse?dim=128&centering=/a%2C/b.safetensors", Path("/data/a, b: {c} #1 $HOME")
    variables = Settings(model=model, workspace=workspace, max_pixels=5).flow_environment()
    for kind in FLOW_FILES:
        steps = {step.name: step for step in read_topology(FLOW_FILES[kind], variables).steps}
        assert steps["text_encoder"].uses_with["model"] == model
        assert steps["text_indexer"].uses_with["index_path"] == str(workspace)
        assert int(steps["image_loader"].uses_with["max_pixels"]) == 5
