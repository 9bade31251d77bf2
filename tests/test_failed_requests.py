"""What an executor raises on a request as a whole stands in the output, in either layout."""

import asyncio
from typing import Any

import pytest
from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.errors import StoreUnwritable
from executors.flow_step import FlowStep
from executors.reporting import ReportingExecutor
from flows.fused import FusedFlow


class Failing(FlowStep):
    step = "failing"

    @requests(on="/search")  # type: ignore[untyped-decorator]
    def search(self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any) -> None:
        raise {"bug": KeyError("lost"), "disk": StoreUnwritable("The disk is full.")}[parameters["what"]]


def ask(endpoint: str, what: str) -> DocList[MediaDocument]:
    docs = DocList[MediaDocument]([MediaDocument(id="a")])
    # As jina calls it for each request.
    called = Failing().__acall__(endpoint, docs=docs, parameters={"what": what}, tracing_context=None)
    answered: DocList[MediaDocument] = asyncio.run(called)
    return answered


def test_an_unforeseen_error_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError, match="lost"):
        ask("/search", "bug")
    (record,) = caplog.records
    assert record.getMessage() == "A request to /search failed."
    assert 'KeyError("lost")' in caplog.text


def test_a_foreseen_error_is_its_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoreUnwritable):
        ask("/search", "disk")
    (record,) = caplog.records
    assert record.getMessage() == "A request to /search failed: The disk is full."
    assert record.exc_info is None


def test_what_goes_well_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert ask("/encode", "")[0].trail == ["failing"]
    assert caplog.records == []


def test_the_fused_layout_reports_as_every_step_does() -> None:
    assert issubclass(FusedFlow, ReportingExecutor)
