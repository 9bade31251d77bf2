"""Jina Box on a page of its own, as its users put it there, and what can be done with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from browser.site import Site
from browser.tools import npm_file
from browser.watch import Watch

VERSIONS = ("0.1.49", "0.1.50")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><title>Jina Box {version}</title><link rel="icon" href="data:,">
<style>{style}</style>
<img id="photo" alt="a photo of this page" width="64" src="{photo}">
<jina-searchbar></jina-searchbar>
<script src="/jinabox-{version}.js"></script>
<script>JinaBox.init({endpoint}, {settings});</script>
</html>"""

# 0.1.50 lacks the style sheet that 0.1.49 has in it. Without any, its tabs have no height to click on, and
# what it shows during a drag pushes the text box away from under the mouse.
_STYLES = {
    "0.1.49": "",
    "0.1.50": ".jina-results-tab-img { width: 48px; height: 48px } .jina-search-icon { width: 24px }"
    " .jina-search-expander { position: absolute; top: 200px }",
}

_DROP = """(target, files) => {
    const dropped = new DataTransfer();
    for (const file of files) {
        const bytes = Uint8Array.from(atob(file.content), character => character.charCodeAt(0));
        dropped.items.add(new File([bytes], file.name, {type: file.type}));
    }
    for (const type of ["dragenter", "dragover", "drop"]) {
        target.dispatchEvent(new DragEvent(type, {dataTransfer: dropped, bubbles: true, cancelable: true}));
    }
}"""


class JinaBox:
    """The search bar of one version on ``page``; ``sent`` are the bodies that it posted, in order."""

    def __init__(
        self,
        page: Page,
        site: Site,
        watch: Watch,
        version: str,
        endpoint: str,
        *,
        photo: str = "data:,",
        **settings: Any,
    ) -> None:
        self.page = page
        self.version = version
        self.sent: list[Any] = []
        if version == "0.1.49":
            # Its style sheet begins by importing a font.
            watch.expect("^request: https://fonts.googleapis.com/css2")
            page.route(
                "https://fonts.googleapis.com/**",
                lambda route: route.fulfill(content_type="text/css", body=""),
            )
        page.on("request", self._on_request)
        script = npm_file(f"jinabox-{version}", "dist/jinabox.umd.min.js")
        site.add(f"/jinabox-{version}.js", "text/javascript", script.read_bytes())
        # Its own five seconds may be too few on a busy machine.
        settings = {"timeout": 30_000, **settings}
        content = _PAGE.format(
            version=version,
            style=_STYLES[version],
            photo=photo,
            endpoint=json.dumps(endpoint),
            settings=json.dumps(settings),
        )
        page.goto(site.add(f"/with-{version}.html", "text/html", content.encode()))

    @property
    def input(self) -> Locator:
        """The text box."""
        return self.page.locator(".jina-search-input")

    def type(self, text: str) -> None:
        """Types a query and presses Enter."""
        self.input.fill(text)
        self.input.press("Enter")

    def drop(self, *files: Path) -> None:
        """Drops files from the desktop."""
        dropped = [
            {"name": file.name, "type": _type(file), "content": base64.b64encode(file.read_bytes()).decode()}
            for file in files
        ]
        self.input.evaluate(_DROP, dropped)

    def upload(self, *files: Path) -> None:
        """Chooses files in the dialogue that the icon opens."""
        self.page.locator(".jina-search-icon").click()
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name="Upload Files").click()
        chooser.value.set_files(files)

    def drag_photo_of_the_page(self) -> None:
        """Drags the page's own photo into the text box, with the mouse."""
        self.page.locator("#photo").drag_to(self.input)

    def photos(self, number: int) -> list[str]:
        """The addresses of the photos that were found, in order, once ``number`` of them are drawn."""
        found = self.page.locator(".jina-result img")
        expect(found).to_have_count(number)
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.jina-result img')].every(i => i.naturalWidth > 0)"
        )
        return [
            str(address) for address in found.evaluate_all("found => found.map(i => i.getAttribute('src'))")
        ]

    def captions(self, number: int) -> list[str]:
        """The captions that were found, as they can be read, in order, once there are ``number`` of them."""
        found = self.page.locator(".jina-text-result")
        expect(found).to_have_count(number)
        return found.all_text_contents()

    def error(self) -> str:
        """The sentence under "Error!", once it is there and nothing says any more that it is searching."""
        shown = self.page.locator(".jina-error p")
        expect(shown).to_be_visible()
        expect(self.page.locator(".jina-sea")).to_have_count(0)
        return shown.inner_text()

    def acknowledge(self) -> None:
        """Presses the error's "Ok", and waits until Jina Box has cleared its results, which it does twice."""
        self.page.get_by_role("button", name="Ok").click()
        self.page.wait_for_timeout(400)

    def _on_request(self, request: Any) -> None:
        if request.method == "POST":
            self.sent.append(request.post_data_json)


def matches(answer: Any) -> Sequence[dict[str, Any]]:
    """The first query's matches in an answer over HTTP."""
    found: Sequence[dict[str, Any]] = answer["search"]["docs"][0]["matches"]
    return found


def _type(file: Path) -> str:
    return {".jpg": "image/jpeg", ".png": "image/png", ".pdf": "application/pdf"}[file.suffix]
