"""Jina Box with captions that hold markup, an index without photos, and a server that goes away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import TOY_IMAGES, Server, start_server
from playwright.sync_api import BrowserContext, Page

from browser.jina_box import VERSIONS, JinaBox
from browser.site import Site, serving
from browser.watch import Watch

CAPTIONS = [
    "a boat <img src=x onerror=\"document.title='taken'\">",
    "a boat <script>document.title='taken'</script> & a \"quay\"",
    "a boat <svg onload=document.title='taken'> <b>bold</b>",
    "a boat &lt;img src=x onerror=document.title='taken'&gt;",
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The pages that Jina Box stands on; the server is started with its origin."""
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def captions_server(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Server]:
    """A query server over an index of nothing but CAPTIONS."""
    workspace = tmp_path_factory.mktemp("captions") / "workspace"
    indexing = start_server("index_restful", "--workspace", workspace)
    status, answer = indexing.request("/index", {"data": [{"text": caption} for caption in CAPTIONS]})
    indexing.stop()
    assert status == 200, answer
    server = start_server("query_restful", "--workspace", workspace, "--allow-origin", site.url)
    yield server
    server.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_markup_in_captions_is_shown_and_never_runs_and_nothing_found_is_said(
    page: Page, site: Site, watch: Watch, captions_server: Server, version: str
) -> None:
    box = JinaBox(page, site, watch, version, f"{captions_server.url}/search")
    box.drop(TOY_IMAGES / "coffee.jpg")
    shown = box.captions(len(CAPTIONS))
    assert sorted(shown) == sorted(CAPTIONS)
    assert page.locator(".jina-text-result *").count() == 0
    assert page.title() == f"Jina Box {version}"
    box.type("a boat")
    assert box.error().startswith("Nothing was found")


def test_a_server_that_has_gone_away_is_shown_as_an_error(
    context: BrowserContext, site: Site, watch: Watch, captions_server: Server
) -> None:
    watch.expect("^console: Failed to load resource: net::ERR_CONNECTION_REFUSED")
    endpoint = f"{captions_server.url}/search"
    boxes = [JinaBox(context.new_page(), site, watch, version, endpoint) for version in VERSIONS]
    for box in boxes:
        box.drop(TOY_IMAGES / "coffee.jpg")
        box.captions(len(CAPTIONS))
    assert captions_server.stop() == 0
    for box in boxes:
        box.type("a boat")
        assert box.error() == f"request failed at {endpoint}"
