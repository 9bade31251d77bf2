"""Where the fused layout stays in one thread: along which steps, and that nobody gets more than he takes."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from docarray import DocList

from crossmodal.documents import MediaDocument
from crossmodal.settings import Settings
from flows import fused
from crossmodal.flow.topology import FLOW_FILES, Step, read_topology

QUERY = read_topology(FLOW_FILES["query"], Settings(model="clip-mini").flow_environment())


def step(name: str, *needs: str, shards: int = 1, **when: str) -> Step:
    return Step(name, Path(name) / "config.yml", needs or ("gateway",), when=when, shards=shards)


def names(*steps: Step) -> list[list[str]]:
    return [[each.name for each in chain] for chain in fused._chains(steps)]


def test_a_chain_ends_where_branches_fork_or_meet() -> None:
    steps = (
        step("loader"),
        step("normalizer", "loader"),
        step("left", "normalizer"),
        step("right", "normalizer"),
        step("farther", "right"),
        step("join", "left", "farther"),
        step("last", "join"),
    )
    assert names(*steps) == [["loader", "normalizer"], ["left"], ["right", "farther"], ["join", "last"]]


def test_a_step_of_several_shards_stands_alone() -> None:
    steps = (step("encoder"), step("indexer", "encoder", shards=2), step("ranker", "indexer"))
    assert names(*steps) == [["encoder"], ["indexer"], ["ranker"]]


def test_the_query_flow_has_a_chain_for_each_modality() -> None:
    assert names(*QUERY.steps) == [
        ["image_loader", "image_normalizer", "image_encoder", "text_indexer"],
        ["text_encoder", "image_vector_indexer", "image_kv_indexer"],
        ["join_all"],
    ]


class Counting:
    """An executor that notes in which thread each request was and how many were inside at once."""

    def __init__(self, name: str) -> None:
        self.concurrency = 2 if "encoder" in name else 1
        self.most = 0
        self.threads: dict[str, int] = {}
        self.requests = {"/search": self}
        self._name = name
        self._inside = 0
        self._lock = threading.Lock()

    def fn(self, instance: Any, docs: DocList, parameters: Any) -> DocList:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        # Lets others in, if they may.
        time.sleep(0.002)
        with self._lock:
            self._inside -= 1
        if parameters.get("failing") == self._name:
            raise ValueError("as told")
        for doc in docs:
            self.threads[str(doc.id)] = threading.get_ident()
            doc.trail = [*(doc.trail or ()), self._name]
        return docs

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counting]:
    """The executors that the fused layout loads, by the names of their steps."""
    counting = {each.name: Counting(each.name) for each in QUERY.steps}
    monkeypatch.setattr(fused, "_load", lambda step, shard: counting[step.name])
    return counting


def search(documents: int, parameters: dict[str, str]) -> list[DocList | BaseException]:
    """What becomes of so many requests of one document at once, of either modality in turn."""
    flow = fused.FusedFlow(str(FLOW_FILES["query"]), Settings(model="clip-mini").flow_environment())

    async def ask() -> list[DocList | BaseException]:
        docs = [MediaDocument(id=str(n), modality=("text", "image")[n % 2]) for n in range(documents)]
        requests = (flow.search(DocList[MediaDocument]([doc]), parameters) for doc in docs)
        return await asyncio.gather(*requests, return_exceptions=True)

    try:
        return asyncio.run(ask())
    finally:
        flow.close()


def test_requests_stay_in_one_thread_and_crowd_no_step(steps: dict[str, Counting]) -> None:
    answers = search(40, {})
    chains = [chain for chain in names(*QUERY.steps) if len(chain) > 1]
    for number, answer in enumerate(answers):
        assert isinstance(answer, DocList)
        (chain,) = (chain for chain in chains if ("image_loader" in chain) == bool(number % 2))
        assert answer[0].id == str(number)
        assert answer[0].trail == [*chain, "join_all"]
        assert len({steps[name].threads[str(number)] for name in chain}) == 1
    assert all(1 <= counting.most <= counting.concurrency for counting in steps.values())


def test_a_step_that_fails_keeps_no_place_taken(steps: dict[str, Counting]) -> None:
    answers = search(20, {"failing": "image_vector_indexer"})
    assert [isinstance(answer, ValueError) for answer in answers] == [True, False] * 10
    assert steps["image_kv_indexer"].most == 0
    assert steps["text_indexer"].threads.keys() == {str(n) for n in range(1, 20, 2)}


def test_photos_that_wait_for_a_step_do_not_keep_sentences_waiting(
    monkeypatch: pytest.MonkeyPatch, steps: dict[str, Counting]
) -> None:
    answered = threading.Event()

    def wait(instance: Any, docs: DocList, parameters: Any) -> DocList:
        assert answered.wait(60), "no sentence was answered before the photos"
        return docs

    monkeypatch.setattr(steps["image_encoder"], "fn", wait)
    flow = fused.FusedFlow(str(FLOW_FILES["query"]), Settings(model="clip-mini").flow_environment())

    async def ask(modality: str) -> DocList:
        return await flow.search(DocList[MediaDocument]([MediaDocument(id="q", modality=modality)]), {})

    async def ask_all() -> None:
        photos = [asyncio.create_task(ask("image")) for _ in range(30)]
        # The photos come first.
        await asyncio.sleep(0)
        assert (await ask("text"))[0].trail == [
            "text_encoder",
            "image_vector_indexer",
            "image_kv_indexer",
            "join_all",
        ]
        answered.set()
        await asyncio.gather(*photos)

    try:
        asyncio.run(ask_all())
    finally:
        flow.close()
