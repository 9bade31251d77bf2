"""The page as a visitor uses it: what can be done on it and what can be read off it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from conftest import TOY_IMAGES, Server
from PIL import Image
from playwright.sync_api import Locator, Page, expect

Json = dict[str, Any]

# Seconds that a condition which Playwright has no assertion for may take; machines that test are often busy.
_PATIENCE = 20

_TRANSFER_TYPES = {"uri_list": "text/uri-list", "plain": "text/plain"}

_TRANSFER = """files => {
    const transfer = new DataTransfer();
    for (const file of files) {
        const bytes = Uint8Array.from(atob(file.content), character => character.charCodeAt(0));
        transfer.items.add(new File([bytes], file.name, {type: file.type}));
    }
    return transfer;
}"""

_DROP = f"""(target, {{files, data}}) => {{
    const transfer = ({_TRANSFER})(files);
    for (const [type, value] of Object.entries(data)) transfer.setData(type, value);
    for (const type of ["dragenter", "dragover", "drop"])
        target.dispatchEvent(
            new DragEvent(type, {{dataTransfer: transfer, bubbles: true, cancelable: true}}));
}}"""

_PASTE = f"""(target, files) => target.dispatchEvent(
    new ClipboardEvent("paste", {{clipboardData: ({_TRANSFER})(files), bubbles: true, cancelable: true}}))"""

_UNFOLD = """() => {
    const button = document.querySelector("[data-testid=show-weak]");
    if (!button) return;
    const focused = document.activeElement;
    const {scrollY} = window;
    button.click();
    focused?.focus({preventScroll: true});
    if (focused === document.body) {
        // The next Tab begins where it would have begun.
        document.querySelector(".skip-link").focus();
        document.activeElement.blur();
    }
    scrollTo(0, scrollY);
}"""

# Those below the fold are loaded when they come into view.
_ALL_DRAWN = """images => {
    const missing = images.find(image => !image.complete || !image.naturalWidth);
    missing?.scrollIntoView({block: "nearest"});
    return images.length > 0 && !missing;
}"""


@dataclass(frozen=True)
class File:
    """A file that a visitor has: its name, media type and bytes."""

    name: str
    content: bytes
    type: str = "image/jpeg"

    def for_script(self) -> dict[str, str]:
        """What the scripts above make a browser's File of."""
        return {
            "name": self.name,
            "type": self.type,
            "content": base64.b64encode(self.content).decode(),
        }

    def for_chooser(self) -> Any:
        """What Playwright puts into a file chooser."""
        return {"name": self.name, "mimeType": self.type, "buffer": self.content}


def toy_file(name: str) -> File:
    """A photo of the toy data, unchanged."""
    return File(name, (TOY_IMAGES / name).read_bytes())


def changed_file(
    toy_name: str, name: str, *, size: tuple[int, int] | None = None, turn: Image.Transpose | None = None
) -> File:
    """A photo of the toy data scaled to ``size`` (width, height) and turned, so that it is another photo."""
    photo = Image.open(TOY_IMAGES / toy_name).convert("RGB")
    if turn is not None:
        photo = photo.transpose(turn)
    if size is not None:
        photo = photo.resize(size)
    return File(name, encoded(photo))


def encoded(photo: Image.Image, **options: Any) -> bytes:
    """A JPEG file of a picture."""
    held = BytesIO()
    photo.save(held, "JPEG", quality=90, **options)
    return held.getvalue()


