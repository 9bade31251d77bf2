"""The text in photos on the page: words find it unasked where there is some, and results say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, copy_index, start_server
from playwright.sync_api import Page, expect

from browser.page_driver import SearchPage
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.protocols import SeenText


@pytest.fixture
def server(toy_workspace: Path, tmp_path: Path) -> Iterator[Server]:
    """A server over the toy photos, in one of which a word was read."""
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    with EmbeddedStore.open_writer(workspace) as store:
        photos = {record.file: record for record in store.listed("image", 20)}
        store.put_texts([SeenText(photos["grass.jpg"].id, str(photos["grass.jpg"].digest), "Zanzibar\nopen")])
    started = start_server("query_restful", "--workspace", workspace)
    yield started
    started.stop()


def test_a_word_on_a_photo_finds_it_and_is_marked(server: Server, page: Page) -> None:
    searching = SearchPage(page, server).open(text="zanzibar", show="photos").settled()
    best = page.get_by_test_id("result").first
    expect(best.get_by_test_id("text-in-photo")).to_have_text("Text in photo Zanzibar · open")
    expect(best.get_by_test_id("parts")).to_contain_text("text in photo #1")
    assert "hybrid" not in dict(searching.parameters())
    best.get_by_test_id("open-result").click()
    expect(searching.find("lightbox-seen")).to_contain_text("Zanzibar")
    searching.open(text="zanzibar", show="photos", hybrid=0).settled()
    expect(searching.find("active-filter")).to_have_text("meaning alone")
    expect(searching.find("text-in-photo")).to_have_count(0)
