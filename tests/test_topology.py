"""The YAML files say what the steps are, and the default layout reads exactly that."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crossmodal.documents import Document
from crossmodal.errors import ServiceError
from crossmodal.flow.topology import FLOW_KINDS, FlowKind, flow_file, read_topology
from crossmodal.records import Modality
from crossmodal.settings import Settings

VARIABLES = Settings(model="vse", shards=2, parallel=3).flow_environment()


def steps_of(kind: FlowKind, document: Document) -> list[str]:
    """The steps that a document goes through, branch by branch."""
    reached = {"gateway"}
    passed = []
    for step in read_topology(flow_file(kind), VARIABLES).steps:
        if reached & set(step.needs) and step.takes(document):
            reached.add(step.name)
            passed.append(step.name)
    return passed


def test_photos_and_captions_are_indexed_in_branches_of_their_own() -> None:
    photo = ["image_loader", "image_normalizer", "image_encoder", "image_vector_indexer", "image_kv_indexer"]
    assert steps_of("index", Document("a", "image")) == [*photo, "join_all"]
    assert steps_of("index", Document("a", "text")) == ["text_encoder", "text_indexer", "join_all"]


@pytest.mark.parametrize("modality", ["image", "text", None])
def test_a_query_goes_to_the_index_of_what_it_seeks(modality: Modality | None) -> None:
    captions = ["image_loader", "image_normalizer", "image_encoder", "text_indexer", "join_all"]
    photos = ["text_encoder", "image_vector_indexer", "image_kv_indexer", "join_all"]
    assert steps_of("query", Document("a", modality, "text")) == captions
    assert steps_of("query", Document("a", modality, "image")) == photos


def test_a_document_that_no_branch_takes_is_refused_with_words() -> None:
    docs = [Document("a", "text", "image"), Document("b", "text")]
    assert read_topology(flow_file("query"), VARIABLES).refuse(docs) == [docs[1]]
    assert docs[1].error == "No branch of flow-query takes a document of the modality 'text' that seeks None."
    assert docs[0].error is None


def test_shards_and_replicas_come_from_the_variables() -> None:
    for kind in FLOW_KINDS:
        steps = {step.name: step for step in read_topology(flow_file(kind), VARIABLES).steps}
        sharded = {"image_vector_indexer", "text_indexer"} if kind == "query" else set()
        assert {name for name, step in steps.items() if step.shards == 2} == sharded
        assert {name for name, step in steps.items() if step.replicas == 3} == {
            *("image_loader", "image_normalizer", "image_encoder", "text_encoder"),
        }


@pytest.mark.parametrize(("kind", "sharded"), [("index", 0), ("query", 2)])
def test_every_shard_sees_every_request(kind: FlowKind, sharded: int) -> None:
    steps = yaml.safe_load(flow_file(kind).read_text(encoding="utf-8"))["executors"]
    polling = [step["polling"] for step in steps if "shards" in step]
    # By name: jina has defaults of its own for some endpoints, which one word for all does not change.
    assert polling == [dict.fromkeys(("/search", "/encode", "/status"), "ALL")] * sharded


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
    for kind in FLOW_KINDS:
        steps = {step.name: step for step in read_topology(flow_file(kind), variables).steps}
        assert steps["text_encoder"].uses_with["model"] == model
        assert steps["text_indexer"].uses_with["index_path"] == str(workspace)
        assert int(steps["image_loader"].uses_with["max_pixels"]) == 5
