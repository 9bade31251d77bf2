"""The page at /docs: every route and type of the description, from files of this server alone."""

from __future__ import annotations

import pytest
from conftest import Server
from playwright.sync_api import Page, expect

from browser.accessibility import assert_accessible
from browser.watch import Watch


def test_it_shows_every_route_and_type(page: Page, watch: Watch, toy_server: Server) -> None:
    described = toy_server.request("/v1/openapi.json")[1]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{toy_server.url}/docs")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        f"{described['info']['title']} {described['info']['version']}"
    )
    operations = [
        operation
        for item in described["paths"].values()
        for method, operation in item.items()
        if method in ("get", "post", "patch", "put", "delete")
    ]
    routes = page.get_by_test_id("route")
    expect(routes).to_have_count(len(operations))
    expect(page.get_by_test_id("type")).to_have_count(len(described["components"]["schemas"]))
    search = page.locator("#search")
    search.locator("summary").click()
    expect(search).to_contain_text("A sentence finds photos")
    expect(search.get_by_role("table", name="Parameters")).to_contain_text("Request-Timeout")
    expect(search.get_by_role("table", name="Answers")).to_contain_text("422")
    assert_accessible(page)
    # A type leads to its fields.
    search.get_by_role("link", name="SearchRequest").first.click()
    expect(page.get_by_role("table", name="Fields of SearchRequest")).to_contain_text("top_k")
    assert {url.partition("#")[0] for url in asked if not url.startswith(f"{toy_server.url}/")} == set()


@pytest.mark.parametrize("path", ["/docs/nothing.js", "/docs/..%2fapp.py"])
def test_nothing_but_its_files_is_served(toy_server: Server, path: str) -> None:
    assert toy_server.request(path)[0] == 404
