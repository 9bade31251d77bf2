"""What browsers cannot show they get as JPEG; damaged photos are indexed with a warning."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
import pytest
from asgi_client import AsgiClient, serving_in
from conftest import REPOSITORY, TOY_IMAGES
from photos import encoded, toy_photo
from PIL import Image

from crossmodal import PhotoIndex
from crossmodal.cli import main
from crossmodal.images.pool import DecodePool
from crossmodal.records import IMAGE
from crossmodal.server.serving import Serving

FIXTURES = REPOSITORY / "tests" / "fixtures" / "formats"
CAT = (TOY_IMAGES / "cat.jpg").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    for name in ("photo.heic", "photo.jp2", "photo.avif"):
        (made / name).write_bytes((FIXTURES / name).read_bytes())
    (made / "scan.tif").write_bytes(encoded(toy_photo(), "TIFF"))
    (made / "cat.jpg").write_bytes(CAT)
    (made / "cut.jpg").write_bytes(CAT[: int(len(CAT) * 0.9)])
    (made / "gone.jpg").write_bytes(CAT[: int(len(CAT) * 0.1)])
    (made / "no photo.png").write_text("only a note")
    return made


@pytest.fixture(scope="module")
def workspace(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("index")
    with PhotoIndex(made, keep="original") as index:
        summary = index.add(folder)
    assert summary.added == 6
    assert {Path(failure.source).name for failure in summary.failures} == {"gone.jpg", "no photo.png"}
    (warning,) = summary.warnings
    assert Path(warning.source).name == "cut.jpg"
    assert "of the photo could be read" in warning.reason
    return made


@pytest.fixture(scope="module")
def serving(workspace: Path) -> Iterator[Serving]:
    with serving_in(workspace) as serving:
        yield serving


def get(
    serving: Serving,
    name: str,
    query: str = "",
    *,
    path: str = "/v1/documents/{}/content",
    method: str = "GET",
    **headers: str,
) -> httpx2.Response:
    """The photo of that file name."""
    records = serving.engine.workspace.list_records(IMAGE, 20)
    (id,) = [record.id for record in records if record.file == name]
    return AsgiClient(serving).request(method, path.format(id) + query, headers=headers)


@pytest.mark.parametrize("name", ["photo.heic", "photo.jp2", "scan.tif"])
def test_a_file_that_browsers_cannot_show_comes_as_jpeg_of_full_size(
    serving: Serving, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = get(serving, name)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    picture, photo = Image.open(BytesIO(shown.content)), toy_photo()
    assert picture.format == "JPEG"
    assert picture.size == (photo.size if name == "scan.tif" else (96, 64))
    mean = np.asarray(picture).mean(axis=(0, 1))
    np.testing.assert_allclose(mean, np.asarray(photo).mean(axis=(0, 1)), atol=4)
    # It is kept, and browsers keep it too.
    monkeypatch.setattr(DecodePool, "picture", None)
    assert get(serving, name).content == shown.content
    assert get(serving, name, **{"If-None-Match": shown.headers["etag"]}).status_code == 304
    assert get(serving, name, path="/images/{}").content == shown.content
    original = get(serving, name, "?original=true")
    assert original.content == (folder / name).read_bytes()
    assert (
        original.headers["content-type"] == f"image/{'tiff' if name == 'scan.tif' else name[-4:].strip('.')}"
    )
    assert original.headers["etag"] != shown.headers["etag"]


@pytest.mark.parametrize("name", ["cat.jpg", "photo.avif", "cut.jpg"])
def test_a_file_that_browsers_show_comes_as_it_is(serving: Serving, folder: Path, name: str) -> None:
    for query in ("", "?original=true", "?original=false"):
        assert get(serving, name, query).content == (folder / name).read_bytes()
    assert get(serving, name, "?original=perhaps").status_code == 422
    assert get(serving, name, "?size=3").status_code == 422


def test_a_damaged_photo_is_a_warning_and_the_exit_code_stays_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cut.jpg").write_bytes(CAT[: int(len(CAT) * 0.9)])
    assert main(["index", str(photos), "--workspace", str(tmp_path / "index")]) == 0
    said = capsys.readouterr().out
    assert "1 warning" in said
    assert "of the photo could be read" in " ".join(said.split())


def test_an_original_comes_from_where_it_lies_as_long_as_it_is_there(tmp_path: Path) -> None:
    folder, workspace = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(CAT)
    with PhotoIndex(workspace) as index:
        index.add(folder)
    with serving_in(workspace) as serving:
        for path in ("/v1/documents/{}/content", "/images/{}"):
            answer = get(serving, "cat.jpg", path=path)
            assert (answer.status_code, answer.content) == (200, CAT)
        (folder / "cat.jpg").write_bytes(encoded(toy_photo("rocket.jpg"), "JPEG"))
        answer = get(serving, "cat.jpg")
        assert answer.status_code == 410
        assert "is not there any more, or has changed since it was indexed" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text, "where it was is nobody's business"
        for path in ("/images/{}", "/v1/documents/{}/content?original=true"):
            assert get(serving, "cat.jpg", path=path).status_code == 410
        answer = get(serving, "cat.jpg", method="HEAD")
        assert (answer.status_code, answer.content) == (410, b"")
        assert get(serving, "cat.jpg", path="/v1/documents/{}/thumbnail").status_code == 200
