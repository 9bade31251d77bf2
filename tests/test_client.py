"""The Python client: the same answers as the server's, and what it does when something goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import REPOSITORY, TOY_IMAGES, Server, copy_index, free_port, run_app, start_server
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.client import (
    ApiError,
    AsyncClient,
    Client,
    ClientError,
    Match,
    NewDocument,
    Query,
    Retries,
    ServerUnavailable,
    Term,
    UploadProgress,
)
from crossmodal.client.queries import search_call
from crossmodal.client.uploads import batches

SENTENCE = "people climb the stairs"
CAT = "a close-up of the face of a tabby cat"
NO_WAIT = Retries(attempts=4, first_delay=0)
TIMING = {"total_ms": 3.0, "encode_ms": 1.0, "search_ms": 1.0, "words_ms": 0.0, "fetch_ms": 0.5}
FOUND = {
    "results": [
        {
            "query": {"terms": [{"text": "dog", "weight": 1.0}], "modality": "image"},
            "matches": [{"id": "7", "modality": "image", "rank": 1, "score": None, "cosine": 0.25}],
            "has_more": False,
            "error": None,
        }
    ],
    "model": "vse",
    "timing": TIMING,
}


def mocked(*replies: httpx2.Response | Exception, retries: Retries = NO_WAIT) -> tuple[Client, list[Any]]:
    """A client whose server gives these replies one after the other, and the requests that it has got."""
    left, requests = list(replies), []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return Client("http://server:1", retries=retries, transport=httpx2.MockTransport(answer)), requests


def problem(status: int, **headers: str) -> httpx2.Response:
    body = {
        "type": "/problems/x",
        "title": "It cannot be",
        "status": status,
        "detail": "Because of the limit.",
    }
    return httpx2.Response(status, json=body, headers={"content-type": "application/problem+json", **headers})


def test_importing_it_brings_nothing_large() -> None:
    listed = "import sys, crossmodal.client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", listed], cwd=REPOSITORY, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "crossmodal" in loaded
    assert not loaded & {"httpx2", "numpy", "torch", "jina", "docarray", "PIL", "lmdb", "yaml"}


# What goes wrong on the way.


def test_a_call_is_made_again_until_it_is_answered() -> None:
    client, requests = mocked(
        httpx2.ConnectError("refused"),
        problem(503),
        httpx2.RemoteProtocolError("gone"),
        httpx2.Response(200, json=FOUND),
    )
    assert client.search("dog").matches[0].id == "7"
    assert len(requests) == 4
    assert {request.content for request in requests} == {b'{"text": "dog", "top_k": 10}'}


def test_after_the_last_attempt_the_server_is_unavailable() -> None:
    client, requests = mocked(*[httpx2.ConnectError("refused")] * 4)
    with pytest.raises(
        ServerUnavailable, match=r"http://server:1 cannot be reached .tried 4 times.: refused"
    ):
        client.status()
    assert len(requests) == 4
    client, requests = mocked(*[problem(503)] * 4)
    with pytest.raises(ServerUnavailable, match=r"is not ready .tried 4 times.: .*Because of the limit"):
        client.status()
    assert len(requests) == 4


def test_too_many_requests_stay_a_problem() -> None:
    client, requests = mocked(*[problem(429)] * 4)
    with pytest.raises(ApiError) as raised:
        client.tags()
    assert raised.value.status == 429
    assert len(requests) == 4


def test_it_waits_as_long_as_the_server_says_and_no_longer_than_it_may() -> None:
    retries = Retries(attempts=3, first_delay=0, longest_delay=5)
    client, requests = mocked(problem(503, **{"retry-after": "6"}), retries=retries)
    with pytest.raises(ServerUnavailable):
        client.status()
    assert len(requests) == 1
    assert retries.wait(1, 3.0) == 3.0
    assert retries.wait(3, 0.0) is None


@given(
    st.integers(1, 12),
    st.floats(0, 100),
    st.floats(0, 1e6),
    st.integers(1, 2000),
    st.none() | st.floats(0, 1e6),
)
def test_waits_are_bounded(attempts: int, first: float, more: float, made: int, told: float | None) -> None:
    retries = Retries(attempts, first, first + more)
    wait = retries.wait(made, told)
    if made >= attempts or (told or 0) > first + more:
        assert wait is None
    else:
        backoff = min(first + more, first * 2.0 ** (made - 1))
        assert wait is not None
        assert max(told or 0, backoff / 2) <= wait <= max(told or 0, backoff) <= first + more


@pytest.mark.parametrize("arguments", [(0,), (1, -1.0), (1, 2.0, 1.0)])
def test_retries_that_cannot_be_followed(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be followed"):
        Retries(*arguments)


def test_no_answer_in_time_is_not_waited_for_again() -> None:
    client, requests = mocked(httpx2.ReadTimeout("slow"))
    with pytest.raises(ServerUnavailable, match="no answer within 30 seconds"):
        client.search("dog")
    assert len(requests) == 1


def test_a_problem_tells_all_that_the_server_told() -> None:
    client, requests = mocked(problem(422))
    with pytest.raises(ApiError) as raised:
        client.search("dog", filter={"place": {"$near": 1}})
    error = raised.value
    assert (error.status, error.title, error.detail) == (422, "It cannot be", "Because of the limit.")
    assert error.problem["type"] == "/problems/x"
    assert str(error) == "It cannot be (422): Because of the limit."
    assert len(requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"<html>It works!</html>", b"[]", b"{}", b'{"results": [{}], "model": "m", "timing": {}}', b""],
)
def test_the_answer_of_another_server_is_a_sentence(body: bytes) -> None:
    client, _ = mocked(httpx2.Response(200, content=body))
    with pytest.raises(ClientError, match="no answer of the search API"):
        client.search("dog")


@pytest.mark.parametrize(
    ("name", "value"), [("cosine", "0.25"), ("modality", "sound"), ("captions", "a dog"), ("id", None)]
)
def test_a_match_of_another_shape_is_a_sentence(name: str, value: Any) -> None:
    body = json.loads(json.dumps(FOUND))
    body["results"][0]["matches"][0][name] = value
    client, _ = mocked(httpx2.Response(200, json=body))
    with pytest.raises(ClientError, match="no answer of the search API"):
        client.search("dog")


def test_what_this_client_does_not_know_is_passed_over_and_what_was_not_asked_for_is_empty() -> None:
    body = json.loads(json.dumps(FOUND))
    body["results"][0]["matches"][0]["later"] = {"a": 1}
    client, _ = mocked(httpx2.Response(200, json=body))
    (match,) = client.search("dog").matches
    assert match == Match("7", "image", 0.25, rank=1, duplicates=())
    assert (match.captions, match.tags) == ((), {})


def test_both_clients_take_the_same_arguments() -> None:
    for name in ("search", "search_many", "more_like", "iterate", "upload", "delete", "documents", "status"):
        blocking, awaited = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
        assert blocking.parameters == awaited.parameters
    assert inspect.signature(Client("http://server:1").search).return_annotation == "QueryResult"
    assert str(inspect.getdoc(Client.search)).startswith("Answers one query")


def test_a_refusal_that_is_no_problem_document_is_shown() -> None:
    client, _ = mocked(httpx2.Response(404, content=b"<h1>nginx</h1>\n"))
    with pytest.raises(ApiError, match=r"404.*<h1>nginx</h1>"):
        client.status()


@pytest.mark.parametrize(
    "url", ["localhost:45678", "ftp://server", "http://", "http://server:99999", "http://server/?x=1", ""]
)
def test_an_address_that_is_none_is_a_sentence(url: str) -> None:
    with pytest.raises(ClientError, match=r"address"):
        Client(url)


def test_ids_are_escaped_and_an_address_may_have_a_path() -> None:
    requests = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json={"deleted": ["a/b #1?"]})

    client = Client("http://server:1/photos/", transport=httpx2.MockTransport(answer))
    assert client.delete("a/b #1?", captions=False) == ("a/b #1?",)
    assert requests[0].url.raw_path == b"/photos/v1/documents/a%2Fb%20%231%3F?captions=false"


# Queries.


def test_what_a_query_says_stands_in_the_request() -> None:
    client, requests = mocked(httpx2.Response(200, json=FOUND))
    client.search(
        terms=[
            Term("dog"),
            {"image": "id:42", "weight": 0.5},
            Term("snow", weight=-0.4),
            Term(image="https://photos.example/snow.jpg"),
        ],
        modality="both",
        top_k=3,
        min_score=0.2,
        filter={"place": "harbour"},
        hybrid=True,
        fields=["text"],
    )
    assert json.loads(requests[0].content) == {
        "terms": [
            {"text": "dog", "weight": 1.0},
            {"image": "id:42", "weight": 0.5},
            {"text": "snow", "weight": -0.4},
            {"image": "https://photos.example/snow.jpg", "weight": 1.0},
        ],
        "modality": "both",
        "top_k": 3,
        "min_score": 0.2,
        "filter": {"place": "harbour"},
        "hybrid": True,
        "return": ["text"],
    }


@given(st.lists(st.one_of(st.binary(max_size=20), st.just("id:7"), st.none()), min_size=1, max_size=6))
def test_photos_go_along_as_files_in_their_order(images: list[Any]) -> None:
    queries = [Query(text="dog") if image is None else Query(terms=[Term(image=image)]) for image in images]
    call = search_call(queries, Query(top_k=5))
    files = [image for image in images if isinstance(image, bytes)]
    parts = [content for _, (_, content, _) in call.options.get("files", ())]
    assert parts[1:] == files
    body = json.loads(parts[0] if files else call.options["content"])
    assert body["top_k"] == 5
    named = [query["terms"][0]["image"] for query in body["queries"] if "terms" in query]
    numbers = iter(range(len(files)))
    assert named == [
        f"upload:{next(numbers)}" if isinstance(image, bytes) else image
        for image in images
        if image is not None
    ]


def test_a_photo_that_cannot_be_read_or_a_number_that_is_none_never_leaves() -> None:
    client, requests = mocked()
    with pytest.raises(ClientError, match=r"/no/such\.jpg.*No such file"):
        client.search(image="/no/such.jpg")
    with pytest.raises(ClientError, match="JSON"):
        client.search("dog", min_score=float("nan"))
    with pytest.raises(ClientError, match="JSON"):
        client.search("\ud800")
    with pytest.raises(ClientError, match="page_size is 0"):
        list(client.iterate("dog", page_size=0))
    assert requests == []


# Uploads.

DOCUMENTS = st.builds(
    NewDocument,
    text=st.text(max_size=5),
    image=st.none() | st.binary(max_size=40),
    id=st.none() | st.text("ab", min_size=1, max_size=2),
)


@given(st.lists(DOCUMENTS, max_size=30), st.integers(1, 5), st.integers(1, 300))
def test_batches_hold_every_document_once_and_no_more_than_they_may(
    documents: list[NewDocument], most: int, size: int
) -> None:
    made = list(batches(documents, max_documents=most, max_bytes=size))
    lines = [json.loads(item.content) for batch in made for item in batch.items]
    assert [line.get("text") for line in lines] == [document.text for document in documents]
    assert ["image" in line for line in lines] == [document.image is not None for document in documents]
    for batch in made:
        assert 1 <= len(batch.items) <= most
        assert len(batch.items) == 1 or sum(len(item.content) for item in batch.items) <= size
        assert len({item.content for item in batch.items}) == len(batch.items)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(folder.encode())
    (tmp_path / "b" / "y.jpg").write_bytes(b"b")
    made = list(batches(tmp_path, max_documents=9, max_bytes=99))
    assert [[item.source for item in batch.items] for batch in made] == [
        [str(tmp_path / "a" / "x.jpg")],
        [str(tmp_path / "b" / "x.jpg")],
        [str(tmp_path / "b" / "y.jpg")],
    ]


def accepting(refused: str = "\0", status: int = 413) -> Callable[[httpx2.Request], httpx2.Response]:
    """A server that adds every file or line, but refuses a whole request that holds ``refused``."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = request.read().decode()
        if refused in body:
            return problem(status)
        if request.headers["content-type"] == "application/x-ndjson":
            sources = [f"line {number}" for number in range(1, body.count("\n") + 1)]
        else:
            sources = [part.partition('"')[0] for part in body.split('name="file"; filename="')[1:]]
        results = [
            {"source": source, "id": source, "modality": "image", "outcome": "added", "error": None}
            for source in sources
        ]
        return httpx2.Response(200, json={"results": results})

    return answer


