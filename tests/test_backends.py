"""A vector database answers as the index itself does, follows what is committed, and says when it is away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from conftest import Server, copy_index, run_app, start_server
from numpy.typing import NDArray
from store_samples import VSE, some_banks, vector_of

from crossmodal.deadlines import Deadline, until
from crossmodal.engine.backend_health import backend_states
from crossmodal.errors import BackendUnavailable, FilterError, SettingsError
from crossmodal.filters import parse_filter
from crossmodal.index.backends import Backend, open_vector_index
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.following import conditions
from crossmodal.index.following.vector_index import FollowedIndex
from crossmodal.index.milvus.collection import MilvusCollection
from crossmodal.index.milvus.options import MilvusOptions
from crossmodal.index.protocols import VectorIndex
from crossmodal.index.qdrant.collection import QdrantCollection
from crossmodal.index.qdrant.options import QdrantOptions
from crossmodal.records import IMAGE, TEXT, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

PLACES = ["Zürich", "harbour", 'a "quote" \\', "ZÜRICH"]
FILTERS: list[Any] = [
    None,
    {"place": "Zürich"},
    {"place": 'a "quote" \\'},
    {"place": {"$ne": "harbour"}},
    {"place": {"$eqi": "zürich"}},
    {"place": {"$in": []}},
    {"year": 2019},
    {"year": {"$gte": 2020}},
    {"$not": {"year": {"$lt": 2020}}},
    {"parts": {"$gt": 2}, "seen": True},
    {"place": {"$gt": "a"}},
    {"taken": "2020-07"},
    {"location": {"$near": [47.4, 8.5], "$within_km": 20}},
    {"$or": [{"version": 1}, {"parts": "a"}]},
    {"parts": {"$exists": False}},
    {"modality": "image"},
    {"modality": {"$ne": "image"}},
    {"$ids": ["d001", "d017", "d149", "d160", "gone"]},
    {"$not": {"$ids": [f"d{number:03d}" for number in range(120)]}},
]


def record(number: int, version: int) -> Record:
    """A caption with tags of all kinds, some of them missing in each."""
    tags: dict[str, Any] = {
        "place": PLACES[number % 4],
        "year": 2018 + (number + version) % 4,
        "version": version,
        "seen": number % 2 == 0,
        "taken": f"20{18 + number % 4}-0{6 + number % 3}-04T12:00:00",
        "latitude": 47 + number % 10 / 10,
        "longitude": 8.5,
    }
    if number % 3:
        tags["parts"] = [1, 2.5, "a"][: number % 3 + 1]
    return Record(id=f"d{number:03d}", modality=TEXT, text=f"text {number} {version}", tags=tags).hashed()


def vector(record: Record) -> NDArray[np.float32]:
    """Few directions, so that many scores are equal."""
    return vector_of(f"direction {int(record.id[1:]) % 30}", int(record.tags["version"]))


def put(store: EmbeddedStore, numbers: Any, version: int) -> None:
    records = [record(int(number), version) for number in sorted(set(map(int, numbers)))]
    store.put(records, np.stack([vector(each) for each in records]))


@contextmanager
def opened(
    store: EmbeddedStore, backend: str, options: dict[str, Any] | None = None
) -> Iterator[VectorIndex]:
    given = {"milvus": options or {}, "qdrant": options or {}}
    index = open_vector_index(store.vector_source(TEXT), SearchOptions(), backend, given)
    try:
        yield index
    finally:
        index.close()


def assert_congruent(store: EmbeddedStore, backend: str, *, steps: int = 2) -> None:
    """The same random adds, replacements, deletions, filters and pages, beside the exact search of today."""
    random = np.random.default_rng(7)
    put(store, range(150), 0)
    with (
        opened(store, backend) as index,
        open_exact(store) as exact,
    ):
        for step in range(steps):
            queries = np.stack([vector_of(f"query {step} {number}") for number in range(2)])
            queries[1] = vector(record(int(random.integers(150)), 0))
            for written in FILTERS:
                wanted = None if written is None else parse_filter(written)
                for corrected in (None, np.array([True, False])):
                    pages, expected = (
                        [each.search(queries, top_k, wanted, corrected=corrected) for top_k in (3, 60)]
                        for each in (index, exact)
                    )
                    # Ids, scores to the last bit, and the order of equal ones; each page begins the next.
                    assert pages == expected, written
            scored = [
                sorted(zip(ids, cosines[1].tolist(), hubness.tolist(), strict=True))
                for ids, cosines, hubness in (index.cosines(queries), exact.cosines(queries))
            ]
            assert scored[0] == scored[1]
            assert len(index) == len(exact)
            put(store, random.integers(0, 200, 30), step + 1)
            store.delete([f"d{number:03d}" for number in random.integers(0, 200, 15)])
        settle(index)
        state = index.status()["backend"]
        assert (state["state"], state["behind"], state["error"]) == ("ready", 0, None)


@contextmanager
def open_exact(store: EmbeddedStore) -> Iterator[VectorIndex]:
    index = open_vector_index(store.vector_source(TEXT), SearchOptions.of("exact"))
    try:
        yield index
    finally:
        index.close()


def settle(index: VectorIndex, seconds: float = 30) -> None:
    """Waits until the database has everything."""
    until = time.monotonic() + seconds
    while (state := index.status()["backend"])["state"] != "ready" or state["behind"]:
        assert time.monotonic() < until, state
        time.sleep(0.02)


@pytest.fixture(params=["milvus", "qdrant"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a local database of each kind."""
    if request.param == "milvus":
        pytest.importorskip("milvus_lite")
        return f"milvus:{tmp_path / 'vectors.db'}"
    pytest.importorskip("qdrant_client")
    return f"qdrant:{tmp_path / 'qdrant'}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore.open_writer(tmp_path / "index", identity=VSE) as store:
        store.take_banks(some_banks())
        yield store


