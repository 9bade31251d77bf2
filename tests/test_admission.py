"""What a server doesn't take on is refused at once; what nobody waits for any more is given up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import TOY_IMAGES, Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from crossmodal import limits
from crossmodal.deadlines import Deadline, check_deadline, current_deadline, until
from crossmodal.documents import Document
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.errors import DeadlinePassed, Overloaded, ServiceError
from crossmodal.places import Places
from crossmodal.records import TEXT, Record
from crossmodal.server import serving as server_serving
from crossmodal.server.admission import Admission
from crossmodal.server.admission_control import AdmissionControl
from crossmodal.server.routes import add_route
from crossmodal.server.serving import Serving
from crossmodal.server.v1.adding import Adding
from crossmodal.settings import Settings
from crossmodal.steps.encoding import ImageEncoder
from crossmodal.steps.step import StepContext

Answer = tuple[int, dict[str, str], Any]


def test_beyond_its_places_a_kind_of_work_is_refused_and_counted() -> None:
    places = Places("sentences", 3)
    with places.take(2):
        with places.take(1):
            assert places.full
            with pytest.raises(Overloaded, match=r"3 sentences and takes on 3") as told, places.take():
                pass
            assert told.value.status == 429
        assert not places.full
        with pytest.raises(Overloaded), places.take(9):
            pass
    # What is larger than all of them comes in where nothing else is under way.
    with places.take(9):
        assert places.held == 3
    assert (places.held, places.shed) == (0, 2)


class Exchange:
    """An application behind the admission control, and one request to it at a time."""

    def __init__(self, work: Callable[[Request], Any], *, seconds: float = 5.0) -> None:
        self.admission = Admission(cores=1, seconds=seconds)
        app = Starlette()
        for path in ("/v1/search", "/search", "/v1/documents"):
            add_route(app, path, self._answer, ["GET", "POST"])
        self._work = work
        self._app = AdmissionControl(app, self.admission)
        self.cancelled = 0

    async def _answer(self, request: Request) -> Response:
        try:
            await self._work(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response("done")

    async def ask(
        self,
        path: str = "/v1/search",
        body: bytes = b"{}",
        *,
        method: str = "POST",
        hangs_up_after: float | None = None,
        part_delays: tuple[float, ...] = (0.0,),
        **headers: str,
    ) -> Answer | None:
        parts = iter(part_delays)
        left = len(part_delays)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            nonlocal left
            if left:
                left -= 1
                await asyncio.sleep(next(parts))
                return {"type": "http.request", "body": body, "more_body": left > 0}
            await asyncio.sleep(60 if hangs_up_after is None else hangs_up_after)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {"content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("localhost", 1),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        }
        await self._app(scope, receive, send)
        if not sent:
            return None
        text = b"".join(message.get("body", b"") for message in sent).decode()
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, json.loads(text) if text.startswith("{") else text


def answer_of(asked: Coroutine[Any, Any, Answer | None]) -> Answer:
    answer = asyncio.run(asked)
    assert answer is not None, "there was no answer"
    return answer


async def read_and_wait(request: Request) -> None:
    await request.body()
    await asyncio.sleep(30)


async def only_read(request: Request) -> None:
    await request.body()


def test_past_its_deadline_a_request_is_given_up_with_504() -> None:
    exchange = Exchange(read_and_wait, seconds=0.1)
    status, _, problem = answer_of(exchange.ask())
    assert (status, problem["status"], problem["title"]) == (504, 504, "The server did not answer in time")
    assert "0.1 seconds" in problem["detail"]
    assert "--request-timeout" in problem["detail"]
    assert (exchange.cancelled, exchange.admission.status()["timed_out"]) == (1, 1)


def test_the_client_may_ask_for_less_and_not_for_more() -> None:
    exchange = Exchange(read_and_wait, seconds=0.3)
    for given in ("0.05", "100"):
        started = time.monotonic()
        assert answer_of(exchange.ask(request_timeout=given))[0] == 504
        assert time.monotonic() - started < 5
    for given in ("soon", "0", "-1", "nan", "inf"):
        status, _, problem = answer_of(exchange.ask(request_timeout=given))
        assert (status, given in problem["detail"]) == (400, True)


def test_clients_of_jina_get_their_envelope() -> None:
    exchange = Exchange(read_and_wait, seconds=0.1)
    status, _, answer = answer_of(exchange.ask("/search"))
    assert status == 504
    assert "0.1 seconds" in answer["status"]["description"]


def test_a_client_that_hangs_up_frees_its_place() -> None:
    async def search(request: Request) -> None:
        await request.body()
        with exchange.admission.search_places(1, 0):
            await asyncio.sleep(30)

    exchange = Exchange(search)
    assert asyncio.run(exchange.ask(hangs_up_after=0.05)) is None
    assert exchange.cancelled == 1
    assert exchange.admission.sentences.held == 0
    assert exchange.admission.status()["hung_up"] == 1


def test_a_client_that_leaves_with_its_answer_hangs_nothing_up() -> None:
    exchange = Exchange(only_read)
    assert answer_of(exchange.ask(hangs_up_after=0.0))[2] == "done"
    assert exchange.admission.status()["hung_up"] == 0


def test_an_upload_has_its_time_for_each_part() -> None:
    exchange = Exchange(only_read, seconds=0.4)
    answer = answer_of(exchange.ask("/v1/documents", part_delays=(0.2, 0.2, 0.2, 0.2)))
    assert answer[0] == 200
    # A deadline that the client names is for all of it.
    answer = answer_of(exchange.ask("/v1/documents", part_delays=(0.2, 0.2, 0.2, 0.2), request_timeout="0.4"))
    assert answer[0] == 504


def test_a_full_queue_refuses_a_search_before_its_body_is_read() -> None:
    exchange = Exchange(only_read)
    with exchange.admission.sentences.take(exchange.admission.sentences.most):
        status, headers, problem = answer_of(exchange.ask(part_delays=(30.0,)))
        assert (status, headers["retry-after"], problem["title"]) == (429, "1", "Too many requests came")
        # Photos have a queue of their own, and what is read as well.
        assert answer_of(exchange.ask(content_type="multipart/form-data"))[0] == 200
        assert answer_of(exchange.ask("/v1/documents", method="GET"))[0] == 200
        assert exchange.admission.overloaded
    assert exchange.admission.status()["queues"]["sentences"]["shed"] == 1


def test_the_queue_is_as_long_as_can_be_answered_in_half_a_second() -> None:
    admission = Admission(cores=2, seconds=60)
    assert admission.sentences.most == 256
    for _ in range(50):
        admission.note_batch(16, 16 * 0.01)
    # Two cores, each with a batch of 16 at 10 ms a sentence: 200 sentences a second.
    assert 95 <= admission.sentences.most <= 105
    for _ in range(50):
        admission.note_batch(1, 5.0)
    assert admission.sentences.most == 48, "the cores stay busy"
    for _ in range(50):
        admission.note_batch(16, 0.001)
    assert admission.sentences.most == 256


def test_all_bodies_together_have_a_limit() -> None:
    exchange = Exchange(only_read)
    exchange.admission.body_bytes = limits.BODIES_TOGETHER.most - 10
    status, headers, problem = answer_of(exchange.ask(body=b"x" * 11))
    assert (status, headers["retry-after"]) == (429, "1")
    assert "takes on 256 MiB" in problem["detail"]
    assert answer_of(exchange.ask(body=b"x" * 10))[0] == 200
    assert exchange.admission.body_bytes == limits.BODIES_TOGETHER.most - 10


def test_what_is_written_is_waited_for_although_the_client_has_gone() -> None:
    ended: list[str] = []

    async def index(records: list[Record]) -> dict[str, Indexed]:
        await asyncio.sleep(0.2)
        ended.append("written")
        return {record.id: Indexed(record, "added") for record in records}

    async def upload() -> None:
        async with Adding(SimpleNamespace(index=index)) as adding:  # type: ignore[arg-type]
            await adding.add("line 1", [Record("one", TEXT, text="a sentence")])
            await adding.finish()

    async def run() -> None:
        uploading = asyncio.ensure_future(upload())
        await asyncio.sleep(0.05)
        uploading.cancel()
        await asyncio.wait({uploading})
        assert uploading.cancelled()
        assert ended == ["written"]

    asyncio.run(run())


def test_clients_that_leave_read_no_more_at_once_than_others(toy_workspace: Path) -> None:
    settings = Settings(workspace=toy_workspace)
    with Engine(settings) as engine:
        serving = Serving("query", engine, settings)
        under_way = most = 0
        counting, go_on = threading.Lock(), threading.Event()

        def read() -> None:
            nonlocal under_way, most
            with counting:
                under_way += 1
                most = max(most, under_way)
            go_on.wait(30)
            with counting:
                under_way -= 1

        async def ask() -> None:
            async with serving.admission.reading:
                await serving.read(read)

        async def run() -> None:
            for _ in range(5):
                several = [asyncio.ensure_future(ask()) for _ in range(4)]
                await asyncio.sleep(0.05)
                for each in several:
                    each.cancel()
                await asyncio.wait(several)
            try:
                # Other threads are free.
                async with asyncio.timeout(10):
                    assert await asyncio.to_thread(lambda: "free") == "free"
            finally:
                go_on.set()

        try:
            asyncio.run(run())
        finally:
            serving.close()
        assert most == serving.admission.reading_threads == 6


def test_places_that_are_waited_for_come_when_enough_are_given_back() -> None:
    places = Places("MiB of photos", 4)

    async def run() -> None:
        first, second = await places.wait_for(3), await places.wait_for(1)
        waiting = asyncio.ensure_future(places.wait_for(9))
        await asyncio.sleep(0)
        places.give_back(second)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        places.give_back(first)
        assert await waiting == places.held == 4
        given_up = asyncio.ensure_future(places.wait_for(1))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait({given_up})
        places.give_back(4)

    asyncio.run(run())
    assert places.held == 0


def test_steps_stop_where_nobody_waits() -> None:
    check_deadline()
    deadline = Deadline(60)
    with until(deadline):
        assert current_deadline() is deadline
        check_deadline()
        deadline.give_up()
        with pytest.raises(DeadlinePassed, match="60 seconds"):
            check_deadline()
    check_deadline()


def test_many_photos_of_one_search_stop_where_nobody_waits() -> None:
    photo = min(TOY_IMAGES.glob("*.jpg")).read_bytes()
    deadline = Deadline(60)
    encoded = 0

    def encode(pixels: Any) -> Any:
        nonlocal encoded
        encoded += 1
        deadline.give_up()
        return np.ones((len(pixels), 8), np.float32)

    loaded: Any = SimpleNamespace(image_encoder=lambda *names, **options: SimpleNamespace(encode=encode))
    step = ImageEncoder(StepContext("image_encoder", loaded=loaded), model="none", model_cache="none")
    docs = [Document.of_query(str(n), content=photo) for n in range(9)]
    for doc in docs:
        doc.pixels = np.zeros((4, 4, 3), np.uint8)
    with until(deadline), pytest.raises(DeadlinePassed):
        step.search(docs, {})
    assert encoded == 1


def test_a_step_that_does_not_come_back_is_told() -> None:
    admission = Admission(cores=1, seconds=1)
    with admission.under_way(Deadline(-10)):
        assert admission.stuck is None
        with admission.under_way(Deadline(-100)):
            assert "100 seconds ago" in str(admission.stuck)
    assert admission.stuck is None


def test_ready_and_healthy_are_true(toy_workspace: Path) -> None:
    settings = Settings(workspace=toy_workspace)
    with Engine(settings) as engine:
        serving = Serving("query", engine, settings)
        try:
            with (
                serving.admission.sentences.take(10_000),
                pytest.raises(ServiceError, match="This server is busy"),
            ):
                asyncio.run(serving.require_ready())
            serving.require_healthy()
            with serving.admission.under_way(Deadline(-100)):
                with pytest.raises(ServiceError, match="stuck"):
                    serving.require_healthy()
                with pytest.raises(ServiceError, match="stuck"):
                    asyncio.run(serving.require_ready())
            asyncio.run(serving.require_ready())
        finally:
            serving.close()


def test_a_write_that_does_not_come_back_is_told_once_the_model_is_loaded(
    toy_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each batch would have had to end long ago, but for what is loaded first.
    monkeypatch.setattr(server_serving, "_WRITING_SECONDS", -1000.0)
    record = Record("one", TEXT, text="a sentence").hashed()
    states = ["idle", "running"]
    told: list[str | None] = []

    def index(engine: Engine, records: Any, **options: Any) -> Iterator[Indexed]:
        for _ in range(2):
            told.append(serving.admission.stuck)
            yield Indexed(record, "added")

    def delete(engine: Engine, ids: Any, **options: Any) -> list[str]:
        told.append(serving.admission.stuck)
        return list(ids)

    monkeypatch.setattr(Engine, "writer_state", property(lambda self: states.pop(0) if states else "running"))
    monkeypatch.setattr(Engine, "index", index)
    monkeypatch.setattr(Engine, "delete", delete)
    settings = Settings(workspace=toy_workspace)
    with Engine(settings) as engine:
        serving = Serving("query", engine, settings)
        try:
            assert asyncio.run(serving.index([record]))["one"].outcome == "added"
            loading, running = told
            assert loading is None
            # 15 seconds for the document.
            assert "985 seconds ago" in str(running)
            assert asyncio.run(serving.delete(["one"], captions=True)) == ["one"]
            assert "985 seconds ago" in str(told[-1])
            assert serving.admission.stuck is None
        finally:
            serving.close()


def test_however_many_ask_few_checks_whether_it_is_ready_are_made(
    toy_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=toy_workspace)
    checks = 0
    failing = threading.Event()

    def check(engine: Engine) -> None:
        nonlocal checks
        checks += 1
        time.sleep(0.1)
        if failing.is_set():
            raise ServiceError("Nothing is found.")

    monkeypatch.setattr(Engine, "check_search", check)

    async def ask() -> None:
        await asyncio.gather(*(serving.require_ready() for _ in range(200)))
        assert checks == 1
        # What was found is told for a moment, and then looked for again.
        failing.set()
        deadline = time.monotonic() + 30
        while checks == 1:
            assert time.monotonic() < deadline
            with suppress(ServiceError):
                await serving.require_ready()
            await asyncio.sleep(0.02)
        answers = await asyncio.gather(*(serving.require_ready() for _ in range(200)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {"Nothing is found."}
        assert checks <= 3

    with Engine(settings) as engine:
        serving = Serving("query", engine, settings)
        try:
            asyncio.run(ask())
        finally:
            serving.close()


def test_many_times_too_much_is_shed_and_the_rest_is_answered(toy_server: Server) -> None:
    host, _, port = toy_server.url.removeprefix("http://").partition(":")

    async def ask(number: int) -> tuple[int, bytes]:
        body = json.dumps({"text": f"a dog number {number} on a beach", "top_k": 3}).encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        status = int(head.split(b" ")[1])
        assert status == 200 or b"retry-after: 1" in head.lower()
        assert status == 200 or json.loads(content)["status"] == 429
        return status, content

    async def all_at_once() -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(ask(number) for number in range(900)))

    counted = Counter(status for status, _ in asyncio.run(all_at_once()))
    assert set(counted) == {200, 429}, counted
    assert counted[200] >= 48
    assert toy_server.request("/v1/search", {"text": "a dog"})[0] == 200
    assert toy_server.request("/readyz")[0] == 200
