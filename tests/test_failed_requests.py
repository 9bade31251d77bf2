"""What an unforeseen failure of a request comes to: a 500 for its client, and a traceback in the output."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from crossmodal.documents import Document
from crossmodal.engine.engine import Engine
from crossmodal.errors import StoreFormat
from crossmodal.flow.runner import Flow
from crossmodal.flow.topology import FlowKind
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving
from crossmodal.settings import Settings


class Failing:
    """A Flow that fails on the sentences that say how."""

    def run(
        self,
        operation: str,
        docs: Sequence[Document],
        parameters: Mapping[str, Any] | None = None,
        *,
        ticket: int | None = None,
    ) -> list[Document]:
        for doc in docs:
            if doc.text == "a bug":
                raise KeyError("lost")
            if doc.text == "damage":
                raise StoreFormat("The index is damaged.")
            doc.error = "It is refused."
        return list(docs)

    def take_ticket(self) -> None:
        return None

    def prepare(self) -> None: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def serving(toy_workspace: Path) -> Iterator[Serving]:
    def open_flow(kind: FlowKind, settings: Settings) -> Flow:
        return Failing()

    settings = Settings(workspace=toy_workspace, model="clip-mini")
    serving = Serving("query", Engine(settings, open_flow=open_flow), settings)
    yield serving
    serving.close()
    serving.engine.close()


def ask(serving: Serving, *sentences: str) -> list[httpx2.Response]:
    async def run() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(create_app(serving))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await asyncio.gather(
                *(http.post("/v1/search", json={"text": sentence}) for sentence in sentences)
            )

    return asyncio.run(run())


def test_an_unforeseen_error_is_a_500_with_its_traceback_in_the_output(
    serving: Serving, capfd: pytest.CaptureFixture[str]
) -> None:
    (answer,) = ask(serving, "a bug")
    assert (answer.status_code, answer.json()["detail"]) == (
        500,
        "The server failed on this request (KeyError).",
    )
    said = capfd.readouterr().err
    assert "error: /v1/search failed on a request:" in said
    assert "KeyError: 'lost'" in said
    assert "in run" in said


def test_a_foreseen_error_is_its_sentence_alone(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    (answer,) = ask(serving, "damage")
    assert (answer.status_code, answer.json()["detail"]) == (503, "The index is damaged.")
    assert capfd.readouterr().err == ""


def test_those_who_ask_at_the_same_time_get_their_own_answers(serving: Serving) -> None:
    answers = ask(serving, "a bug", "one", "damage", "another", "a bug")
    assert [answer.status_code for answer in answers] == [500, 422, 503, 422, 500]