def photos(folder: Path, number: int) -> list[Path]:
    paths = [folder / f"{position}.jpg" for position in range(number)]
    for path in paths:
        path.write_bytes(f"photo {path.stem}.".encode())
    return paths


def test_a_refused_file_takes_no_other_along(tmp_path: Path) -> None:
    paths = photos(tmp_path, 7)
    missing = tmp_path / "missing.jpg"
    seen: list[UploadProgress] = []
    with Client("http://server:1", transport=httpx2.MockTransport(accepting("photo 3."))) as client:
        summary = client.upload([*paths, missing], on_progress=seen.append)
    assert (summary.added, summary.failed) == (6, 2)
    failed = {outcome.source: outcome.error for outcome in summary.failures}
    assert set(failed) == {str(paths[3]), str(missing)}
    assert "Because of the limit" in str(failed[str(paths[3])])
    assert "No such file" in str(failed[str(missing)])
    assert {outcome.source for outcome in summary.outcomes} == {str(path) for path in [*paths, missing]}
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].added, seen[-1].failed) == (8, 8, 6, 2)
    assert [outcome for progress in seen for outcome in progress.latest] == list(summary.outcomes)


@pytest.mark.parametrize("status", [403, 409, 507])
def test_a_server_that_takes_nothing_ends_the_upload(tmp_path: Path, status: int) -> None:
    answer = httpx2.MockTransport(accepting("photo 1.", status))
    with Client("http://server:1", transport=answer) as client, pytest.raises(ApiError) as raised:
        client.upload(photos(tmp_path, 3))
    assert raised.value.status == status


