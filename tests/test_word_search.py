"""Captions found by their words, whatever the user types, and as the index changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import VSE, caption, vector_of

from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.protocols import WordHit
from crossmodal.records import IMAGE, TEXT, Record
from crossmodal.workspace import Workspace

CAPTIONS = [
    caption("a-0", "A dog runs across the beach ."),
    caption("a-1", "The dogs are running on sand ."),
    caption("b-0", "Two children play in the snow ."),
    caption("c-0", "A café in Zürich , closed ."),
    caption("d-0", "A dog , a dog and another dog ."),
    caption("e-0", "A man reads the number 42 aloud ."),
]


def put(store: EmbeddedStore, records: list[Record]) -> None:
    store.put(records, np.stack([vector_of(record.id) for record in records]))


def written(workspace: Workspace, records: list[Record]) -> None:
    with EmbeddedStore.open_writer(workspace.path, identity=VSE) as store:
        put(store, records)


def ids(hits: list[WordHit]) -> list[str]:
    return [hit.id for hit in hits]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("words")) as workspace:
        written(workspace, CAPTIONS)
        yield workspace


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
def test_words_find_captions(index: Workspace, query: str, found: list[str]) -> None:
    assert ids(index.search_words(query, 10)) == found


def test_a_hit_names_its_photo_and_rarer_words_count_more(index: Workspace) -> None:
    first, *others = index.search_words("a dog in the snow", 10)
    assert (first.id, first.photo_id) == ("b-0", "b")
    assert {hit.photo_id for hit in others} == {"a", "d"}
    scores = [first.bm25, *(hit.bm25 for hit in others)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0


SCRIPTS = [
    caption("zh-0", "猫在沙发上睡觉。"),
    caption("ja-0", "東京タワーの前の犬"),
    caption("ko-0", "고양이가 자고 있다"),
    caption("th-0", "สุนัขวิ่งบนชายหาด"),
    caption("hi-0", "एक बिल्ली सो रही है"),
    caption("pl-0", "Łódź nocą, żółty tramwaj"),
    caption("de-0", "Eine Straße in Göttingen"),
    caption("vi-0", "Hà Nội, phố cổ"),
    caption("el-0", "Αθήνα"),
    caption("ar-0", "قِطَّةٌ نَائِمَةٌ"),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("猫", ["zh-0"]),
        ("睡觉", ["zh-0"]),
        ("睡觉的狗", ["zh-0"]),
        ("觉睡", []),
        ("タワー", ["ja-0"]),
        ("ﾀﾜｰ", ["ja-0"]),
        ("고양이", ["ko-0"]),
        ("ชายหาด", ["th-0"]),
        ("बिल्ली", ["hi-0"]),
        ("बिल", []),
        ("lodz ZOLTY", ["pl-0"]),
        ("Z\u0307o\u0301łty", ["pl-0"]),
        ("STRASSE gottingen", ["de-0"]),
        ("ha noi", ["vi-0"]),
        ("αθηνα", ["el-0"]),
        ("قطة", ["ar-0"]),
    ],
)
def test_words_of_other_scripts_and_without_their_marks(tmp_path: Path, query: str, found: list[str]) -> None:
    with Workspace(tmp_path) as index:
        written(index, SCRIPTS)
        assert ids(index.search_words(query, 10)) == found
        store = index.require()
        assert store.verify() == []


def test_photos_are_found_by_the_names_of_their_files(tmp_path: Path) -> None:
    names = ["IMG_1234.JPG", "birthday-cake.jpg", "BirthdayCake2019.jpeg", "photo.png", "Müller 猫 (2).webp"]
    photos = [
        Record(id=name, modality=IMAGE, uri=f"/albums/2019/{name}", content=b"x").hashed() for name in names
    ]
    with Workspace(tmp_path) as index:
        written(index, [*photos, caption("c-0", "A cake on a table in 1234 pieces .")])
        for query, found in {
            "IMG_1234": ["IMG_1234.JPG", "c-0"],
            "a birthday": ["BirthdayCake2019.jpeg", "birthday-cake.jpg"],
            "2019": ["BirthdayCake2019.jpeg"],
            "an image, a photo": ["photo.png"],
            "muller": ["Müller 猫 (2).webp"],
            "猫": ["Müller 猫 (2).webp"],
            "albums": [],
            "2": [],
        }.items():
            hits = index.search_words(query, 10)
            assert sorted(ids(hits)) == sorted(found), query
        hits = {hit.id: (hit.modality, hit.photo_id) for hit in index.search_words("1234", 10)}
        assert hits == {"IMG_1234.JPG": (IMAGE, "IMG_1234.JPG"), "c-0": (TEXT, "c")}
        assert index.require().verify() == []


@given(st.text(max_size=80), st.integers(1, 10))
def test_no_text_raises_and_fewer_are_the_beginning_of_more(index: Workspace, text: str, limit: int) -> None:
    everything = index.search_words(text, 100)
    assert index.search_words(text, limit) == everything[:limit]
    assert everything == sorted(everything, key=lambda hit: (-hit.bm25, hit.id))


def test_long_and_broken_texts_are_searched(index: Workspace) -> None:
    assert ids(index.search_words("dog " * 5000 + "\ud800 " + "x" * 100_000, 1)) == ["d-0"]


def test_equal_captions_are_in_order_of_id_at_any_limit(tmp_path: Path) -> None:
    records = [caption(f"{number:03}-0", "A dog runs .") for number in range(200)]
    with Workspace(tmp_path) as index:
        written(index, records[::-1])
        for limit in (1, 60, 150, 500):
            assert ids(index.search_words("dog", limit)) == [record.id for record in records][:limit]


def test_it_follows_what_is_added_replaced_and_deleted(tmp_path: Path) -> None:
    with Workspace(tmp_path) as index:
        assert index.search_words("dog", 5) == []
        written(index, CAPTIONS + [caption(f"x{n}-0", f"Nothing of interest {n} .") for n in range(200)])
        assert len(index.search_words("dog", 10)) == 3
        with EmbeddedStore.open_writer(index.path, identity=VSE) as store:
            put(store, [caption("f-0", "A dog at last .")])
            assert "f-0" in ids(index.search_words("dog", 10))
            put(store, [caption("f-0", "A unicorn at last .")])
            assert "f-0" not in ids(index.search_words("dog", 10))
            assert ids(index.search_words("unicorn", 10)) == ["f-0"]
            put(store, [caption("g-0", "A unicorn , briefly .")])
            store.delete(["f-0", "g-0"])
            assert index.search_words("unicorn", 10) == []
            store.delete([f"x{number}-0" for number in range(200)])
        # What was deleted leaves nothing behind in the weights of words.
        with Workspace(tmp_path / "fresh") as fresh:
            written(fresh, CAPTIONS)
            sentence = "a dog runs in the snow"
            assert index.search_words(sentence, 10) == fresh.search_words(sentence, 10)


def test_it_follows_an_index_that_was_replaced(tmp_path: Path) -> None:
    with Workspace(tmp_path) as index:
        written(index, CAPTIONS)
        assert ids(index.search_words("snow", 10)) == ["b-0"]
        index.delete()
        assert index.search_words("snow", 10) == []
        written(index, [caption("n-0", "Snow again .")])
        assert ids(index.search_words("snow", 10)) == ["n-0"]


def test_a_caption_without_a_photo_and_one_with_an_id_that_has_no_utf_8(tmp_path: Path) -> None:
    with Workspace(tmp_path) as index:
        record = Record(id="odd-\udc80", modality=TEXT, text="A lone \udc80 dog .").hashed()
        with EmbeddedStore.open_writer(index.path, identity=VSE) as store:
            store.put([record], vector_of("odd")[None])
        (hit,) = index.search_words("dog", 5)
        assert (hit.id, hit.photo_id) == ("odd-\udc80", None)


def test_threads_search_while_the_index_grows(tmp_path: Path) -> None:
    with Workspace(tmp_path) as index:
        written(index, CAPTIONS)
        problems: list[str] = []
        done = threading.Event()

        def search() -> None:
            seen = 0
            while not done.is_set():
                count = len(index.search_words("dog", 1000))
                if count < seen:
                    problems.append(f"{count} after {seen}")
                seen = count

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        with EmbeddedStore.open_writer(index.path, identity=VSE) as store:
            for number in range(30):
                put(store, [caption(f"t{number}-0", "Another dog .")])
        done.set()
        for thread in threads:
            thread.join(30)
        assert problems == []
        assert len(index.search_words("dog", 1000)) == 33


def test_the_toy_captions_are_found(toy_workspace: Path) -> None:
    with Workspace(toy_workspace) as index:
        hits = index.search_words("people climbing stairs", 3)
        texts = [index.get(hit.id, TEXT) for hit in hits]
        assert texts[0] is not None
        assert texts[0].text == "People climb the outdoor stairs of a steel tower."
        assert texts[0].photo_id == hits[0].photo_id
