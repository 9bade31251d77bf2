"""The guards of the browser tests do go off."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from browser.accessibility import assert_accessible
from browser.site import Site
from browser.watch import Watch

PAGE = b"""<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">
<main><h1>A page</h1>%s</main>"""


def problems(browser: Browser, site: Site, body: bytes, *expected: str) -> list[str]:
    """What the watch says of a page with ``body``."""
    address = site.add("/", "text/html", PAGE.replace(b"%s", body))
    context = browser.new_context()
    watch = Watch(context)
    for pattern in expected:
        watch.expect(pattern)
    page = context.new_page()
    page.goto(address)
    page.evaluate("() => null")
    context.close()
    return watch.problems()


def test_a_page_without_problems(browser: Browser, site: Site) -> None:
    assert problems(browser, site, b"<script>console.log('fine')</script>") == []


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (b"<script>console.error('so wrong')</script>", "console: so wrong"),
        (b"<script>throw new Error('never caught')</script>", "error: never caught"),
        (b"<script>Promise.reject(new Error('not awaited'))</script>", "error: not awaited"),
        (b"<img alt='' src='/not-there.png'>", "status of 404"),
        (b"<img alt='' src='http://example.org/x.png'>", "request: http://example.org/x.png"),
    ],
)
def test_each_kind_of_problem_is_seen(browser: Browser, site: Site, body: bytes, seen: str) -> None:
    found = problems(browser, site, body)
    assert any(seen in problem for problem in found), found
    assert problems(browser, site, body, *(f"^{kind}" for kind in {p.partition(":")[0] for p in found})) == []


def test_an_expected_problem_that_does_not_come_is_one(browser: Browser, site: Site) -> None:
    assert problems(browser, site, b"", "console: so wrong") == ["expected and not seen: console: so wrong"]


def test_axe_finds_what_is_not_accessible(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(site.add("/good", "text/html", PAGE.replace(b"%s", b"<p>Text</p>")))
    assert_accessible(page)
    bad = b"<img src='data:,'><button></button><p style='color:#bbb;background:#fff'>faint</p>"
    page.goto(site.add("/bad", "text/html", PAGE.replace(b"%s", bad)))
    with pytest.raises(AssertionError) as caught:
        assert_accessible(page)
    page.close()
    for rule in ("image-alt", "button-name", "color-contrast"):
        assert f"({rule})" in str(caught.value)
