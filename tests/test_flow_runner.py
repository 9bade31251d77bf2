"""The runner of a Flow in this process: branches, threads, limits of steps, and the order of writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from recording_steps import Recording, flow_of

from crossmodal.documents import Document
from crossmodal.flow.runner import LocalFlow

BRANCHES: tuple[dict[str, Any], ...] = (
    {"name": "loader", "when": {"seeks": {"$eq": "text"}}, "with": {"at_once": 1}},
    {"name": "captions", "needs": "loader", "with": {"at_once": 2}},
    {"name": "encoder", "when": {"seeks": {"$eq": "image"}}, "with": {"at_once": 2}},
    {"name": "photos", "needs": "encoder"},
    {"name": "join", "needs": ["captions", "photos"]},
)


def query(number: int) -> Document:
    """Photos and sentences in turn."""
    return Document(str(number), seeks=("image", "text")[number % 2])  # type: ignore[arg-type]


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returns or raises, all of them at once."""

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # noqa: BLE001  the tests look at it
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(attempt, calls))


def search(flow: LocalFlow, number: int, parameters: dict[str, Any]) -> Callable[[], list[Document]]:
    return lambda: flow.run("search", [query(number)], parameters)


def test_a_request_stays_in_its_thread_and_crowds_no_step(tmp_path: Path) -> None:
    with flow_of(tmp_path, *BRANCHES) as flow:
        answers = in_threads(*(search(flow, number, {}) for number in range(40)))
    assert [[doc.id for doc in answer] for answer in answers] == [[str(number)] for number in range(40)]
    made = {name.split("/")[0]: step for name, step in Recording.made.items()}
    for number in range(40):
        branch = ["loader", "captions"] if number % 2 else ["encoder", "photos"]
        assert [name for name, step in made.items() if str(number) in step.seen] == [*branch, "join"]
        assert len({made[name].threads[str(number)] for name in [*branch, "join"]}) == 1
    assert made["loader"].most == 1
    assert made["encoder"].most <= 2
    assert all(step.closed for step in made.values())


def test_a_request_of_both_kinds_is_split_and_joined(tmp_path: Path) -> None:
    docs = [query(number) for number in range(4)]
    with flow_of(tmp_path, *BRANCHES) as flow:
        answered = flow.run("search", docs)
    assert {doc.id for doc in answered} == set("0123")
    assert all(any(doc is given for given in docs) for doc in answered)
    assert Recording.made["loader/0"].seen == ["1", "3"]
    assert Recording.made["photos/0"].seen == ["0", "2"]


def test_a_step_that_fails_keeps_no_place_taken(tmp_path: Path) -> None:
    with flow_of(tmp_path, *BRANCHES) as flow:
        failed = in_threads(*(search(flow, number, {"failing": str(number)}) for number in range(0, 20, 2)))
        assert [str(error) for error in failed] == ["as asked"] * 10
        assert Recording.made["photos/0"].seen == []
        answers = in_threads(*(search(flow, number, {}) for number in range(4)))
    assert [[doc.id for doc in answer] for answer in answers] == [["0"], ["1"], ["2"], ["3"]]


@pytest.mark.parametrize(("at_once", "replicas", "most"), [(1, 1, 1), (2, 1, 2), (1, 2, 2), (None, 1, 6)])
def test_a_step_gets_as_many_requests_as_it_says(
    tmp_path: Path, at_once: int | None, replicas: int, most: int
) -> None:
    # One at a time waits in vain; as many as may come in find each other, however late one of them comes.
    options = {"at_once": at_once, "together": max(most, 2), "seconds": 0.2 if most == 1 else 30}
    with flow_of(tmp_path, {"name": "waiting", "replicas": replicas, "with": options}) as flow:
        in_threads(*(search(flow, number, {}) for number in range(6)))
    assert Recording.made["waiting/0"].most == most
    assert Recording.made["waiting/0"].inside == 0


def test_each_shard_works_on_documents_of_its_own(tmp_path: Path) -> None:
    with flow_of(tmp_path, {"name": "index", "shards": 3}) as flow:
        (answer,) = flow.run("search", [query(0)])
    assert answer.id == "0"
    assert [Recording.made[f"index/{shard}"].seen for shard in range(3)] == [["0"]] * 3


WRITING: tuple[dict[str, Any], ...] = (
    {"name": "slow", "step": "LaterFirst"},
    {"name": "store", "step": "RecordingWriter", "needs": "slow"},
)


@pytest.mark.parametrize(("failing", "stored"), [(None, ["0", "1", "2"]), (1, ["0", "2"]), (0, ["1", "2"])])
def test_requests_that_write_do_not_overtake_each_other(
    tmp_path: Path, failing: int | None, stored: list[str]
) -> None:
    with flow_of(tmp_path, *WRITING) as flow:
        tickets = [flow.take_ticket() for _ in range(3)]

        def write(number: int) -> Callable[[], Any]:
            docs = [Document(str(number), "text")]
            return lambda: flow.run("index", docs, {"failing": failing}, ticket=tickets[number])

        answers = in_threads(*map(write, range(3)))
    assert [str(answer) for answer in answers if isinstance(answer, Exception)] == ["as asked"] * (
        failing is not None
    )
    assert Recording.made["store/0"].seen == stored


def test_a_write_without_a_ticket_takes_one(tmp_path: Path) -> None:
    with flow_of(tmp_path, {"name": "store", "step": "RecordingWriter"}) as flow:
        for number in range(3):
            flow.run("index", [Document(str(number), "text")])
        # Searches wait for no write.
        held = flow.take_ticket()
        flow.run("search", [query(7)])
        done = threading.Event()
        later = threading.Thread(
            target=lambda: (flow.run("index", [Document("4", "text")]), done.set()), daemon=True
        )
        later.start()
        assert not done.wait(0.2)
        flow.run("index", [Document("3", "text")], ticket=held)
        assert done.wait(30)
        later.join()
    assert Recording.made["store/0"].seen == ["0", "1", "2", "7", "3", "4"]


def test_a_step_that_cannot_be_made_closes_those_that_were(tmp_path: Path) -> None:
    steps = ({"name": "first"}, {"name": "second", "needs": "first", "with": {"colour": "red"}})
    with pytest.raises(Exception, match=r"Recording cannot be made of \['colour'\]"):
        flow_of(tmp_path, *steps)
    assert Recording.made["first/0"].closed
