"""Over gRPC, too, what is beyond the places is refused and what takes too long is given up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from needs_jina import needs_jina

from crossmodal import limits
from crossmodal.access.own_paths import OwnPaths
from crossmodal.deadlines import check_deadline
from crossmodal.documents import Document
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT
from crossmodal.settings import Settings

pytestmark = needs_jina


class Aborted(Exception):
    """What a gRPC context raises when a call is aborted."""


class Context:
    """The context of a call, which has ``seconds`` left."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Takes the id of the request, which no test here asks for."""

    async def abort(self, code: Any, details: str, trailing_metadata: Any = ()) -> None:
        raise Aborted(code.name, details, dict(trailing_metadata))


class SlowEngine:
    """Works until it is allowed to end, or until nobody waits."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.given_up = threading.Event()

    def run_query(self, operation: str, docs: list[Document], parameters: Any) -> list[Document]:
        while not self.go_on.wait(0.01):
            try:
                check_deadline()
            except BaseException:
                self.given_up.set()
                raise
        for doc in docs:
            tags = {"long": "x" * 1_000_000}
            doc.matches = [Match(str(n), IMAGE, 0.5, text="a", tags=tags) for n in range(4)]
        return docs


def request(number: int = 1) -> Any:
    from docarray import DocList
    from jina.types.request.data import DataRequest

    from crossmodal.jina.documents import MediaDocument

    made = DataRequest()
    made.header.exec_endpoint = "/search"
    made.document_array_cls = DocList[MediaDocument]
    made.data.docs = DocList[MediaDocument](
        [MediaDocument(id=str(n), modality=TEXT, text="a dog") for n in range(number)]
    )
    return made


def services(engine: SlowEngine, seconds: float = 30.0) -> Any:
    from crossmodal.jina.bounded_work import BoundedWork
    from crossmodal.jina.call_log import CallLog
    from crossmodal.jina.grpc_server import _Services

    work, paths = BoundedWork(seconds), OwnPaths(Settings())
    return _Services(engine, work, paths, CallLog())  # type: ignore[arg-type]  # it needs no more of an engine


@pytest.mark.parametrize(("own", "of_call"), [(0.1, None), (30.0, 0.1)])
def test_past_its_deadline_a_call_ends_and_its_work_too(own: float, of_call: float | None) -> None:
    engine = SlowEngine()
    with pytest.raises(Aborted) as aborted:
        asyncio.run(services(engine, own).process_single_data(request(), Context(of_call)))
    code, details, _ = aborted.value.args
    assert (code, "0.1 seconds" in details) == ("DEADLINE_EXCEEDED", True)
    assert engine.given_up.wait(10)


def test_beyond_the_places_a_call_is_refused() -> None:
    engine = SlowEngine()
    serving = services(engine)

    async def fill() -> tuple[Any, ...]:
        waiting = [
            asyncio.create_task(serving.process_single_data(request(), Context()))
            for _ in range(serving._work.places.most)
        ]
        await asyncio.sleep(0)
        try:
            await serving.process_single_data(request(), Context())
        except Aborted as aborted:
            return aborted.args
        finally:
            engine.go_on.set()
            await asyncio.gather(*waiting)
        return ()

    code, details, metadata = asyncio.run(fill())
    assert (code, metadata["retry-after"]) == ("RESOURCE_EXHAUSTED", "1")
    assert "busy" in details
    assert len(metadata["x-request-id"]) == 16
    assert serving._work.places.held == 0


def test_an_answer_has_a_limit_and_says_so() -> None:
    engine = SlowEngine()
    engine.go_on.set()
    answer = asyncio.run(services(engine).process_single_data(request(5), Context()))
    docs = answer.docs
    held = sum(len(match.tags["long"]) for doc in docs for match in doc.matches[1:])
    assert held <= limits.ANSWER_TOGETHER.most
    assert [len(doc.matches) for doc in docs] == [4, 4, 1, 1, 1]
    assert docs[0].error is None
    assert "3 of 4 matches are left out" in docs[2].error
