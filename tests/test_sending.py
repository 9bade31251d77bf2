"""The gateway asks a Flow of one process directly, and doesn't ask again what has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from docarray import DocList
from jina.excepts import InternalNetworkError

from crossmodal.documents import MediaDocument
from crossmodal.errors import FlowFailure, ServiceError
from crossmodal.settings import Settings
from crossmodal.server.problems import problem_of
from crossmodal.server.sending import choose_send
from crossmodal.server.walks import FlowWalks
from crossmodal.flow.topology import FLOW_FILES, read_topology

QUERY = read_topology(FLOW_FILES["query"], Settings(model="clip-mini").flow_environment())


class Executors:
    """What jina's gateway has: a way along the graph, and one to each executor."""

    def __init__(self, steps_done: int | None = None, error: Any = None) -> None:
        self.asked: list[tuple[str, str, dict[str, Any], list[str]]] = []
        self._steps_done = steps_done
        self._error = error

    async def post(self, inputs: DocList, on: str, parameters: dict[str, Any], **options: Any) -> DocList:
        self.asked.append(("executor", on, parameters, [str(doc.id) for doc in inputs]))
        return self._walked(inputs)

    async def stream(
        self, inputs: DocList, exec_endpoint: str, parameters: dict[str, Any], **options: Any
    ) -> AsyncIterator[tuple[DocList, Any]]:
        self.asked.append(("graph", exec_endpoint, parameters, [str(doc.id) for doc in inputs]))
        yield self._walked(inputs), self._error

    def send(self, names: int) -> FlowWalks:
        by_name = {f"executor{number}": SimpleNamespace(post=self.post) for number in range(names)}
        return FlowWalks(choose_send(self.stream, by_name, QUERY), QUERY, sharing=False)

    def _walked(self, inputs: DocList) -> DocList:
        answers = DocList[MediaDocument]()
        for doc in inputs:
            trail = sorted(QUERY.trail(doc))[: self._steps_done]
            answers.append(MediaDocument(id=doc.id, modality=doc.modality, trail=trail))
        return answers


def ask(walks: FlowWalks) -> dict[str, MediaDocument]:
    docs = [
        MediaDocument(id="a", modality="text", text="x"),
        MediaDocument(id="b", modality="image", blob=b"y"),
    ]
    return asyncio.run(walks(docs, "/encode", {"n": 1}))


@pytest.mark.parametrize(("names", "way"), [(1, "executor"), (9, "graph")])
def test_the_way_depends_on_how_many_processes_there_are(names: int, way: str) -> None:
    executors = Executors()
    answers = ask(executors.send(names))
    assert executors.asked == [(way, "/encode", {"n": 1}, ["a", "b"])]
    assert {id: answer.modality for id, answer in answers.items()} == {"a": "text", "b": "image"}


@pytest.mark.parametrize("steps_done", [0, 2])
def test_one_process_that_fails_is_not_asked_again(steps_done: int) -> None:
    executors = Executors(steps_done)
    with pytest.raises(FlowFailure, match="failed on this request; the server's output says why") as raised:
        ask(executors.send(1))
    assert len(executors.asked) == 1
    # Whoever gets 503 tries again.
    assert problem_of(raised.value)["status"] == 500


def test_an_error_along_the_graph_is_told_by_its_name() -> None:
    executors = Executors(error=SimpleNamespace(name="ValueError"))
    with pytest.raises(FlowFailure, match=r"failed on this request \(ValueError\); the server"):
        ask(executors.send(9))
    assert len(executors.asked) == 1


@pytest.mark.parametrize("names", [1, 2])
def test_a_process_that_has_died_is_a_server_that_is_not_ready(names: int) -> None:
    nothing = grpc.aio.Metadata()
    refused = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "connection refused")

    class Lost(Executors):
        async def post(self, *given: Any, **options: Any) -> DocList:
            # As jina does it.
            answer: Any = InternalNetworkError(refused)
            documents, _ = answer
            return documents

        async def stream(self, *given: Any, **options: Any) -> AsyncIterator[tuple[DocList, Any]]:
            raise InternalNetworkError(refused)
            yield

    with pytest.raises(ServiceError, match="does not answer") as raised:
        ask(Lost().send(names))
    assert problem_of(raised.value)["status"] == 503