def test_a_database_answers_as_the_index_itself(store: EmbeddedStore, backend: str) -> None:
    assert_congruent(store, backend)


def test_it_goes_on_where_it_was(store: EmbeddedStore, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, range(40), 0)
    with opened(store, backend) as index:
        settle(index)
    written: list[int] = []
    write = MilvusCollection.write if backend.startswith("milvus") else QdrantCollection.write

    def counting(self: Any, rows: Any) -> None:
        written.append(len(rows))
        write(self, rows)

    for kind in (MilvusCollection, QdrantCollection):
        monkeypatch.setattr(kind, "write", counting)
    put(store, range(38, 45), 1)
    store.delete(["d000"])
    with opened(store, backend) as index, open_exact(store) as exact:
        query = vector_of("query")[None]
        assert index.search(query, 50) == exact.search(query, 50)
        settle(index)
    assert sum(written) == 7


def test_it_is_filled_again_where_it_lost_rows(store: EmbeddedStore, backend: str) -> None:
    put(store, range(40), 0)
    with opened(store, backend) as index:
        settle(index)
        assert isinstance(index, FollowedIndex)
        standing = index._follower.standing()
        assert standing is not None
        standing.database.remove([3, 4, 5])
        assert standing.database.count() == 37
    with opened(store, backend) as index, open_exact(store) as exact:
        query = vector_of("query")[None]
        index.search(query, 5)
        settle(index)
        time.sleep(0.1)
        settle(index)
        assert index.search(query, 50) == exact.search(query, 50)


def test_what_cannot_be_translated_is_refused_not_dropped(
    store: EmbeddedStore, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "MOST_ROWS", 10)
    put(store, range(40), 0)
    with opened(store, backend) as index:
        query = vector_of("query")[None]
        with pytest.raises(FilterError, match=r"no words for .*taken.* 40 documents fulfil it, while 10"):
            index.search(query, 5, parse_filter({"taken": {"$gte": 2018}}))
        assert len(index.search(query, 5, parse_filter({"taken": {"$gte": "2021-08"}}))[0]) == 3


def test_a_database_that_is_away_says_so_at_once(store: EmbeddedStore) -> None:
    pytest.importorskip("pymilvus")
    put(store, range(5), 0)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # It takes connections and says nothing.
        address = f"milvus+http://127.0.0.1:{silent.getsockname()[1]}"
        with opened(store, address) as index:
            for _ in range(2):
                started = time.monotonic()
                with until(Deadline(30)), pytest.raises(BackendUnavailable, match="Milvus"):
                    index.search(vector_of("query")[None], 5)
                assert time.monotonic() - started < 3
            while (state := index.status()["backend"])["error"] is None:
                time.sleep(0.05)
            assert (state["state"], state["behind"]) == ("away", None)
    # Nothing of a try stays behind: neither a thread nor gRPC's pause, which would hold for the next one.
    until_ended = time.monotonic() + 20
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < until_ended, left
        time.sleep(0.05)


def test_a_server_without_its_database_is_not_ready_but_answers(toy_workspace: Path, tmp_path: Path) -> None:
    pytest.importorskip("pymilvus")
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    # At first it takes connections and says nothing, then it refuses them.
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"milvus+http://127.0.0.1:{silent.getsockname()[1]}"
    try:
        server = start_server("query_restful", "--workspace", workspace, "--backend", address)
        try:
            assert_away(server)
            silent.close()
            assert_away(server)
        finally:
            server.stop()
    finally:
        silent.close()