def test_files_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    handed_out: list[int] = []
    most_ahead = 0

    def documents() -> Iterator[NewDocument]:
        for number in range(20):
            handed_out.append(number)
            yield NewDocument(text=f"caption {number}")

    def ahead(progress: UploadProgress) -> None:
        nonlocal most_ahead
        most_ahead = max(most_ahead, len(handed_out) - progress.done)

    with Client("http://server:1", transport=httpx2.MockTransport(accepting())) as client:
        summary = client.upload(documents(), max_documents=4, on_progress=ahead)
    assert summary.added == 20
    assert most_ahead <= 1


def test_what_cannot_be_uploaded_is_a_sentence() -> None:
    client, _ = mocked()
    with pytest.raises(ClientError, match="int cannot be uploaded"):
        client.upload([7])  # type: ignore[list-item]


def test_the_asynchronous_client_uploads_and_retries_as_well(tmp_path: Path) -> None:
    async def work() -> None:
        replies = [httpx2.ConnectError("refused"), problem(503)]
        accept = accepting("photo 3.")

        def answer(request: httpx2.Request) -> httpx2.Response:
            if replies:
                reply = replies.pop(0)
                if isinstance(reply, Exception):
                    raise reply
                return reply
            return accept(request)

        transport = httpx2.MockTransport(answer)
        async with AsyncClient("http://server:1", retries=NO_WAIT, transport=transport) as client:
            summary = await client.upload(photos(tmp_path, 7))
        assert (summary.added, summary.failed) == (6, 1)
        async with AsyncClient(f"http://127.0.0.1:{free_port()}", retries=Retries(1)) as client:
            with pytest.raises(ServerUnavailable):
                await client.wait_until_ready(timeout=0)

    asyncio.run(work())


