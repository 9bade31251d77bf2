"""With a real Milvus server: the same answers, the recall of its indexes, and nothing lost by a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from conftest import REPOSITORY, copy_index, free_port, run_app, start_server
from milvus_server import MilvusServer, milvus_python
from needs_jina import needs_jina
from store_samples import VSE
from test_backends import assert_congruent, open_exact, opened, put, record, settle, vector

from crossmodal.deadlines import Deadline, until
from crossmodal.errors import BackendUnavailable
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import TEXT, Record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    pytest.importorskip("pymilvus")
    python = milvus_python(tmp_path_factory.mktemp("environment"))
    server = MilvusServer(python, tmp_path_factory.mktemp("milvus") / "data", free_port())
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore.open_writer(tmp_path / "index", identity=VSE) as store:
        yield store


def test_a_server_answers_as_the_index_itself(server: MilvusServer, store: EmbeddedStore) -> None:
    assert_congruent(store, server.address)


@pytest.mark.parametrize(
    "options",
    [
        {"index": "IVF_FLAT", "nlist": 64, "nprobe": 32},
        {"index": "IVF_SQ8", "nlist": 64, "nprobe": 32},
        {"index": "HNSW"},
    ],
    ids=lambda options: options["index"],
)
def test_other_indexes_find_nearly_all(
    server: MilvusServer, store: EmbeddedStore, options: dict[str, object]
) -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(4000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    records = [Record(id=f"d{n:04d}", modality=TEXT, text=f"text {n}").hashed() for n in range(4000)]
    store.put(records, vectors)
    queries = random.normal(size=(50, 8)).astype(np.float32)
    with opened(store, server.address, options) as index, open_exact(store) as exact:
        index.search(queries, 1)
        settle(index)
        found, best = index.search(queries, 10), exact.search(queries, 10)
        known = [{hit.id: hit.score for hit in matches} for matches in exact.search(queries, 4000)]
    hits = 0
    for matches, wanted, scores in zip(found, best, known, strict=True):
        hits += len({id for id, *_ in matches} & {id for id, *_ in wanted})
        # What is shown means the same everywhere.
        assert all(hit.score == scores[hit.id] for hit in matches)
    assert hits / 500 >= 0.98


def test_nothing_acknowledged_is_lost_by_a_crash_under_load(
    server: MilvusServer, store: EmbeddedStore
) -> None:
    acknowledged: list[str] = []
    slowest, answered, refused = 0.0, 0, 0
    with opened(store, server.address) as index:
        put(store, range(50), 0)
        acknowledged += [f"d{number:03d}" for number in range(50)]
        index.search(vector(record(0, 0))[None], 5)
        for number in range(50, 150):
            if number == 80:
                server.kill()
            if number == 120:
                server.start()
            put(store, [number], 0)
            acknowledged.append(f"d{number:03d}")
            started = time.monotonic()
            try:
                with until(Deadline(30)):
                    found = index.search(vector(record(number, 0))[None], 1000)[0]
            except BackendUnavailable:
                refused += 1
            else:
                answered += 1
                assert {id for id, *_ in found} == set(acknowledged)
            slowest = max(slowest, time.monotonic() - started)
        assert refused >= 30
        assert answered >= 30
        # Two seconds, and what a busy machine adds.
        assert slowest < 5
        settle(index, 120)
        with open_exact(store) as exact:
            query = vector(record(7, 0))[None]
            assert index.search(query, 1000) == exact.search(query, 1000)
            assert len(exact) == len(acknowledged) == 150


def test_the_way_from_the_index_itself_to_a_server(
    server: MilvusServer, toy_workspace: Path, tmp_path: Path
) -> None:
    """The commands of the documentation, as they stand there."""
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    told = page.partition("**When one machine is not enough**")[2].partition("```sh\n")[2]
    install, status, serve = told.partition("\n```")[0].split("\n")
    assert install == 'pip install ".[milvus]"'
    in_place = f"milvus+http://localhost:{server.address.rpartition(':')[2]}"
    asked, served = (
        line.strip().replace("milvus+http://localhost:19530", in_place).split() for line in (status, serve)
    )
    assert (asked[:2], served[:2]) == (["crossmodal", "status"], ["crossmodal", "serve"])
    said = run_app(*asked[1:], "--workspace", workspace)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "photos are searched in Milvus, which lacks 15 vectors" in said.stdout
    plain = start_server("query_restful", "--workspace", workspace)
    served_by_milvus = start_server("query_restful", *served[2:], "--workspace", workspace)
    try:
        questions = [{"text": "a cup of coffee", "top_k": 15}, {"text": "stairs", "filter": {"tags.x": 1}}]
        found = [each.request("/v1/search", {"queries": questions})[1] for each in (plain, served_by_milvus)]
        assert found[0]["results"] == found[1]["results"]
        assert len(found[0]["results"][0]["matches"]) == 15
    finally:
        plain.stop()
        served_by_milvus.stop()
    said = run_app(*asked[1:], "--workspace", workspace)
    assert "photos are searched in Milvus, which is ready" in said.stdout


@pytest.mark.parametrize(
    "options",
    [("--workers", "2"), pytest.param(("--layout", "pods", "--shards", "2"), marks=needs_jina)],
    ids=["workers", "pods"],
)
def test_several_processes_share_a_server(
    server: MilvusServer, toy_workspace: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    question = {"text": "a cup of coffee", "top_k": 15}
    plain = start_server("query_restful", "--workspace", workspace)
    try:
        wanted = plain.request("/v1/search", question)[1]["results"]
    finally:
        plain.stop()
    several = start_server(
        "query_restful", "--workspace", workspace, "--backend", server.address, *options, timeout=300
    )
    try:
        for _ in range(10):
            assert several.request("/v1/search", question)[1]["results"] == wanted
        server.kill()
        for _ in range(6):
            started = time.monotonic()
            answer = httpx2.post(f"{several.url}/v1/search", json=question, timeout=60)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
            # Two seconds, and what a busy machine adds.
            assert time.monotonic() - started < 10
        assert several.request("/readyz")[0] == 503
        assert several.request("/v1/status")[1]["index"]["backend"]["state"] == "away"
        server.start()
        until_answered = time.monotonic() + 60
        while (answer := several.request("/v1/search", question))[0] != 200:
            assert time.monotonic() < until_answered, answer
            time.sleep(0.5)
        assert answer[1]["results"] == wanted
    finally:
        several.stop()
        server.start_where_it_ended()
