"""How often the page waits for the server, one question after the other, before it shows the first result."""

from __future__ import annotations

import pytest
from conftest import Server
from playwright.sync_api import Page, Route

from browser.page_driver import SearchPage, eventually

# Of HTTP/1.1, to one server.
CONNECTIONS = 6
QUIET_MS = 600

_PHOTO = "() => [...document.querySelectorAll('#results img')].some(image => image.naturalWidth)"


class SlowWay:
    """Holds what ``page`` asks for until it asks for nothing more, so that each release is a round trip."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._held: list[Route] = []
        self._unanswered = 0
        page.route("**", lambda route: self._held.append(route))
        page.on("requestfinished", lambda _: self._answered())
        page.on("requestfailed", lambda _: self._answered())

    def round_trip(self) -> list[str]:
        """Lets all through that the page has asked, once it waits, and waits for the answers; the paths."""
        eventually(lambda: self._asked() > 0, True)
        while len(self._held) != self._asked():
            pass
        released, self._held = self._held, []
        self._unanswered = len(released)
        for route in released:
            route.continue_()
        eventually(lambda: self._page.wait_for_timeout(20) or self._unanswered, 0)
        self._page.wait_for_timeout(QUIET_MS)
        return [route.request.url.split("/", 3)[3] for route in released]

    def _asked(self) -> int:
        self._page.wait_for_timeout(QUIET_MS)
        return len(self._held)

    def _answered(self) -> None:
        self._unanswered -= 1


@pytest.mark.parametrize("query", ["", "?text=an+animal+among+green+leaves"], ids=["start", "search"])
def test_the_first_result_takes_two_round_trips(page: Page, toy_server: Server, query: str) -> None:
    searching = SearchPage(page, toy_server)
    # The first search of a server also loads the model.
    searching.asked({"text": "an animal among green leaves"})
    way = SlowWay(page)
    page.evaluate("url => void setTimeout(() => location.assign(url))", f"{toy_server.url}/{query}")
    assert way.round_trip() == [query]
    second = way.round_trip()
    assert len(set(second)) <= CONNECTIONS, second
    results = page.locator("#results [data-testid=result]")
    assert results.count() > 0, second
    # It has the photo's colour and shape; the photo itself comes with the next one.
    assert not page.evaluate(_PHOTO)
    way.round_trip()
    assert page.evaluate(_PHOTO)
    assert len(searching.sent) <= 1
    page.unroute_all(behavior="ignoreErrors")
