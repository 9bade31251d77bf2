"""Results that repeat a better one are put under it: photos saved again, and captions of the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import TOY_IMAGES, run_app
from hypothesis import given
from hypothesis import strategies as st
from photos import encoded, shared_photos, toy_photo
from PIL import Image, ImageEnhance, ImageOps

from crossmodal import PhotoIndex
from crossmodal.images import decode_image
from crossmodal.images.decoding import jpeg_of
from crossmodal.images.likeness import likeness, outline_of
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.query.bursts import LEAST_BURST_COSINE, Shot, shot_of
from crossmodal.query.fusion import LEAST_LIKENESS, THRESHOLDS, Group, group, normalised_text
from crossmodal.records import IMAGE, TEXT, Modality, Record

NAMES = sorted(path.name for path in TOY_IMAGES.iterdir())


def vectors_of(model: str, files: list[bytes]) -> np.ndarray:
    encoder = load_image_encoder(model)
    return encoder.encode(np.stack([encoder.preprocessing.crop(decode_image(file)) for file in files]))


def same_picture(ids: list[str], files: list[bytes]) -> Callable[[str, str], bool]:
    """Whether two of ``files`` are one picture, asked with their ``ids``, as an index says of thumbnails."""
    outlines = {
        id: outline_of(jpeg_of(Image.fromarray(decode_image(file))))
        for id, file in zip(ids, files, strict=True)
    }
    return lambda one, other: likeness(outlines[one], outlines[other]) >= LEAST_LIKENESS


def saved_again(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    edge = (width // 50, height // 50, width - width // 50, height - height // 50)
    return {
        "compressed": encoded(image, "JPEG", quality=60),
        "smaller": encoded(image.resize((width // 2, height // 2)), "JPEG", quality=90),
        "webp": encoded(image, "WEBP", quality=70),
        "cropped": encoded(image.crop(edge), "PNG"),
    }


@pytest.mark.parametrize("model", ["clip-mini", "vse"])
def test_photos_saved_again_join_their_original_and_no_other_photo_does(model: str) -> None:
    ids, files = [], []
    for name in NAMES[:6]:
        image = toy_photo(name)
        for kind, file in {"original": encoded(image, "PNG"), **saved_again(image)}.items():
            ids.append(f"{name} {kind}")
            files.append(file)
    same = same_picture(ids, files)
    groups = group(ids, vectors_of(model, files), [IMAGE] * len(ids), [None] * len(ids), same)
    assert [found.id for found in groups] == [f"{name} original" for name in NAMES[:6]]
    for found in groups:
        name = found.id.split()[0]
        assert found.duplicates == tuple(
            f"{name} {kind}" for kind in ("compressed", "smaller", "webp", "cropped")
        )


def test_all_toy_photos_and_moments_of_one_race_stay_apart() -> None:
    files = [(TOY_IMAGES / name).read_bytes() for name in NAMES]
    race = [path for path in shared_photos("flickr8k", 100_000) if path.name.startswith("24134")]
    files += [path.read_bytes() for path in race]
    assert len(race) >= 4
    vectors = vectors_of("clip-mini", files)
    ids = [str(number) for number in range(len(files))]
    same = same_picture(ids, files)
    assert group(ids, vectors, [IMAGE] * len(ids), [None] * len(ids), same) == [Group(id) for id in ids]


def test_pictures_are_alike_whatever_their_size_and_light_and_two_of_one_scene_are_not() -> None:
    photo = toy_photo("cat.jpg")
    width, height = photo.size
    shifted = Image.new("RGB", photo.size)
    shifted.paste(photo, (width // 4, height // 6))

    def outline(image: Image.Image) -> np.ndarray:
        return outline_of(jpeg_of(image.convert("RGB")))

    original = outline(photo)
    margins = (width // 20, height // 20, width - width // 20, height - height // 20)
    for same in (
        photo.resize((width // 4, height // 4)),
        photo.convert("L"),
        ImageEnhance.Brightness(photo).enhance(1.2),
        photo.crop(margins),
    ):
        assert likeness(original, outline(same)) >= LEAST_LIKENESS
        assert likeness(outline(same), original) == pytest.approx(likeness(original, outline(same)))
    for other in (shifted, ImageOps.mirror(photo), ImageOps.invert(photo), toy_photo("rocket.jpg")):
        assert likeness(original, outline(other)) < LEAST_LIKENESS
    white, black = (Image.new("RGB", (300, 200), colour) for colour in ("white", "black"))
    assert likeness(outline(white), outline(black)) == pytest.approx(1)
    assert likeness(outline(white), original) < 0.5


def test_an_index_lists_its_duplicates_in_groups(tmp_path: Path) -> None:
    cat, rocket = toy_photo("cat.jpg"), toy_photo("rocket.jpg")
    files = {
        "cat.png": encoded(cat, "PNG"),
        "cat-again.png": encoded(cat, "PNG"),
        "coffee.png": encoded(toy_photo("coffee.jpg"), "PNG"),
        "rocket.png": encoded(rocket, "PNG"),
        **{f"cat-{kind}": file for kind, file in saved_again(cat).items()},
        "rocket-small": encoded(rocket.resize((rocket.width // 2, rocket.height // 2)), "PNG"),
    }
    # More copies than neighbours are looked for at first.
    files |= {f"copy-{number}.png": files["cat.png"] for number in range(12)}
    with PhotoIndex(tmp_path / "workspace") as index:
        index.add([Record(name, IMAGE, uri=f"/album/{name}", content=file) for name, file in files.items()])
        cats, rockets = index.duplicates()
        assert {photo.id for photo in cats.photos} == {name for name in files if "c" in name} - {
            "coffee.png",
            "rocket.png",
            "rocket-small",
        }
        assert {photo.path for photo in rockets.photos} == {"/album/rocket.png", "/album/rocket-small"}
        assert cats.photos[0].cosine == 1
        cosines = [photo.cosine for photo in cats.photos]
        assert cosines == sorted(cosines, reverse=True)
    shown = run_app("duplicates", "--workspace", tmp_path / "workspace")
    assert shown.stdout.endswith("2 groups of 20 photos, of which 18 repeat another.\n")
    paths = run_app("duplicates", "--workspace", tmp_path / "workspace", "--print", "paths").stdout
    assert [part.splitlines() for part in paths.removesuffix("\n\n").split("\n\n")] == [
        [photo.path for photo in group.photos] for group in (cats, rockets)
    ]
    listed = json.loads(run_app("duplicates", "--workspace", tmp_path / "workspace", "--json").stdout)
    assert [[photo["id"] for photo in group["photos"]] for group in listed["groups"]] == [
        [photo.id for photo in group.photos] for group in (cats, rockets)
    ]


def test_photos_of_one_burst_are_grouped_and_copies_are_something_else(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    cat = toy_photo("cat.jpg")
    width, height = cat.size

    def taken(name: str, image: Image.Image, moment: str, camera: str = "Canon EOS 5D") -> None:
        exif = Image.Exif()
        exif[0x0110] = camera
        exif.get_ifd(0x8769)[0x9003] = f"2019:07:04 {moment}"
        image.save(photos / name, exif=exif)

    def turned(degrees: int) -> Image.Image:
        inner = (width // 6, height // 6, width - width // 6, height - height // 6)
        return cat.rotate(degrees).crop(inner)

    # All of the same cat, and none a copy of another.
    for number, degrees in enumerate((0, 15, -15, 30)):
        taken(f"burst-{number}.jpg", turned(degrees), f"12:00:0{number}")
    taken("rocket.jpg", toy_photo("rocket.jpg"), "12:00:01")
    taken("later.jpg", ImageOps.mirror(turned(0)), "12:01:00")
    taken("telephone.jpg", ImageOps.mirror(turned(20)), "12:00:02", "iPhone 8")
    with PhotoIndex(tmp_path / "index", model="clip-mini") as index:
        assert index.add(photos).added == 7
        names = {match.id: match.file for match in index.search("a cat", top_k=10)}
        groups = [
            sorted(str(names[id]) for id in (match.id, *(match.duplicates or ())))
            for match in index.search("a cat", top_k=10, group_duplicates=True)
        ]
        assert sorted(groups) == [
            [f"burst-{number}.jpg" for number in range(4)],
            ["later.jpg"],
            ["rocket.jpg"],
            ["telephone.jpg"],
        ]
        assert index.duplicates() == []


@pytest.mark.parametrize(
    ("tags", "shot"),
    [
        ({"taken": "2019-07-04T12:00:01+02:00"}, datetime(2019, 7, 4, 12, 0, 1)),
        ({"taken": "2019-07-04T12:00:01"}, datetime(2019, 7, 4, 12, 0, 1)),
        ({"taken": "2019-07-04"}, None),
        ({"taken": "in the summer of 2019"}, None),
        ({"taken": "2019-07-04T12:00:01", "taken_from": "file time"}, None),
        ({"taken": "2019-07-04T12:00:01", "camera": None}, None),
        ({"taken": 2019}, None),
    ],
)
def test_a_burst_needs_a_camera_and_its_clock(tags: dict[str, object], shot: datetime | None) -> None:
    assert shot_of({"camera": "Canon", **tags}) == (shot and Shot("Canon", shot))


def test_all_of_a_burst_is_near_the_one_that_stands_for_it_in_time_and_looks() -> None:
    def at(cosine: float) -> list[float]:
        return [cosine, float(np.sqrt(1 - cosine**2))]

    shots = [Shot("Canon", datetime(2019, 7, 4, 12, 0, second)) for second in (10, 5, 15, 16, 11)]
    vectors = np.array([at(1), at(0.8), at(0.8), at(0.8), at(LEAST_BURST_COSINE - 0.1)], np.float32)
    groups = group(list("abcde"), vectors, [IMAGE] * 5, [None] * 5, lambda one, other: False, shots)
    # d is 6 seconds behind a and leads a group, which e joins.
    assert groups == [Group("a", ("b", "c")), Group("d", ("e",))]


def test_a_video_is_one_group_and_joins_no_photo() -> None:
    shot = Shot("Canon", datetime(2019, 7, 4, 12, 0, 0))
    vectors = np.tile(np.array([1, 0], np.float32), (5, 1))
    wholes = [None, "video", None, "video", "other"]
    groups = group(list("abcde"), vectors, [IMAGE] * 5, [None] * 5, shots=[shot] * 5, wholes=wholes)
    assert groups == [Group("a", ("c",)), Group("b", ("d",)), Group("e")]


def test_captions_of_the_same_words_join_and_those_that_say_more_do_not() -> None:
    texts = [
        "A dog runs on the beach .",
        "a dog runs on the beach",
        "Two children play in the snow .",
        "A DOG, runs: on the beach!",
        "Two children play football in the snow .",
    ]
    vectors = load_text_encoder("clip-mini").encode(texts)
    groups = group(list("abcde"), vectors, [TEXT] * 5, texts)
    assert groups == [Group("a", ("b", "d")), Group("c"), Group("e")]


def test_equal_words_join_even_where_vectors_differ_and_kinds_never_mix() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 1, 2]]
    kinds: list[Modality] = [TEXT, TEXT, IMAGE, IMAGE, IMAGE]
    groups = group(list("abcde"), vectors, kinds, ["A dog .", "a dog", "A dog .", None, None])
    assert groups == [Group("a", ("b",)), Group("c"), Group("d"), Group("e")]


def test_captions_without_words_are_not_the_same() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert group(list("abc"), vectors, [TEXT] * 3, ["!!!", "...", ""]) == [Group("a"), Group("b"), Group("c")]


def test_the_threshold_is_included_and_a_chain_is_not_followed() -> None:
    def at(cosine: float) -> list[float]:
        angle = np.arccos(cosine)
        return [float(np.cos(angle)), float(np.sin(angle))]

    near = np.arccos(THRESHOLDS[IMAGE])
    vectors = np.array(
        [at(1), at(np.cos(near * 0.9)), at(np.cos(near * 1.8)), at(np.cos(near * 1.1))], np.float32
    )
    # The second and the fourth are near to both the first and the third; each joins the first that it can.
    assert group(list("abcd"), vectors, [IMAGE] * 4, [None] * 4) == [Group("a", ("b",)), Group("c", ("d",))]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 30))
def test_every_result_is_in_one_group_in_order_and_fewer_begin_the_same(
    seed: int, count: int, fewer: int
) -> None:
    random = np.random.default_rng(seed)
    # Few directions, so that there are many duplicates.
    vectors = np.eye(4, dtype=np.float32)[random.integers(0, 4, count)]
    kinds: list[Modality] = [IMAGE if flag else TEXT for flag in random.random(count) < 0.5]
    texts = [None if kind == IMAGE else str(random.integers(0, 6)) for kind in kinds]
    ids = [f"{number:03}" for number in range(count)]
    groups = group(ids, vectors, kinds, texts)
    assert sorted(id for found in groups for id in (found.id, *found.duplicates)) == ids
    assert [found.id for found in groups] == sorted(found.id for found in groups)
    assert all(list(found.duplicates) == sorted(found.duplicates) for found in groups)
    assert all(found.duplicates[0] > found.id for found in groups if found.duplicates)
    part = min(fewer, count)
    beginning = group(ids[:part], vectors[:part], kinds[:part], texts[:part])
    assert beginning == [
        Group(found.id, tuple(id for id in found.duplicates if id < f"{part:03}"))
        for found in groups
        if found.id < f"{part:03}"
    ]


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 ids need as many of everything else, not 1 vectors"):
        group(["a", "b"], np.eye(1, dtype=np.float32), [IMAGE, IMAGE], [None, None])


@pytest.mark.parametrize(
    ("text", "words"),
    [("A dog , running !", "a dog running"), ("ＣＡＦÉ  x_y", "café x y"), ("…", ""), ("Straße", "strasse")],
)
def test_words_of_a_text(text: str, words: str) -> None:
    assert normalised_text(text) == words
