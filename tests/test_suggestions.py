"""Suggestions while somebody types: found by the beginnings of words, the most frequent ones first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgi_client import AsgiClient, serving_in
from photos import encoded
from PIL import Image

from crossmodal import PhotoIndex, Record
from crossmodal.engine.suggestions import Suggestions
from crossmodal.errors import ServiceError
from crossmodal.index.embedded.tokens import folded
from crossmodal.server.serving import Serving

TAGS: list[dict[str, Any]] = [
    {"keywords": ["Garden", "Éclair au café"], "file": "IMG_2001.JPG", "taken": "2019-07-04", "year": 2019},
    {"keywords": ["garden"], "file": "Garden party.jpg", "taken": "2019-07-05", "year": 2019, "month": 7},
    {"keywords": ["rose garden", "猫在睡觉"], "folder": ["trips", "trips/Gardasee"], "camera": "Leica Q"},
    {"keywords": ["rose garden"], "city": "Garmisch", "file": "garage.jpg", "description": "garbage"},
    {"keywords": ["ROSE"], "file": "garnet.jpg", "text": "a_b", "modality": "Gargoyle"},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoIndex]:
    records = [
        Record(
            f"p{number}", "image", content=encoded(Image.new("RGB", (8, 8), (number, 0, 0)), "PNG"), tags=tags
        )
        for number, tags in enumerate(TAGS)
    ]
    with PhotoIndex(tmp_path_factory.mktemp("index"), "clip-mini") as made:
        assert made.add(records).added == len(TAGS)
        yield made


@pytest.fixture(scope="module")
def serving(index: PhotoIndex) -> Iterator[Serving]:
    with serving_in(index._settings.workspace) as serving:
        yield serving


def suggested(index: PhotoIndex, text: str, limit: int = 10) -> list[str]:
    return [f"{found.kind} {found.text}" for found in index.suggest(text, limit)]


def test_what_begins_so_comes_before_what_has_such_words(index: PhotoIndex) -> None:
    found = suggested(index, "gard")
    assert found[:3] == ["tag Garden", "tag garden", "file Garden party.jpg"]
    assert found[3] == "tag rose garden", "it has the most photos of those that have the word further in"
    assert found[4:] == ["folder trips/Gardasee"]
    assert suggested(index, "rose g") == ["tag rose garden"]
    assert suggested(index, "arden") == []


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ECLA", "tag Éclair au café"),
        ("cafe", "tag Éclair au café"),
        ("睡", "tag 猫在睡觉"),
        ("201", "year 2019"),
        ("jul", "month July"),
        ("july 20", "month July 2019"),
        ("2019-07", "month July 2019"),
        ("leica", "camera Leica Q"),
        ("img 2", "file IMG_2001.JPG"),
        ("garm", "place Garmisch"),
        ("  garden\tpar", "file Garden party.jpg"),
    ],
)
def test_each_kind_is_found_without_case_and_accents(index: PhotoIndex, typed: str, expected: str) -> None:
    assert expected in suggested(index, typed)


def test_each_has_the_filter_that_finds_as_many_photos_as_it_says(index: PhotoIndex) -> None:
    found = [each for typed in ("g", "2", "j", "r", "l") for each in index.suggest(typed, 50)]
    assert len(found) > 10
    for each in found:
        assert len(index.page(filter=each.filter)) == each.count, each
    (gargoyle,) = index.suggest("gargoyle")
    assert gargoyle.filter == {"tags.modality": "Gargoyle"}


def test_no_kind_takes_all_places(index: PhotoIndex) -> None:
    found = suggested(index, "ga", 4)
    assert found[:2] == ["tag Garden", "tag garden"]
    assert not any(each.startswith("tag") for each in found[2:])
    assert suggested(index, "") == suggested(index, " -_ ") == suggested(index, "garbage") == []


def test_it_follows_what_is_written(index: PhotoIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossmodal.engine.suggestions._READING_SHARE", 0)
    monkeypatch.setattr("crossmodal.engine.suggestions._READ_AT_ONCE_SECONDS", 60)
    index._engine._suggestions._good_until = 0.0
    blob = encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG")
    index.add([Record("new", "image", content=blob, tags={"keywords": ["zebra"]})])
    assert suggested(index, "zeb") == ["tag zebra"]
    index.delete(["new"])
    assert suggested(index, "zeb") == []


def test_words_are_folded_some_at_a_time_and_off_the_request(
    index: PhotoIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("g", "ga", "r", "ecl", "睡", "jul", "2", "rose g", "a b")
    expected = [index.suggest(each, 50) for each in typed]
    seen = []

    def noted(text: str) -> str:
        if "\n" in text:
            seen.append((text.count("\n"), threading.current_thread().name.partition("_")[0]))
        return folded(text)

    monkeypatch.setattr("crossmodal.engine.suggestions.folded", noted)
    monkeypatch.setattr("crossmodal.engine.suggestions._FOLDED_AT_ONCE", 2)
    made = Suggestions(index._workspace)
    assert [made.find(each, 50) for each in typed] == expected
    made.close()
    assert len(seen) > 5
    assert {number for number, _ in seen} <= {1, 2}
    assert {name for _, name in seen} == {"suggestions"}


def test_where_no_thread_can_be_started_it_goes_on(
    index: PhotoIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = Suggestions(index._workspace)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert made.find("gard") == index.suggest("gard")
        # Something was written since.
        made._state, made._good_until = ("other", 0), 0.0
        assert made.find("gard") == index.suggest("gard")
    made._good_until = 0.0
    assert made.find("gard") == index.suggest("gard")
    made.close()


def test_closing_gives_up_what_is_read(index: PhotoIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()

    def held_up(text: str) -> str:
        if "\n" in text:
            began.set()
            go_on.wait(30)
        return folded(text)

    monkeypatch.setattr("crossmodal.engine.suggestions.folded", held_up)
    monkeypatch.setattr("crossmodal.engine.suggestions._FOLDED_AT_ONCE", 2)
    made = Suggestions(index._workspace)
    with ThreadPoolExecutor(2) as threads:
        finding = threads.submit(made.find, "gard")
        began.wait(30)
        closing = threads.submit(made.close)
        time.sleep(0.05)
        go_on.set()
        closing.result()
        with pytest.raises(ServiceError, match="closed meanwhile"):
            finding.result()
    assert made.find("gard") == index.suggest("gard")
    made.close()


def test_by_http_strangers_are_told_no_places(serving: Serving) -> None:
    def ask(address: str, **parameters: Any) -> Any:
        http = AsgiClient(serving, address)
        return http.get("/v1/suggestions", params=parameters)

    assert ask("127.0.0.1", q="garm").json() == {
        "suggestions": [
            {"kind": "place", "text": "Garmisch", "tag": "city", "filter": {"city": "Garmisch"}, "count": 1}
        ]
    }
    assert ask("192.0.2.1", q="garm").json() == {"suggestions": []}
    assert len(ask("192.0.2.1", q="gar", limit=2).json()["suggestions"]) == 2
    for refused in ({"q": "a" * 2001}, {"q": "a", "limit": "0"}, {"q": "a", "kind": "tag"}):
        assert ask("127.0.0.1", **refused).status_code == 422
