"""A real Chromium for the tests, a page that is watched, and a site of another origin."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import Server, server_over_copy
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from browser.site import Site, serving
from browser.tools import chromium
from browser.watch import Watch

# Whatever a page asks for, nothing but this machine is reached: other names fail to resolve, at once.
_ONLY_THIS_MACHINE = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules={_ONLY_THIS_MACHINE}",
)
# Milliseconds that a test waits for what should be there at once; machines that test are often busy.
_PATIENCE = 20_000


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that write docs/screenshots unless they are asked for with ``-m screenshots``."""
    if "screenshots" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("screenshots")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("screenshots")]


# Not for the whole session: while Playwright runs, no other test of this thread could start an event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window, started once for all browser tests."""
    executable = chromium()
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        # Routes of a test see nothing of what a service worker asks for: only tests of it have one.
        blocked = partial(started.new_context, service_workers="block")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(started, "new_context", blocked)
            yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own for each test: empty storage, English, 1280 x 800."""
    profile = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    profile.set_default_timeout(_PATIENCE)
    yield profile
    profile.close()


@pytest.fixture
def watch(context: BrowserContext) -> Iterator[Watch]:
    """What goes wrong in the test's pages; at the end nothing may have that the test did not expect."""
    watched = Watch(context)
    yield watched
    for page in context.pages:
        # A round trip, so that what the page has already reported has arrived; not while it goes elsewhere.
        page.wait_for_function("() => document.readyState === 'complete'")
    assert watched.problems() == []


@pytest.fixture
def page(context: BrowserContext, watch: Watch) -> Page:
    """An empty page in a watched profile."""
    return context.new_page()


@pytest.fixture
def site() -> Iterator[Site]:
    """A web site of another origin than the server's."""
    with serving() as served:
        yield served


@pytest.fixture(scope="package")
def writable_server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A query server over a copy of the toy index, to which tests may add."""
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("writable")) as served:
        yield served