# The real server.


@pytest.fixture(scope="module")
def client(toy_server: Server) -> Iterator[Client]:
    with Client(toy_server.url) as client:
        client.wait_until_ready()
        yield client


def test_a_sentence_finds_what_the_command_finds(client: Client, toy_workspace: Path) -> None:
    done = run_app(
        "-t", "query", "--workspace", toy_workspace, "--query-text", SENTENCE, "-k", "15", "--json"
    )
    expected = json.loads(done.stdout)["results"][0]["matches"]
    result = client.search(SENTENCE, top_k=15)
    assert [match.id for match in result.matches] == [match["id"] for match in expected]
    assert [match.cosine for match in result.matches] == [match["cosine"] for match in expected]
    assert [match.score for match in result.matches] == pytest.approx(
        [match["score"] for match in expected], abs=1e-6
    )
    best = result.matches[0]
    assert best.photo is not None
    assert best.photo.file == "stair-tower.jpg"
    assert [caption.text for caption in best.captions] == expected[0]["captions"]
    assert best.tags.items() >= {"subject": "building", "tones": "black and white"}.items()
    assert [match.rank for match in result.matches] == list(range(1, 16))
    assert result.terms[0].text == SENTENCE
    assert (result.modality, result.has_more, result.error) == ("image", False, None)
    assert result.model == "clip-mini"
    assert result.timing.total_ms > 0
    assert len(client.search(SENTENCE, top_k=5).matches) == 5
    assert client.search(SENTENCE, top_k=5).has_more