def assert_away(server: Server) -> None:
    """What a server tells while its database is away; each answer within two seconds."""

    def answered(method: str, path: str, **sent: Any) -> httpx2.Response:
        started = time.monotonic()
        answer = httpx2.request(method, server.url + path, timeout=30, **sent)
        # And what a busy machine adds.
        assert time.monotonic() - started < 10, path
        return answer

    ready = answered("GET", "/readyz")
    assert (ready.status_code, ready.json()["title"]) == (503, "The server is not ready")
    assert int(ready.headers["retry-after"]) > 0
    found = answered("POST", "/v1/search", json={"text": "a cup of coffee"})
    assert (found.status_code, int(found.headers["retry-after"]) > 0) == (503, True)
    assert "Milvus, which --backend names, could not connect" in found.json()["detail"]
    status = answered("GET", "/v1/status")
    assert (status.status_code, status.json()["index"]["backend"]["state"]) == (200, "away")
    assert 'crossmodal_backend_up{modality="image"} 0.0' in answered("GET", "/metrics").text


def test_status_tells_how_a_database_stands(toy_workspace: Path, tmp_path: Path, backend: str) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")

    def told() -> Any:
        done = run_app("status", "--workspace", workspace, "--backend", backend, "--json")
        assert done.returncode == 0, done.stderr
        modalities = json.loads(done.stdout)["modalities"]
        return {name: (part["backend"]["behind"], part["vectors"]) for name, part in modalities.items()}

    path = Path(Backend.of(backend).address)
    assert [behind for behind, vectors in told().values()] == [vectors for _, vectors in told().values()]
    assert not path.exists()
    with EmbeddedStore.open_reader(workspace) as store:
        index = open_vector_index(store.vector_source(IMAGE), SearchOptions(), backend)
        try:
            settle(index)
        finally:
            index.close()
    assert told()["image"] == (0, 15)
    assert told()["text"][0] > 0
    assert (
        "photos are searched in " in run_app("status", "--workspace", workspace, "--backend", backend).stdout
    )


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
def test_status_of_a_database_that_is_away(toy_workspace: Path, silent: bool) -> None:
    pytest.importorskip("pymilvus")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"milvus+http://127.0.0.1:{listening.getsockname()[1]}"
        if not silent:
            listening.close()
        started = time.monotonic()
        with Workspace(toy_workspace) as workspace:
            states = backend_states(Settings(workspace=toy_workspace, backend=address, shards=2), workspace)
        assert time.monotonic() - started < 4
        assert [each["state"] for each in states["image"] + states["text"]] == ["away"] * 4
        done = run_app("status", "--workspace", toy_workspace, "--backend", address)
        assert done.returncode == 1
        assert "photos are searched in Milvus: Milvus, which --backend names, " in done.stdout


def test_the_command_line_searches_in_a_database(toy_workspace: Path, tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite")
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    question = ("search", "a cup of coffee", "--workspace", workspace, "--json")
    plain, found = run_app(*question), run_app(*question, "--backend", f"{tmp_path}/vectors.db")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["results"] == json.loads(plain.stdout)["results"]


@pytest.mark.parametrize(
    ("text", "kind", "local"),
    [
        ("embedded", "embedded", False),
        ("milvus+http://host:19530", "milvus", False),
        ("qdrant+https://host", "qdrant", False),
        ("milvus:a.db", "milvus", True),
        ("/somewhere/a.db", "milvus", True),
        ("qdrant:folder", "qdrant", True),
    ],
)
def test_addresses(text: str, kind: str, local: bool) -> None:
    assert (Backend.of(text).kind, Backend.of(text).local) == (kind, local)


@pytest.mark.parametrize(
    "text", ["milvus", "milvus:folder", "qdrant:", "http://host", "pinecone+http://host", "a b.db"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=f"--backend is {text!r}".replace("+", r"\+")):
        Backend.of(text)
    with pytest.raises(SettingsError, match="CROSSMODAL_BACKEND_TOKEN"):
        Backend.of("milvus+http://me:secret@host")


def test_options_that_do_not_fit_are_refused() -> None:
    for given, message in (
        ({"index": "HNSW"}, "Milvus Lite has only FLAT and IVF_FLAT"),
        ({"index": "DISKANN"}, "one of FLAT, IVF_FLAT, IVF_SQ8, HNSW"),
        ({"index": "IVF_FLAT", "M": 8}, "'M', but the parameters of IVF_FLAT are index, consistency, nlist"),
        ({"index": "IVF_FLAT", "nlist": 0}, "nlist in backend_options is 0"),
        ({"consistency": "Weak"}, "one of Strong, Bounded"),
    ):
        with pytest.raises(SettingsError, match=message):
            MilvusOptions.of(given, lite=True)
    with pytest.raises(SettingsError, match="quantisation in backend_options is scalar, but index flat"):
        QdrantOptions.of({"quantisation": "scalar"})
    assert QdrantOptions.of({"index": "hnsw", "m": 16.0}).m == 16
