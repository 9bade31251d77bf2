"""Logging in on the page, searching, and logging out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, copy_index, start_server
from playwright.sync_api import Page, expect

from browser.accessibility import assert_accessible
from browser.site import Site
from browser.watch import Watch
from crossmodal.access.keys import KeyFile


@pytest.fixture(scope="module")
def key_and_server(
    toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Server]]:
    """A server that lets in whoever has the key."""
    workspace = copy_index(toy_workspace, tmp_path_factory.mktemp("login") / "workspace")
    key = KeyFile(workspace).add("visitor", "read")
    server = start_server("query_restful", "--workspace", workspace)
    yield key, server
    server.stop()


def test_a_person_logs_in_searches_and_logs_out(
    page: Page, watch: Watch, key_and_server: tuple[str, Server]
) -> None:
    key, server = key_and_server
    watch.expect("^console: Failed to load resource: the server responded with a status of 401")
    page.goto(f"{server.url}/?view=status")
    expect(page).to_have_url(f"{server.url}/login?next=%2F%3Fview%3Dstatus")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert_accessible(page)
    box = page.get_by_label("Key")
    expect(box).to_be_focused()
    box.fill("not the key")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That key is not known here.")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Log in").click()
    # Where it was meant to go.
    expect(page).to_have_url(f"{server.url}/?view=status")
    assert page.evaluate("() => document.cookie") == ""
    page.goto(f"{server.url}/")
    page.locator("#search-box").fill("a cat looks into the camera")
    page.locator("#search-box").press("Enter")
    photos = page.locator("#results img")
    expect(photos.first).to_be_visible()
    page.wait_for_function("() => document.querySelector('#results img').naturalWidth > 0")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{server.url}/login")
    # Neither the page nor what it has shown is left.
    page.goto(f"{server.url}/")
    expect(page.get_by_label("Key")).to_be_visible()
    assert page.context.request.get(f"{server.url}/v1/documents").status == 401


def test_a_page_whose_session_is_over_leads_to_the_form(
    page: Page, watch: Watch, key_and_server: tuple[str, Server]
) -> None:
    key, server = key_and_server
    watch.expect("^console: Failed to load resource: the server responded with a status of 401")
    page.goto(f"{server.url}/login")
    page.get_by_label("Key").fill(key)
    page.get_by_label("Key").press("Enter")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.context.clear_cookies()
    # Typed letter by letter, it would be suggestions that are refused.
    page.locator("#search-box").evaluate("box => { box.value = 'a rocket'; box.form.requestSubmit(); }")
    expect(page.get_by_label("Key")).to_be_visible()


def test_who_is_logged_in_can_follow_a_link_from_another_page(
    page: Page, site: Site, key_and_server: tuple[str, Server]
) -> None:
    key, server = key_and_server
    link = f'<!doctype html><link rel="icon" href="data:,"><a href="{server.url}/?view=status">photos</a>'
    elsewhere = site.add("/link.html", "text/html", link.encode()).replace("127.0.0.1", "localhost")
    page.goto(elsewhere)
    page.get_by_role("link").click()
    page.get_by_label("Key").fill(key)
    page.get_by_label("Key").press("Enter")
    expect(page).to_have_url(f"{server.url}/?view=status")
    page.goto(elsewhere)
    page.get_by_role("link").click()
    expect(page).to_have_url(f"{server.url}/?view=status")


def test_without_keys_there_is_nothing_to_log_out_of(page: Page, toy_server: Server) -> None:
    page.goto(f"{toy_server.url}/login")
    expect(page).to_have_url(f"{toy_server.url}/")
    expect(page.locator("#contents")).to_contain_text("photos")
    expect(page.locator("#logout-button")).to_be_hidden()