def eventually(read: Callable[[], Any], wanted: Any) -> None:
    """Waits until ``read`` gives what is wanted, and fails with what it gave last."""
    deadline = time.monotonic() + _PATIENCE
    while (found := read()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == wanted


class SearchPage:
    """The page of ``server`` in ``page``; ``sent`` are the bodies of its searches, in order."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.sent: list[Json] = []
        page.on("request", self._on_request)

    def open(self, address: str = "/", **parameters: Any) -> SearchPage:
        """Goes to an address of the server; ``parameters`` are its query string, lists repeat their name."""
        query = urlencode(parameters, doseq=True)
        self.page.goto(f"{self.server.url}{address}{'?' + query if query else ''}")
        return self

    def find(self, testid: str) -> Locator:
        """The elements with this data-testid."""
        return self.page.get_by_test_id(testid)

    # Searching

    @property
    def box(self) -> Locator:
        """The search box."""
        return self.page.locator("#search-box")

    def search(self, sentence: str) -> SearchPage:
        """Types a sentence, presses Enter and waits for the results."""
        self.box.fill(sentence)
        self.box.press("Enter")
        return self.settled()

    def settled(self, *, folded: bool = False) -> SearchPage:
        """Waits until the results, or what stands in their place, are those of the latest search.

        Weak results are then shown, too, unless they are to stay ``folded``.
        """
        expect(self.page.locator("#results")).not_to_have_attribute("aria-busy", "true")
        expect(self.page.locator("#results")).to_have_attribute("data-kind", "matches")
        if not folded:
            self._unfold()
        return self

    def show(self, what: str) -> SearchPage:
        """Chooses what to show: photos or captions."""
        # The radio button itself is hidden under its label.
        self.page.locator(f"label:has([data-testid=show-{what}])").click()
        return self.settled()

    def drop(self, *files: File, on: str = "#search-box", **data: str) -> None:
        """Drops files; ``data`` are texts that the drag carries as well, as ``uri_list`` or ``plain``."""
        named = {_TRANSFER_TYPES[name]: value for name, value in data.items()}
        self.page.locator(on).evaluate(_DROP, {"files": [file.for_script() for file in files], "data": named})

    def paste(self, *files: File) -> None:
        """Pastes files into whatever has the focus."""
        self.page.locator("body").evaluate(_PASTE, [file.for_script() for file in files])

    # Reading

    def result(self, document_id: str) -> Locator:
        """The result of this id."""
        return self.page.locator(f"[data-testid=result][data-id='{document_id}']")

    def ids(self, modality: str = "image") -> list[str]:
        """The ids of one section's results by rank; weak ones stand behind the others."""
        tiles = self.page.locator(f"#results [data-testid=section-{modality}] [data-testid=result]")
        found = tiles.evaluate_all(
            "tiles => tiles.map(tile => [Number(tile.dataset.rank ?? 0), tile.dataset.id])"
        )
        if any(rank == 0 for rank, _ in found):  # one that only its caption found has none
            return [id for _, id in found]
        return [id for _, id in sorted(found)]

    def shown(self) -> list[str]:
        """The ids of all results, or of the photos of the start page, in the order in which they stand."""
        return self._attributes("#results [data-testid=result]", "data-id")

    def terms(self) -> list[tuple[str, str, float]]:
        """The chips: kind, value and weight of each."""
        chips = "#terms [data-testid=term]"
        return [
            (kind, value, float(weight))
            for kind, value, weight in zip(
                self._attributes(chips, "data-kind"),
                self._attributes(chips, "data-value"),
                self._attributes(chips, "data-weight"),
                strict=True,
            )
        ]

    def parameters(self) -> list[tuple[str, str]]:
        """The query string of the address bar, in its order."""
        return parse_qsl(urlsplit(self.page.url).query)

    def expect_ids(self, wanted: Sequence[str], modality: str = "image") -> None:
        """Waits until these results are shown, in this order; weak ones, too."""

        def shown() -> list[str]:
            self._unfold()
            return self.ids(modality)

        eventually(shown, list(wanted))

    def expect_drawn(self, selector: str) -> None:
        """Waits until all images of a selector are loaded, and there are some."""
        images = self.page.locator(selector)
        eventually(lambda: images.evaluate_all(_ALL_DRAWN), True)
        # The words that the page puts in place of an image which cannot be loaded.
        expect(self.page.locator(".broken")).to_have_count(0)

    # The same question over the API

    def asked(self, body: Json) -> Json:
        """The first result of POST /v1/search with this body, grouped as the page does."""
        status, answer = self.server.request("/v1/search", {"group_duplicates": True, **body})
        assert status == 200, answer
        return answer["results"][0]

    def asked_ids(self, **body: Any) -> list[str]:
        """The ids that POST /v1/search answers to a body of one query."""
        return [match["id"] for match in self.asked(body)["matches"]]

    def _unfold(self) -> None:
        """Shows weak results as well, where there are some, and leaves the focus where it was."""
        self.page.evaluate(_UNFOLD)

    def _attributes(self, selector: str, name: str) -> list[str]:
        found: list[str] = self.page.locator(selector).evaluate_all(
            "(found, name) => found.map(element => element.getAttribute(name))", name
        )
        return found

    def _on_request(self, request: Any) -> None:
        if request.method == "POST" and urlsplit(request.url).path == "/v1/search":
            self.sent.append(request.post_data_json)


def photo_ids(server: Server) -> dict[str, str]:
    """The ids of all photos of a small index by the names of their files."""
    status, answer = server.request("/v1/documents?modality=image&limit=200")
    assert status == 200
    return {document["photo"]["file"]: document["id"] for document in answer["documents"]}


def data_uri(file: File) -> str:
    """A file as a data URI."""
    return f"data:{file.type};base64,{base64.b64encode(file.content).decode()}"


def picture_in(uri: str) -> Image.Image:
    """The picture that a data URI holds."""
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(BytesIO(base64.b64decode(body)))


def write_files(folder: Path, *files: File) -> list[Path]:
    """Writes files into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file.name).write_bytes(file.content)
    return [folder / file.name for file in files]
