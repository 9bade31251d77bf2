"""Small WebPs for rows of photos, and what a page needs before they are there: sides and a colour."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from asgi_client import AsgiClient, serving_in
from conftest import TOY_IMAGES
from photos import encoded
from PIL import Image

from crossmodal import PhotoIndex
from crossmodal.errors import DataError
from crossmodal.images.pool import DecodePool
from crossmodal.images.previews import average_colour
from crossmodal.records import Look

# File, sides, and the sides of its previews.
PHOTOS = {
    "wide.jpg": ((1500, 1000), (300, 200), (720, 480)),
    "small.png": ((120, 90), (120, 90), (120, 90)),
    # Ten times as wide as high, and ten times as high as wide.
    "panorama.jpg": ((4000, 400), (1200, 120), (2880, 288)),
    "tower.jpg": ((400, 4000), (120, 1200), (288, 2880)),
}
ORANGE = (200, 120, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    for number, (name, (size, _, _)) in enumerate(PHOTOS.items()):
        image = Image.new("RGB", size, ORANGE)
        # No two files of one content.
        image.paste((number,) * 3, (0, 0, 8, 8))
        (made / name).write_bytes(encoded(image, "PNG" if name.endswith("png") else "JPEG"))
    return made


@pytest.fixture(scope="module")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoIndex]:
    with PhotoIndex(tmp_path_factory.mktemp("index"), "clip-mini") as made:
        assert made.add(folder).added == len(PHOTOS)
        yield made


@pytest.fixture(scope="module")
def http(index: PhotoIndex) -> Iterator[AsgiClient]:
    with serving_in(index._settings.workspace) as serving:
        yield AsgiClient(serving)


def id_of(index: PhotoIndex, name: str) -> str:
    (record,) = index.page(filter={"file": name})
    return record.id


@pytest.mark.parametrize("name", PHOTOS)
def test_previews_have_the_shorter_side_that_is_asked_for(
    index: PhotoIndex, http: AsgiClient, name: str
) -> None:
    id = id_of(index, name)
    for side, expected in zip((200, 480), PHOTOS[name][1:], strict=True):
        answer = http.get(f"/v1/documents/{id}/thumbnail?size={side}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        picture = Image.open(BytesIO(answer.content))
        assert (picture.format, picture.size) == ("WEBP", expected)
        middle = picture.convert("RGB").getpixel((expected[0] // 2, expected[1] // 2))
        np.testing.assert_allclose(middle, ORANGE, atol=4)
        assert index.thumbnail(id, side=side) == answer.content


def test_a_preview_is_made_once_and_its_file_is_not_read_again(
    index: PhotoIndex, http: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/v1/documents/{id_of(index, 'wide.jpg')}/thumbnail?size=200"
    made = http.get(address)
    # Its id is its content's, so it is never another one.
    assert made.headers["cache-control"] == "private, max-age=31536000, immutable"
    monkeypatch.setattr(DecodePool, "preview", None)
    monkeypatch.setattr("crossmodal.workspace.Workspace.content", None)
    assert http.get(address).content == made.content
    again = http.get(address, headers={"If-None-Match": made.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert http.request("HEAD", address).headers["content-length"] == str(len(made.content))


def test_what_has_no_file_any_more_shows_its_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos" / "cat.jpg"
    photo.write_bytes((TOY_IMAGES / "cat.jpg").read_bytes())
    with PhotoIndex(tmp_path / "index", "clip-mini") as index:
        index.add(tmp_path / "photos")
        id = id_of(index, "cat.jpg")
        thumbnail = index.thumbnail(id)
    photo.unlink()
    with serving_in(tmp_path / "index") as serving:
        http = AsgiClient(serving)
        answer = http.get(f"/v1/documents/{id}/thumbnail?size=480")
        assert (answer.content, answer.headers["content-type"]) == (thumbnail, "image/jpeg")
        # Its file may come back.
        assert "immutable" not in answer.headers["cache-control"]
        assert http.get(f"/v1/documents/{id}/thumbnail?size=512").status_code == 410
        assert http.get("/v1/documents/nobody/thumbnail?size=480").status_code == 404
        assert http.get(f"/v1/documents/{id}/thumbnail?size=201").status_code == 422


def test_matches_and_documents_say_how_their_photo_looks(index: PhotoIndex, http: AsgiClient) -> None:
    for name, (size, _, _) in PHOTOS.items():
        id = id_of(index, name)
        look = index.look(id)
        assert look is not None
        assert look.colour is not None
        assert (look.width, look.height) == size
        shown = tuple(int(look.colour[place : place + 2], 16) for place in (1, 3, 5))
        np.testing.assert_allclose(shown, ORANGE, atol=3)
        photo = http.get(f"/v1/documents/{id}").json()["photo"]
        assert (photo["width"], photo["height"], photo["colour"]) == (*size, look.colour)
    (match,) = index.search_text("anything", 1)
    assert match.look == index.look(match.id)
    (found,) = http.post("/v1/search", json={"text": "anything", "top_k": 1}).json()["results"]
    assert found["matches"][0]["photo"]["colour"] == match.look.colour
    assert index.look("nobody") is None


def test_a_caption_has_the_look_of_its_photo(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes((TOY_IMAGES / "cat.jpg").read_bytes())
    (tmp_path / "photos" / "captions.txt").write_text("image,caption\ncat.jpg,a cat\n")
    with PhotoIndex(tmp_path / "index", "clip-mini") as index:
        index.add(tmp_path / "photos")
        id = id_of(index, "cat.jpg")
        look = Look(451, 300, "#947057")
        assert index.look(id) == look
        (caption,) = index.search(tmp_path / "photos" / "cat.jpg", 1)
        assert (caption.text, caption.photo_id, caption.look) == ("a cat", id, look)
        index.delete([id])
        assert index.look(id) is None


def test_what_cannot_be_decoded_has_no_colour() -> None:
    assert average_colour(b"no picture") is None
    assert average_colour(encoded(Image.new("RGB", (2, 1), (10, 20, 30)), "PNG")) == 0x0A141E


def test_a_side_that_is_no_preview_is_refused(index: PhotoIndex) -> None:
    with pytest.raises(DataError, match="has 1 to 2,048 pixels"):
        index.thumbnail(id_of(index, "wide.jpg"), side=5000)
