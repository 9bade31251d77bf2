"""A heat map agrees with the score that it explains."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import TOY_DATA, TOY_IMAGES, Server

from crossmodal import PhotoIndex
from crossmodal.client import Client
from crossmodal.errors import ApiError, DataError, QueryError
from crossmodal.images.cropping import Square, shown_part
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.query.heat_maps import GRID, MEASURED, HeatMap, cells, greyed
from crossmodal.records import IMAGE, Record

# A folder with Flickr8k: images/, captions.txt and dev.txt.
FLICKR8K = os.environ.get("CROSSMODAL_TEST_FLICKR8K")
PHOTOS = 100


def first_captions(path: Path) -> dict[str, str]:
    """The first caption of each photo, by the name of its file."""
    captions: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], row["caption"])
    return captions


def share_that_agrees(model: str, photos: list[tuple[bytes, str]], folder: Path) -> float:
    """Of the photos with their captions, how many have a map whose hottest fifth takes most off the score."""
    images, texts = load_image_encoder(model), load_text_encoder(model)
    agree = 0
    with PhotoIndex(folder, model) as index:
        index.add(Record(str(number), IMAGE, content=photo) for number, (photo, _) in enumerate(photos))
        for number, (photo, caption) in enumerate(photos):
            made = index.heat_map(str(number), caption)
            assert made is not None
            hottest = np.argsort(-np.array(made.falls).ravel(), kind="stable")
            pixels = images.preprocessing.model_input(photo)
            fifths = [greyed(pixels, *fifth) for fifth in np.split(hottest, 5)]
            agree += int(np.argmin(images.encode(np.stack(fifths)) @ texts.encode([caption])[0]) == 0)
    return agree / len(photos)


@pytest.mark.parametrize("model", sorted(MEASURED))
def test_greying_out_the_hottest_fifth_takes_most_off_the_score(model: str, tmp_path: Path) -> None:
    captions = first_captions(TOY_DATA / "captions.txt")
    photos = [((TOY_IMAGES / name).read_bytes(), caption) for name, caption in captions.items()]
    # Chance is a fifth; fifteen photos are too few for the share that is promised.
    assert share_that_agrees(model, photos, tmp_path) >= 0.5


@pytest.mark.slow
@pytest.mark.skipif(FLICKR8K is None, reason="CROSSMODAL_TEST_FLICKR8K names no folder with Flickr8k")
@pytest.mark.parametrize("model", sorted(MEASURED))
def test_it_does_on_a_hundred_photos_as_often_as_is_said(model: str, tmp_path: Path) -> None:
    folder = Path(FLICKR8K or "")
    captions = first_captions(folder / "captions.txt")
    names = (folder / "dev.txt").read_text(encoding="utf-8").split()
    chosen = names[:: len(names) // PHOTOS][:PHOTOS]
    photos = [((folder / "images" / name).read_bytes(), captions[name]) for name in chosen]
    share = share_that_agrees(model, photos, tmp_path)
    assert share >= 0.7
    # By float forms and photos near a tie.
    assert share == pytest.approx(MEASURED[model], abs=0.03)


@pytest.fixture(scope="module")
def toy(toy_workspace: Path) -> Iterator[PhotoIndex]:
    with PhotoIndex(toy_workspace) as index:
        yield index


def test_a_map_has_the_cosine_of_the_search_and_shows_where_the_dandelion_is(toy: PhotoIndex) -> None:
    best = toy.search("a dandelion", 1)[0]
    made = toy.heat_map(best.id, "a dandelion")
    assert made is not None
    assert (made.id, made.text) == (best.id, "a dandelion")
    assert made.cosine == pytest.approx(best.cosine, abs=1e-4)
    falls = np.array(made.falls)
    assert falls.shape == (GRID, GRID)
    # Its white head stands in the middle of the picture.
    middle = falls[1:4, 1:4]
    around = (falls.sum() - middle.sum()) / (falls.size - middle.size)
    assert falls.max() == middle.max()
    assert middle.mean() > around + 0.01


def test_the_same_photo_is_hot_elsewhere_for_another_sentence(toy: PhotoIndex) -> None:
    photo = toy.search("a cat", 1)[0].id
    one, other = (toy.heat_map(photo, text) for text in ("a cat", "a blurred background"))
    assert one is not None
    assert other is not None
    assert one.falls != other.falls


def test_all_pixels_are_in_one_part_and_grey_ones_in_those_named() -> None:
    counted = np.zeros((224, 224), int)
    for cell in cells(224):
        counted[cell] += 1
    assert (counted == 1).all()
    black = np.zeros((224, 224, 3), np.uint8)
    assert (greyed(black) == 0).all()
    assert set(np.unique(greyed(black, 0, 24))) == {0, 128}
    assert greyed(black, 0)[0, 0].tolist() == [128] * 3
    assert greyed(black, *range(GRID**2)).min() == 128


@pytest.mark.parametrize(
    ("square", "part"),
    [
        (Square(224, "squash"), (0, 0, 1, 1)),
        (Square(200, "crop"), (0.25, 0, 0.75, 1)),
        (Square(100, "crop", short_side=200), (0.375, 0.25, 0.625, 0.75)),
    ],
)
def test_a_map_says_what_of_the_photo_it_covers(
    square: Square, part: tuple[float, float, float, float]
) -> None:
    assert shown_part(800, 400, square) == pytest.approx(part)


def test_a_model_of_which_nothing_was_measured_has_no_maps(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path, "clip-mini?dim=64") as index:
        index.add([Record("cat", IMAGE, content=(TOY_IMAGES / "cat.jpg").read_bytes())])
        with pytest.raises(QueryError, match=r"no heat maps with the model clip-mini\?dim=64: .* measured"):
            index.heat_map("cat", "a cat")


def test_what_has_no_map_is_refused(toy: PhotoIndex) -> None:
    photo = next(iter(toy)).id
    assert toy.heat_map("nowhere", "a cat") is None
    with pytest.raises(DataError, match="empty"):
        toy.heat_map(photo, " ")
    with pytest.raises(DataError, match="2,000"):
        toy.heat_map(photo, "cat " * 1000)


def test_a_server_gives_the_same_map(toy: PhotoIndex, toy_server: Server) -> None:
    photo = toy.search("a cat", 1)[0].id
    here = toy.heat_map(photo, "a cat")
    assert here is not None
    with Client(toy_server.url) as client:
        there = client.heat_map(photo, "a cat")
        with pytest.raises(ApiError, match="There is no document"):
            client.heat_map("nowhere", "a cat")
    assert isinstance(there, HeatMap)
    np.testing.assert_allclose(there.falls, here.falls, atol=1e-4)
    assert asdict(there).keys() == asdict(here).keys()
    for path in ("heatmap", "heatmap?text=", "heatmap?text=a&text=b", "heatmap?size=3"):
        status, answer = toy_server.request(f"/v1/documents/{photo}/{path}")
        assert status == 422, answer
