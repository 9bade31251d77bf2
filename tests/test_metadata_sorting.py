"""Documents in the order of a tag: pages that fit together, filtered, over HTTP and of a search."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from conftest import run_app, server_over_copy
from hypothesis import given
from hypothesis import strategies as st
from store_samples import vector_of
from test_filtered_search import NAMES, filters, finite_tags

from crossmodal import PhotoIndex, Record
from crossmodal.errors import DataError
from crossmodal.filters import parse_filter
from crossmodal.filters.sorting import Order, Place, parse_order
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.workspace import Workspace

TAGS: dict[str, dict[str, Any]] = {
    "a": {"taken": "2019-07-04T12:00:00", "rating": 4, "keywords": ["sea", "boat"]},
    "b": {"taken": "2018-01-01", "rating": 4},
    "c": {"rating": 5, "taken": None},
    "d": {"taken": "2020", "rating": 1},
    "e": {"keywords": ["cat"]},
}


def put(store: EmbeddedStore, tags: dict[str, dict[str, Any]]) -> None:
    records = [Record(id, "image", tags=given).hashed() for id, given in tags.items()]
    store.put(records, np.stack([vector_of(record.id) for record in records]))


@pytest.mark.parametrize(
    ("sort", "ids"),
    [
        ("taken", "badce"),
        ("-taken", "dabce"),
        ("rating", "dabce"),
        ("-rating", "cabde"),
        # Of several values the first in the order counts: boat, cat; sea, cat.
        ("keywords", "aebcd"),
        ("-keywords", "aebcd"),
        ("missing", "abcde"),
    ],
)
def test_a_tag_orders_and_ties_are_by_id(tmp_path: Path, sort: str, ids: str) -> None:
    order = parse_order(sort)
    with EmbeddedStore.open_writer(tmp_path) as store:
        put(store, TAGS)
        assert "".join(record.id for record in store.listed("image", 9, order=order)) == ids
        in_memory = order.sorted(TAGS, lambda id: TAGS[id], lambda id: id)
        assert "".join(in_memory) == ids


@given(
    tags=st.lists(finite_tags, max_size=12),
    tag=st.sampled_from(NAMES),
    descending=st.booleans(),
    wanted=filters.map(parse_filter) | st.none(),
    limit=st.integers(1, 5),
)
def test_pages_are_the_whole_list_filtered_and_sorted(
    tags: list[dict[str, Any]], tag: str, descending: bool, wanted: Any, limit: int
) -> None:
    documents = {f"d{number:02d}": one for number, one in enumerate(tags)}
    order = Order(tag, descending)
    kept = [id for id, one in documents.items() if wanted is None or wanted.matches("image", one, {id})]
    with tempfile.TemporaryDirectory() as name:
        if documents:
            with EmbeddedStore.open_writer(Path(name)) as store:
                put(store, documents)
        with Workspace(Path(name)) as workspace:
            for chosen in (order, None):
                found: list[str] = []
                after = None
                while page := workspace.list_records("image", limit, after, filter=wanted, order=chosen):
                    assert len(page) <= limit
                    found += [record.id for record in page]
                    last = page[-1]
                    after = last.id if chosen is None else chosen.place_of(last.tags, last.id)
                expected = order.sorted(kept, lambda id: documents[id], lambda id: id)
                assert found == (sorted(kept) if chosen is None else expected)


def test_a_page_goes_on_where_its_last_document_was_even_when_that_is_gone(tmp_path: Path) -> None:
    order = parse_order("-rating")
    with EmbeddedStore.open_writer(tmp_path) as store:
        put(store, TAGS)
        last = store.listed("image", 2, order=order)[-1]
        assert last.id == "a"
        after = Place.from_text(order.place_of(last.tags, last.id))
        store.delete(["a"])
        assert [record.id for record in store.listed("image", 9, order=order, after=after)] == ["b", "d", "e"]


@pytest.mark.parametrize("text", ["", "x", "bnVsbA", "W251bGwsIDFd", "A" * 40_000])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="no place in a list"):
        Place.from_text(text)


def test_a_search_shows_what_it_found_by_a_tag(toy_workspace: Path) -> None:
    with PhotoIndex(toy_workspace) as index:
        plain = index.search("a dog", 5)
        by_subject = index.search("a dog", 5, sort="-subject")
        assert {match.id for match in by_subject} == {match.id for match in plain}
        subjects = [match.tags["subject"] for match in by_subject]
        assert subjects == sorted(subjects, reverse=True)
        assert len(set(subjects)) > 1
        assert {match.id: match.rank for match in by_subject} == {match.id: match.rank for match in plain}
        with pytest.raises(DataError, match="nothing to sort by"):
            index.search("a dog", sort="-")
        pages = [index.page(sort="subject", limit=4)]
        while page := index.page(sort="subject", limit=4, after=pages[-1][-1]):
            pages.append(page)
        listed = [record.tags["subject"] for page in pages for record in page]
        assert listed == sorted(listed)
        assert len(listed) == 15


def test_over_http_and_on_the_command_line(toy_workspace: Path, tmp_path: Path) -> None:
    with (
        server_over_copy(toy_workspace, tmp_path) as server,
        httpx2.Client(base_url=server.url, timeout=60) as http,
    ):
        wanted = json.dumps({"subject": {"$ne": "animal"}})
        subjects: list[str] = []
        after: dict[str, str] = {}
        while True:
            parameters = {"sort": "-subject", "filter": wanted, "limit": "4", **after}
            answer = http.get("/v1/documents", params=parameters)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            subjects += [document["tags"]["subject"] for document in page["documents"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert subjects == sorted(subjects, reverse=True)
        assert len(subjects) > 4
        assert "animal" not in subjects
        for parameters, words in (
            ({"sort": "-"}, "nothing to sort by"),
            ({"sort": "subject", "after": "x"}, "no place in a list"),
            ({"filter": "{"}, "has to be JSON"),
            ({"filter": '{"a": {"$near": [1, 2], "$within_km": 1}}'}, "at /a"),
        ):
            refused = http.get("/v1/documents", params=parameters)
            assert refused.status_code == 422
            assert words in refused.json()["detail"]
        searched = http.post("/v1/search", json={"text": "a dog", "top_k": 5, "sort": "subject"}).json()
        found = [match["tags"]["subject"] for match in searched["results"][0]["matches"]]
        assert found == sorted(found)
        assert len(set(found)) > 1
        done = run_app(
            "search", "a dog", "--url", server.url, "-k", "5", "--sort", "subject", "--print", "json"
        )
        (result,) = json.loads(done.stdout)
        assert [match["tags"]["subject"] for match in result["matches"]] == found
    refused_here = run_app("search", "a dog", "--workspace", toy_workspace, "--sort=-")
    assert refused_here.returncode == 2
    assert "--sort" in refused_here.stderr
