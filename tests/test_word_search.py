"""Captions found by their words, whatever the user types, however the index is sharded, and as it changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import VSE, caption, vector_of

from crossmodal.query.words import WordHit, WordIndex
from crossmodal.records import TEXT, Record
from crossmodal.search.matches import shard_of
from crossmodal.stores import Store
from crossmodal.workspace import TEXTS, Workspace

CAPTIONS = [
    caption("a-0", "A dog runs across the beach ."),
    caption("a-1", "The dogs are running on sand ."),
    caption("b-0", "Two children play in the snow ."),
    caption("c-0", "A café in Zürich , closed ."),
    caption("d-0", "A dog , a dog and another dog ."),
    caption("e-0", "A man reads the number 42 aloud ."),
]


def put(store: Store, records: list[Record]) -> None:
    store.put(records, np.stack([vector_of(record.id) for record in records]))


def written(workspace: Workspace, records: list[Record], shards: int = 1) -> None:
    for shard in range(shards):
        with Store.open_writer(workspace.store_path(TEXTS, shard, shards), identity=VSE) as store:
            if mine := [record for record in records if shard_of(record.id, shards) == shard]:
                put(store, mine)


def ids(hits: list[WordHit]) -> list[str]:
    return [hit.id for hit in hits]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordIndex]:
    workspace = Workspace(tmp_path_factory.mktemp("words"))
    written(workspace, CAPTIONS)
    yield WordIndex(workspace.text_stores)
    workspace.close()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("snow", ["b-0"]),
        ("a dog running", ["a-1", "a-0", "d-0"]),
        ("DOGS", ["d-0", "a-1", "a-0"]),
        ("cafe zurich", ["c-0"]),
        ("Café in ZÜRICH", ["c-0"]),
        ("42", ["e-0"]),
        ('"dog" AND -beach OR (snow', ["a-0", "b-0", "d-0", "a-1"]),
        ("text:snow id:a-0 \\ * ? ~ ^", ["b-0"]),
        ("the and in", []),
        ("   ", []),
        ("unicorn", []),
    ],
)
def test_words_find_captions(index: WordIndex, query: str, found: list[str]) -> None:
    assert ids(index.search(query, 10)) == found


def test_a_hit_names_its_photo_and_rarer_words_count_more(index: WordIndex) -> None:
    first, *others = index.search("a dog in the snow", 10)
    assert (first.id, first.photo_id) == ("b-0", "b")
    assert {hit.photo_id for hit in others} == {"a", "d"}
    scores = [first.bm25, *(hit.bm25 for hit in others)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    assert len(index) == 6


@given(st.text(max_size=80), st.integers(1, 10))
def test_no_text_raises_and_fewer_are_the_beginning_of_more(index: WordIndex, text: str, limit: int) -> None:
    everything = index.search(text, 100)
    assert index.search(text, limit) == everything[:limit]
    assert everything == sorted(everything, key=lambda hit: (-hit.bm25, hit.id))


def test_long_and_broken_texts_are_searched(index: WordIndex) -> None:
    assert ids(index.search("dog " * 5000 + "\ud800 " + "x" * 100_000, 1)) == ["d-0"]


def test_equal_captions_are_in_order_of_id_at_any_limit(tmp_path: Path) -> None:
    records = [caption(f"{number:03}-0", "A dog runs .") for number in range(200)]
    with Workspace(tmp_path) as workspace:
        written(workspace, records[::-1])
        index = WordIndex(workspace.text_stores)
        for limit in (1, 60, 150, 500):
            assert ids(index.search("dog", limit)) == [record.id for record in records][:limit]


def test_shards_change_neither_order_nor_scores(tmp_path: Path) -> None:
    words = ["dog", "snow", "beach", "man", "runs", "red", "ball", "jumps"]
    random = np.random.default_rng(3)
    records = [
        caption(f"{number}-0", " ".join(random.choice(words, random.integers(2, 9)))) for number in range(300)
    ]
    found = []
    for shards in (1, 4):
        with Workspace(tmp_path / str(shards)) as workspace:
            written(workspace, records, shards)
            found.append(WordIndex(workspace.text_stores).search("red dog jumps in snow", 200))
    assert len(found[0]) == 200
    assert found[0] == found[1]


def test_it_follows_what_is_added_replaced_and_deleted(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        index = WordIndex(workspace.text_stores)
        assert index.search("dog", 5) == []
        # Enough others for one change to be followed in place, and not by making the index anew.
        written(workspace, CAPTIONS + [caption(f"x{n}-0", f"Nothing of interest {n} .") for n in range(200)])
        assert len(index.search("dog", 10)) == 3
        with Store.open_writer(workspace.store_path(TEXTS), identity=VSE) as store:
            put(store, [caption("f-0", "A dog at last .")])
            assert "f-0" in ids(index.search("dog", 10))
            put(store, [caption("f-0", "A unicorn at last .")])
            assert "f-0" not in ids(index.search("dog", 10))
            assert ids(index.search("unicorn", 10)) == ["f-0"]
            put(store, [caption("g-0", "A unicorn , briefly .")])
            store.delete(["f-0", "g-0"])
            assert index.search("unicorn", 10) == []
            store.delete([f"x{number}-0" for number in range(200)])
            assert len(index) == 6
        fresh = WordIndex(workspace.text_stores)
        assert index.search("a dog runs in the snow", 10) == fresh.search("a dog runs in the snow", 10)


def test_it_follows_an_index_that_was_made_anew(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        index = WordIndex(workspace.text_stores)
        written(workspace, CAPTIONS)
        assert ids(index.search("snow", 10)) == ["b-0"]
        workspace.delete()
        assert index.search("snow", 10) == []
        written(workspace, [caption("n-0", "Snow again .")], shards=2)
        assert ids(index.search("snow", 10)) == ["n-0"]


def test_a_caption_without_a_photo_and_one_with_an_id_that_has_no_utf_8(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        record = Record(id="odd-\udc80", modality=TEXT, text="A lone \udc80 dog .").hashed()
        with Store.open_writer(workspace.store_path(TEXTS), identity=VSE) as store:
            store.put([record], vector_of("odd")[None])
        (hit,) = WordIndex(workspace.text_stores).search("dog", 5)
        assert (hit.id, hit.photo_id) == ("odd-\udc80", None)


def test_threads_search_while_the_index_grows(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        written(workspace, CAPTIONS)
        index = WordIndex(workspace.text_stores)
        problems: list[str] = []
        done = threading.Event()

        def search() -> None:
            seen = 0
            while not done.is_set():
                count = len(index.search("dog", 1000))
                if count < seen:
                    problems.append(f"{count} after {seen}")
                seen = count

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        with Store.open_writer(workspace.store_path(TEXTS), identity=VSE) as store:
            for number in range(30):
                put(store, [caption(f"t{number}-0", "Another dog .")])
        done.set()
        for thread in threads:
            thread.join(30)
        assert problems == []
        assert len(index.search("dog", 1000)) == 33


def test_the_toy_captions_are_found(toy_workspace: Path) -> None:
    with Workspace(toy_workspace) as workspace:
        index = WordIndex(workspace.text_stores)
        assert len(index) == 41
        hits = index.search("people climbing stairs", 3)
        texts = [workspace.get(TEXTS, hit.id) for hit in hits]
        assert texts[0] is not None
        assert texts[0].text == "People climb the outdoor stairs of a steel tower."
        assert texts[0].photo_id == hits[0].photo_id