def test_a_photo_finds_captions_however_it_is_given(client: Client) -> None:
    path = TOY_IMAGES / "coffee.jpg"
    by_file = client.search(image=path, top_k=3)
    assert [match.modality for match in by_file.matches] == ["text"] * 3
    by_bytes = client.search(image=path.read_bytes(), top_k=3)
    photo = by_file.matches[0].photo
    assert photo is not None
    assert photo.file == "coffee.jpg"
    by_id = client.search(image=f"id:{photo.id}", top_k=3)
    by_address = client.search(image=photo.content, top_k=3)
    for other in (by_bytes, by_id, by_address):
        assert [match.id for match in other.matches] == [match.id for match in by_file.matches]


def test_several_queries_each_with_its_own_wishes(client: Client) -> None:
    answer = client.search_many(
        [
            SENTENCE,
            Query(text="a cup of coffee", top_k=1),
            Query(id="no such document"),
            Query(expression='"a cat" - "a raccoon"', modality="text"),
        ],
        top_k=4,
        filter={"subject": {"$in": ["animal", "food", "object"]}},
    )
    assert [len(result.matches) for result in answer.results] == [4, 1, 0, 4]
    assert answer.results[2].error is not None
    assert answer.results[2].error.status == 404
    assert {match.modality for match in answer.results[3].matches} == {"text"}
    for result in answer.results:
        assert {match.tags["subject"] for match in result.matches} <= {"animal", "food", "object"}
    with pytest.raises(ApiError) as raised:
        client.search_many([Query(id="no such document")])
    assert raised.value.status == 404


def test_more_like_and_recommendations_leave_out_what_they_are_from(client: Client) -> None:
    cat = client.search(CAT, top_k=1).matches[0].id
    like = client.more_like(cat, top_k=15)
    assert cat not in {match.id for match in like.matches}
    assert len(like.matches) == 14
    other = like.matches[-1].id
    recommended = client.search(like=[cat], unlike=[other], top_k=15)
    assert len(recommended.matches) == 13
    assert {match.id for match in recommended.matches} == {
        match.id for match in like.matches if match.id != other
    }


