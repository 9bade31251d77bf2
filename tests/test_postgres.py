"""Records and tags in PostgreSQL: the answers are those of the file, and processes on any hosts write."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, TOY_IMAGES, run_app, start_server
from postgres_server import PostgresServer
from store_samples import VSE, caption, photo, run_python, vector_of, vectors_of

from crossmodal.errors import DocumentsUnavailable, SettingsError, StoreError, StoreMissing
from crossmodal.filters import parse_filter
from crossmodal.filters.sorting import parse_order
from crossmodal.index.embedded.copies import back_up
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.object_care import move_objects, sweep_objects
from crossmodal.index.embedded.opening import name_documents
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.protocols import FacetRequest, SeenText
from crossmodal.records import IMAGE, MODALITIES, TEXT, LocalFile, Record

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is not installed")

WORDS = ["cat", "cats", "running", "runs", "house", "Łódź", "łodz", "睡觉", "a", "red", "tree", "trees"]
QUESTIONS = ("cat", "running houses", "lodz 睡觉", "red red cat")
FILTERS = [
    {"n": {"$lt": -1}},
    {"n": {"$gte": 0.5}},
    {"ok": True},
    {"w": {"$in": ["\ud800x", "\x00y", 3]}},
    {"w": {"$gt": "a/"}},
    {"$not": {"taken": {"$exists": True}}},
    {"taken": {"$gte": "2015"}},
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.remove()


def named(folder: Path, address: str) -> Path:
    name_documents(folder, address)
    return folder


def some_record(rng: random.Random) -> Record:
    tags = {
        "n": rng.choice([-2.5, -1, 0, 0.5, 1e9, float("inf")]),
        "ok": rng.random() < 0.5,
        "w": rng.choice(["\ud800x", "\x00y", "\x01", "a/b", "a/c", "\ue000", 3, "x" * 5000]),
    }
    if rng.random() < 0.7:
        tags["taken"] = f"20{rng.randrange(10, 26)}-0{rng.randrange(1, 9)}-1{rng.randrange(9)}"
    name = rng.choice("abcdefghé")
    if rng.random() < 0.5:
        record = photo(f"p{name}", size=rng.choice([10, 2000]))
        path = f"{name}/{rng.randrange(2)}.jpg"
        local = LocalFile("/photos", path, "1 2 3") if rng.random() < 0.5 else None
        found = {"file": f"{name} red cats.jpg"}
        return replace(
            record, uri=None, tags=tags, metadata=found, local=local, digest=f"{name} digest"
        ).hashed()
    text = " ".join(rng.choices(WORDS, k=rng.randrange(1, 9)))
    return replace(caption(f"p{name}-{rng.randrange(3)}", text), tags=tags).hashed()


def answers(store: EmbeddedStore) -> dict[str, object]:
    """All that is asked of an index, but what times and rounding may change."""
    found: dict[str, object] = {"library": store.library.roots(), "copies": store.library.root_paths()}
    for modality in MODALITIES:
        ids = [*store.ids(modality)]
        found[modality] = (
            ids,
            store.get(ids, modality),
            {id: vector.tolist() for id, vector in store.vectors(ids, modality).items()},
            store.counts(modality)[:3],
            store.tag_fields(modality),
            [store.matching_ids(modality, parse_filter(filter)) for filter in FILTERS],
            [
                [record.id for record in store.listed(modality, 9, order=parse_order(order))]
                for order in ("n", "-w", "taken", "-ok")
            ],
            [
                store.facet(modality, FacetRequest(tag, **given))
                for tag, given in (
                    ("w", {}),
                    ("n", {"order": "-value"}),
                    ("taken", {"per": "month"}),
                    ("w", {"below": "a"}),
                )
            ],
        )
    found["content"] = [store.content(id) for id in store.ids(IMAGE)]
    found["words"] = [
        [(hit.modality, hit.id, hit.photo_id, pytest.approx(hit.bm25, abs=1e-6)) for hit in hits]
        for hits in (store.search_words(text, 7) for text in QUESTIONS)
    ]
    found["texts"] = (
        store.count_texts(),
        [
            (hit.photo, hit.text, pytest.approx(hit.bm25, abs=1e-6))
            for hit in store.matching_texts("red house", 5)
        ],
    )
    found["trash"] = [(each.photo, each.file) for each in store.library.trash()]
    return found


def test_any_changes_give_the_answers_of_the_file(server: PostgresServer, tmp_path: Path) -> None:
    folders = tmp_path / "file", named(tmp_path / "database", server.database())
    stores = [EmbeddedStore.open_writer(folder, identity=VSE) for folder in folders]
    indexes = [ExactIndex(store.vector_source(TEXT)) for store in stores]
    rng = random.Random(7)
    for step in range(40):
        batch = [some_record(rng) for _ in range(rng.randrange(1, 6))]
        seen = [SeenText(each.id, each.digest or "", "a red house\n" * rng.randrange(3)) for each in batch]
        gone = rng.sample([*stores[0].ids(IMAGE), *stores[0].ids(TEXT)], k=min(2, step // 8))
        files = [each.local for each in batch if each.local is not None]
        outcomes = []
        for store in stores:
            done = [store.put(batch, vectors_of(batch)), store.delete(gone, captions=step % 2 == 0)]
            store.put_texts([*{text.photo: text for text in seen if text.digest}.values()])
            if step % 5 == 4:
                done.append(store.library.forget(files))
                done.append(store.library.restore([each.photo for each in store.library.trash()[:1]]))
            outcomes.append(done)
        assert outcomes[0] == outcomes[1], step
        if step % 4 == 3:
            assert answers(stores[0]) == answers(stores[1]), step
            query = vector_of(str(step))[None]
            one, other = ([(hit.id, hit.score) for hit in each.search(query, 5)[0]] for each in indexes)
            assert one == other
    assert [store.verify() for store in stores] == [[], []]
    for each in stores:
        each.close()


WRITER = """
import sys
from pathlib import Path
from store_samples import VSE, photo, vectors_of
from crossmodal.index.embedded.store import EmbeddedStore
folder, mine = Path(sys.argv[1]), int(sys.argv[2])
with EmbeddedStore.open_writer(folder, identity=VSE) as store:
    for number in range(25):
        records = [photo("same", version=mine), photo(f"{mine}-{number}", version=mine)]
        store.put(records, vectors_of(records))
