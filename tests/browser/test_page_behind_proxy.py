"""The page under a path of nginx: it loads, a person logs in and searches, and photos are shown."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import copy_index, start_server
from nginx import TAKEN_OFF, nginx
from playwright.sync_api import Page, expect

from browser.watch import Watch
from crossmodal.access.keys import KeyFile


def test_a_person_logs_in_and_searches_below_the_path(
    page: Page, watch: Watch, toy_workspace: Path, tmp_path: Path
) -> None:
    workspace = copy_index(toy_workspace, tmp_path / "workspace")
    key = KeyFile(workspace).add("visitor", "read")
    server = start_server("query_restful", "--workspace", workspace, "--trusted-proxy", "127.0.0.1")
    with nginx(server.url, tmp_path) as address:
        root = address + TAKEN_OFF
        page.goto(f"{root}/?view=status")
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{root}/?view=status")
        page.get_by_role("link", name="Photos", exact=True).click()
        page.locator("#search-box").fill("a cat looks into the camera")
        page.locator("#search-box").press("Enter")
        expect(page).to_have_url(re.compile(re.escape(f"{root}/?text=a+cat")))
        expect(page.locator("#results img").first).to_be_visible()
        page.wait_for_function("() => document.querySelector('#results img').naturalWidth > 0")
        described = page.request.get(f"{root}/page/opensearch.xml").text()
        assert f'template="{root}/?text={{searchTerms}}"' in described
        page.goto(f"{root}/docs")
        expect(page.get_by_test_id("route").first).to_be_visible()
        page.goto(f"{root}/")
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{root}/login")
        # It would ask for the page's icon when nobody answers any more.
        page.goto("about:blank")
    server.stop()