def test_iterating_gives_the_whole_ranking(client: Client) -> None:
    at_once = client.search(SENTENCE, modality="both", top_k=100).matches
    assert len(at_once) == 56
    for page_size in (1000, 7):
        paged = list(client.iterate(SENTENCE, modality="both", page_size=page_size))
        assert paged == list(at_once)
    assert len(list(client.iterate(SENTENCE, hybrid=True, page_size=6))) == 15


def test_hybrid_results_have_their_parts(client: Client) -> None:
    best = client.search("raccoon", hybrid=True, top_k=1).matches[0]
    assert best.photo is not None
    assert best.photo.file == "raccoon.jpg"
    assert best.parts is not None
    assert best.parts.word_rank == 1
    assert best.parts.bm25 is not None
    assert best.parts.bm25 > 0
    assert client.search("raccoon", top_k=1).matches[0].parts is None


def test_fields_that_are_not_wanted_do_not_come(client: Client) -> None:
    match = client.search(SENTENCE, top_k=1, fields=["tags"]).matches[0]
    assert match.tags["subject"] == "building"
    assert (match.photo, match.captions, match.text) == (None, (), None)


def test_documents_with_their_bytes(client: Client) -> None:
    captions = list(client.documents("text", page_size=10))
    assert len(captions) == 41
    assert {caption.modality for caption in captions} == {"text"}
    indexed = list(client.documents(page_size=4))
    assert [document.id for document in indexed] == sorted(document.id for document in indexed)
    assert {document.photo.file for document in indexed if document.photo} == {
        path.name for path in TOY_IMAGES.iterdir()
    }
    coffee = next(document for document in indexed if document.photo and document.photo.file == "coffee.jpg")
    assert client.document(coffee.id) == coffee
    assert client.content(coffee.id) == (TOY_IMAGES / "coffee.jpg").read_bytes()
    assert client.thumbnail(coffee.id).startswith(b"\xff\xd8\xff")
    assert client.thumbnail(coffee.id, size=200)[8:12] == b"WEBP"
    assert coffee.photo is not None
    assert (coffee.photo.width, coffee.photo.height, coffee.photo.colour) == (600, 400, "#9e5634")
    caption = client.document(coffee.captions[0].id)
    assert (caption.modality, caption.text) == ("text", coffee.captions[0].text)
    assert caption.photo == coffee.photo


def test_tags_models_and_status(client: Client, toy_workspace: Path) -> None:
    fields = {field.name: field for field in client.tags()}
    assert {"subject", "tones", "taken", "width"} <= set(fields)
    assert fields["tones"].type == "string"
    assert fields["tones"].count == 15
    assert sum(value.count for value in fields["tones"].values) == 15
    tones = client.facet("tones", order="value")
    assert (tones.count, tones.more) == (15, False)
    assert {(each.value, each.count) for each in tones.values} == {
        (each.value, each.count) for each in fields["tones"].values
    }
    assert client.facet("tones", filter={"file": "cat.jpg"}).count == 1
    (found,) = client.suggest("coff", limit=1)
    assert (found.kind, found.text, found.filter) == ("file", "coffee.jpg", {"file": "coffee.jpg"})
    models = {model.name: model for model in client.models()}
    assert [name for name, model in models.items() if model.serving] == ["clip-mini"]
    client.search(SENTENCE)
    status = client.status()
    told = json.loads(run_app("-t", "status", "--workspace", toy_workspace, "--json").stdout)
    assert status.model is not None
    assert (status.model.name, status.model.weights) == ("clip-mini", told["model"]["weights"])
    assert models["clip-mini"].dimension == status.model.dimension
    assert {name: held.documents for name, held in status.modalities.items()} == {"image": 15, "text": 41}
    assert status.index.recall == 1.0
    assert status.traffic.queries > 0
    assert 0 < sum(bucket.count for bucket in status.traffic.latency) <= status.traffic.queries
    assert status.uptime_s > 0


