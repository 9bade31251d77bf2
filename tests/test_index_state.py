"""How an index is searched, as /v1/status, /metrics and the client tell it, from what its shards say."""

from __future__ import annotations

from typing import Any

import httpx2
from conftest import Server

from crossmodal.client import Client
from crossmodal.http_shapes.v1.answers import index_state
from crossmodal.records import IMAGE, TEXT


def shard(
    tier: str, recall: float | None, done: float | None = None, backend: dict[str, Any] | None = None
) -> dict[str, Any]:
    building = None if done is None else {"what": f"codes for {tier}", "done": done}
    measured = f"{tier}: {recall}"
    state = {"tier": tier, "recall": recall, "recall_measured": measured, "building": building}
    return {**state, "backend": backend}


def test_a_modality_is_as_good_as_its_worst_shard_and_as_far_as_its_slowest() -> None:
    state = index_state(
        {
            IMAGE: [shard("scan", 0.99, 0.75), shard("exact", 1.0), shard("scan", 0.97, 0.25)],
            TEXT: [shard("exact", 1.0)],
        }
    )
    images = {
        "tier": "exact, scan",
        "recall": 0.97,
        "recall_measured": "scan: 0.97",
        "building": {"what": "codes for scan", "done": 0.25},
        "backend": None,
    }
    assert state["modalities"] == {"image": images, "text": shard("exact", 1.0)}
    assert {name: value for name, value in state.items() if name != "modalities"} == images


def test_a_vector_database_is_as_well_as_its_worst_shard() -> None:
    states = [
        {"where": "Milvus", "state": state, "behind": behind, "error": None}
        for state, behind in (("ready", 3), ("away", None), ("filling", 5000), ("ready", 0))
    ]
    shards = [shard("milvus FLAT", 1.0, backend=state) for state in states]
    assert index_state({IMAGE: shards, TEXT: shards[2:]})["backend"] == states[1]
    assert index_state({IMAGE: [], TEXT: shards[2:]})["backend"] == states[2]
    assert index_state({IMAGE: shards[::3], TEXT: []})["backend"] == states[0]


def test_an_unknown_recall_is_the_worst() -> None:
    state = index_state({IMAGE: [shard("ivf", 0.4), shard("ivf", None)], TEXT: [shard("exact", 1.0)]})
    assert (state["recall"], state["recall_measured"]) == (None, "ivf: None")
    assert state["modalities"]["text"]["recall"] == 1.0


def test_what_is_not_searched_says_so() -> None:
    state = index_state({IMAGE: [], TEXT: []})
    assert (state["tier"], state["recall"], state["building"]) == ("none", None, None)
    assert "answers no searches" in state["recall_measured"]


def test_status_metrics_and_client_tell_the_same_of_a_small_index(toy_server: Server) -> None:
    status, told = toy_server.request("/v1/status")
    assert status == 200
    with Client(toy_server.url) as client:
        index = client.status().index
        metrics = httpx2.get(f"{toy_server.url}/metrics").text
    for modality in ("image", "text"):
        part = told["index"]["modalities"][modality]
        assert (part["tier"], part["recall"]) == ("exact", 1.0)
        parsed = index.modalities[modality]
        assert (parsed.tier, parsed.recall, parsed.recall_measured) == (
            part["tier"],
            part["recall"],
            part["recall_measured"],
        )
        assert f'crossmodal_index_recall_ratio{{modality="{modality}"}} 1.0' in metrics
        assert f'crossmodal_index_building_ratio{{modality="{modality}"}} ' in metrics
    assert (index.tier, index.recall) == ("exact", 1.0)