"""


def test_two_processes_write_and_of_one_id_one_wins_whole(server: PostgresServer, tmp_path: Path) -> None:
    address = server.database()
    folders = [named(tmp_path / str(number), address) for number in (1, 2)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, folder, folder.name],
            cwd=REPOSITORY,
            env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "PATH": "/usr/bin:/bin"},
        )
        for folder in folders
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with EmbeddedStore.open_reader(folders[0], identity=VSE) as store:
        assert store.counts(IMAGE).documents == 1 + 2 * 25
        assert store.verify() == []
        (won,) = store.get(["same"], IMAGE)
        assert won is not None
        version = int(won.tags["version"])
        whole = photo("same", version=version)
        assert (store.content("same"), store.thumbnail("same")) == (whole.content, whole.thumbnail)
        np.testing.assert_array_equal(store.vectors(["same"], IMAGE)["same"], vector_of("same", version))


KILLED = """
import os, signal, sys
from pathlib import Path
from store_samples import VSE, photo, vectors_of
from crossmodal.index.embedded import changes
from crossmodal.index.embedded.store import EmbeddedStore
setattr(changes.Changes, sys.argv[2], lambda *given: os.kill(os.getpid(), signal.SIGKILL))
with EmbeddedStore.open_writer(Path(sys.argv[1]), identity=VSE) as store:
    store.put([photo("lost")], vectors_of([photo("lost")]))