def test_what_the_server_refuses_is_an_error_with_its_words(client: Client) -> None:
    with pytest.raises(ApiError, match=r"\$near") as raised:
        client.search("dog", filter={"place": {"$near": 1}})
    assert raised.value.status == 422
    assert raised.value.problem["title"]
    for ask in (client.document, client.content, client.thumbnail):
        with pytest.raises(ApiError) as missing:
            ask("no such document")
        assert missing.value.status == 404
    with pytest.raises(ApiError):
        client.search("dog", top_k=0)
    with pytest.raises(ApiError):
        client.search()


def test_the_asynchronous_client_answers_the_same(client: Client) -> None:
    async def work() -> None:
        async with AsyncClient(client.url) as other:
            await other.wait_until_ready()
            both = await asyncio.gather(other.search(SENTENCE, top_k=4), other.search("a rocket", top_k=4))
            assert both[0].matches == client.search(SENTENCE, top_k=4).matches
            assert both[1].matches == client.search("a rocket", top_k=4).matches
            assert [m async for m in other.iterate("a rocket", page_size=4)] == list(
                client.iterate("a rocket")
            )
            assert [document async for document in other.documents()] == list(client.documents())
            best = both[1].matches[0].id
            assert await other.document(best) == client.document(best)
            assert await other.content(best) == client.content(best)
            assert await other.thumbnail(best) == client.thumbnail(best)
            assert await other.tags() == client.tags()
            assert await other.models() == client.models()
            assert (await other.status()).model == client.status().model
            like, expected = await other.more_like(best), client.more_like(best)
            assert like.matches == expected.matches
            many = await other.search_many([SENTENCE, Query(id="no such document")], top_k=4)
            assert many.results[0].matches == both[0].matches
            assert many.results[1].error is not None

    asyncio.run(work())


def test_photos_and_captions_are_uploaded_found_and_deleted(tmp_path: Path, toy_workspace: Path) -> None:
    copy_index(toy_workspace, tmp_path / "workspace")
    port = free_port()
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(ServerUnavailable, match="reached"):
        client.wait_until_ready(timeout=0.3)
    server = start_server("query_restful", "--workspace", tmp_path / "workspace", port=port)
    (tmp_path / "broken.jpg").write_bytes(b"no photo at all")
    names = ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    sources = [*(TOY_IMAGES / name for name in names), tmp_path / "broken.jpg"]
    metadata = {"cat.jpg": {"id": "the cat", "captions": ["a tabby cat"]}, "*": {"tags": {"set": "new"}}}
    seen: list[UploadProgress] = []
    with Client(server.url) as client:
        client.wait_until_ready()
        summary = client.upload(
            [*sources, NewDocument(text="a white cup", id="cup", tags={"set": "new"})],
            metadata=metadata,
            on_progress=seen.append,
        )
        outcomes = {(outcome.source, outcome.modality): outcome for outcome in summary.outcomes}
        # Two of them are in the index, from the folder where they lie.
        assert (summary.added, summary.replaced, summary.failed) == (3, 2, 1), summary.failures
        assert outcomes[str(TOY_IMAGES / "cat.jpg"), "image"].id == "the cat"
        assert outcomes[str(TOY_IMAGES / "cat.jpg"), "text"].outcome == "added"
        assert outcomes["cup", "text"].id == "cup"
        assert [failure.source for failure in summary.failures] == [str(tmp_path / "broken.jpg")]
        assert (seen[-1].done, seen[-1].total) == (5, 5)
        again = client.upload(sources[:3], metadata=metadata)
        assert (again.added, again.replaced, again.unchanged, again.failed) == (0, 0, 4, 0)
        best = client.search(CAT, top_k=1, filter={"set": "new"}).matches[0]
        assert best.id == "the cat"
        assert [caption.text for caption in best.captions] == ["a tabby cat"]
        assert best.tags.items() >= {"set": "new", "file": "cat.jpg"}.items()
        deleted = client.delete("the cat")
        assert deleted[0] == "the cat"
        assert len(deleted) == 2
        with pytest.raises(ApiError):
            client.document("the cat")
        assert client.search(CAT, top_k=1, filter={"set": "new"}).matches[0].id != "the cat"
    assert server.stop() == 0