"""


# Between the bytes and the rows, and between the rows and their commit.
@pytest.mark.parametrize("step", ["_count", "_finish"])
def test_a_writer_that_is_killed_leaves_bytes_alone_which_are_swept(
    server: PostgresServer, tmp_path: Path, step: str
) -> None:
    folder = named(tmp_path / "index", server.database())
    with EmbeddedStore.open_writer(folder, identity=VSE, objects=f"file://{tmp_path / 'bucket'}") as store:
        store.put([photo("kept")], vectors_of([photo("kept")]))
        assert run_python(KILLED, folder, step).returncode == -signal.SIGKILL
        assert store.get(["lost"], IMAGE) == [None]
        assert store.put([photo("next")], vectors_of([photo("next")])) == ["added"]
        assert sweep_objects(folder) == 2
        assert sweep_objects(folder) == 0
        assert store.verify() == []
        assert [store.content(id) for id in ("kept", "next")] == [
            photo("kept").content,
            photo("next").content,
        ]
    moved = move_objects(folder, "embedded", lambda moving: None)
    assert moved is not None
    assert (moved.done, moved.lost) == (4, 0)
    with EmbeddedStore.open_reader(folder, identity=VSE) as store:
        assert store.content("kept") == photo("kept").content
        assert store.verify() == []


def test_a_server_that_is_away_is_told_in_two_seconds_and_comes_back(
    server: PostgresServer, tmp_path: Path
) -> None:
    folder = named(tmp_path / "index", server.database())
    with EmbeddedStore.open_writer(folder, identity=VSE) as store:
        store.put([photo("a")], vectors_of([photo("a")]))
        server.stop()
        try:
            for call in (lambda: store.get(["a"], IMAGE), lambda: store.delete(["a"])):
                with pytest.raises(DocumentsUnavailable, match="is away"):
                    call()
        finally:
            server.start()
        assert store.get(["a"], IMAGE) != [None]


def test_each_schema_of_a_database_has_an_index_of_its_own(server: PostgresServer, tmp_path: Path) -> None:
    address = server.database()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute("CREATE SCHEMA other")
    for schema in ("one", "other"):
        folder = named(tmp_path / schema, f"{address}?options=-csearch_path%3D{schema}")
        with EmbeddedStore.open_writer(folder, identity=VSE) as store:
            assert list(store.ids(IMAGE)) == []
            store.put([photo(schema)], vectors_of([photo(schema)]))
            assert list(store.ids(IMAGE)) == [schema]


def test_an_address_that_cannot_be_used_is_refused_in_words(server: PostgresServer, tmp_path: Path) -> None:
    address = server.database()
    with pytest.raises(SettingsError, match="has a password in it"):
        name_documents(tmp_path, address.replace("crossmodal@", "crossmodal:secret@"))
    with pytest.raises(SettingsError, match="has a password in it"):
        name_documents(tmp_path, f"{address}?pass%77ord=secret")
    for other in ("mysql://me@here/photos", "host=here password=secret dbname=photos"):
        with pytest.raises(SettingsError, match="must be postgresql://USER@HOST/DATABASE") as refused:
            name_documents(tmp_path, other)
        assert other not in str(refused.value)
    unknown = named(tmp_path / "unknown", f"{address}?foo=bar")
    with pytest.raises(SettingsError, match='invalid URI query parameter: "foo"'):
        EmbeddedStore.open_reader(unknown)
    (unknown / "documents").write_text("")
    with pytest.raises(StoreError, match="holds no address of a database"):
        EmbeddedStore.open_reader(unknown)
    named(tmp_path, address)
    with pytest.raises(StoreMissing, match="There is no index in that database yet"):
        EmbeddedStore.open_reader(tmp_path)
    with pytest.raises(SettingsError, match="has its documents at postgresql://"):
        name_documents(tmp_path, f"{address}2")
    with pytest.raises(StoreError, match="pg_dump"):
        back_up(tmp_path, tmp_path / "copy")
    gone = named(tmp_path / "gone", f"{address}_gone")
    with pytest.raises(StoreError, match="Make it with: createdb"):
        EmbeddedStore.open_writer(gone)


def matched(answer: dict[str, Any]) -> list[str]:
    return [match["id"] for match in answer["results"][0]["matches"]]


def test_what_one_server_indexes_another_one_finds(server: PostgresServer, tmp_path: Path) -> None:
    address = server.database()
    first = run_app(
        "index", TOY_IMAGES, "--workspace", tmp_path / "0", "--documents", address, "--keep", "original"
    )
    assert first.returncode == 0, first.stderr
    assert f"documents lie in {address}" in run_app("status", "--workspace", tmp_path / "0").stdout
    servers = [
        start_server("query_restful", "--workspace", tmp_path / name, "--documents", address)
        for name in ("1", "2")
    ]
    try:
        before = [each.request("/v1/search", {"text": "a dog"}) for each in servers]
        assert before[0][0] == 200
        one, other = (matched(answer) for _, answer in before)
        assert len(one) > 5
        assert one == other
        line = json.dumps({"id": "zebra", "text": "an unheard of zebra"}).encode()
        ndjson = {"Content-Type": "application/x-ndjson"}
        status, told = servers[0].request("/v1/documents", line, headers=ndjson, timeout=60)
        assert status == 200, told
        status, found = servers[1].request("/v1/documents/zebra")
        assert (status, found["text"]) == (200, "an unheard of zebra")
        status, found = servers[1].request("/v1/search", {"text": "zebra", "modality": "text"})
        assert (status, matched(found)[0]) == (200, "zebra")
        server.stop()
        try:
            status, told = servers[1].request("/v1/search", {"text": "a cat"})
        finally:
            server.start()
        assert status == 503
        assert "is away" in str(told)
        assert servers[1].request("/v1/search", {"text": "a dog"})[0] == 200
    finally:
        for each in servers:
            each.stop()
