"""The modality gap by hand, on vectors made for it, on genuine CLIP vectors, and from the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA, TOY_IMAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import toy_photo
from PIL import Image

import app
from crossmodal.cli.arguments import read_settings
from crossmodal.cli.present.evaluation import print_gap
from crossmodal.cli.present.plots import write_gap
from crossmodal.engine.opening import chosen_model
from crossmodal.engine.photo_index import PhotoIndex
from crossmodal.errors import DataSetError, SettingsError
from crossmodal.evaluation import EncodedSet, EncodedSide
from crossmodal.evaluation.gap import (
    GapMeasurement,
    PhotoHalves,
    geometry,
    measure_gap,
    mixed_results,
    principal_plane,
    same_modality,
)
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.models.adaptation import Centering
from crossmodal.records import IMAGE, TEXT, Failure, Record
from crossmodal.settings import Settings

CLIP_VECTORS = SHARED_DATA / "clip-vit-b32-embeddings" / "flickr8k-94-images-470-captions.npz"


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def side(vectors: np.ndarray, photos: Sequence[str], prefix: str = "") -> EncodedSide:
    ids = tuple(f"{prefix}{number:04}" for number in range(len(photos)))
    return EncodedSide(ids, tuple(photos), unit(vectors), 0.0)


def encoded_set(photos: np.ndarray, captions: np.ndarray, owners: Sequence[int]) -> EncodedSet:
    """Photos ``p0000``, ``p0001``, ...; the caption in a row belongs to the photo number ``owners[row]``."""
    names = [f"p{number:04}" for number in range(len(photos))]
    images = replace(side(photos, names), ids=tuple(names))
    return EncodedSet("model", images, side(captions, [names[owner] for owner in owners], "c"), ())


def two_cones(pairs: int, seed: int = 0) -> EncodedSet:
    """Photos around one axis and captions around another, two a photo and nearer to it than to others."""
    random = np.random.default_rng(seed)
    meaning = random.standard_normal((pairs, 16)) / 4
    photos = meaning + np.eye(16)[0] * 2
    owners = np.repeat(np.arange(pairs), 2)
    captions = meaning[owners] + random.standard_normal((2 * pairs, 16)) / 40 + np.eye(16)[1] * 2
    return encoded_set(photos, captions, owners.tolist())


def test_geometry_is_what_its_definitions_say() -> None:
    encoded = two_cones(7)
    found = geometry(encoded.photos, encoded.captions)
    image, text = encoded.photos.vectors.astype(np.float64), encoded.captions.vectors.astype(np.float64)
    cosines = image @ text.T
    own = np.array(encoded.photos.photos)[:, None] == np.array(encoded.captions.photos)[None, :]
    expected = {
        "gap": np.sqrt(np.sum((image.mean(0) - text.mean(0)) ** 2)),
        "matching": cosines[own].mean(),
        "others": cosines[~own].mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    for name, rows in (("image", image), ("text", text)):
        different = ~np.eye(len(rows), dtype=bool)
        assert found["cone"][name] == pytest.approx((rows @ rows.T)[different].mean())


def test_opposite_modalities_lie_two_apart() -> None:
    axis = np.eye(3)[:1]
    found = geometry(side(np.repeat(axis, 2, 0), "ab"), side(np.repeat(-axis, 2, 0), "ab"))
    assert found == {"gap": 2, "cone": {"image": 1, "text": 1}, "matching": -1, "others": -1}


def ranked_by_hand(scores: np.ndarray, row: int) -> list[int]:
    """Other rows by score, equal ones by position."""
    return sorted(
        (other for other in range(len(scores)) if other != row), key=lambda other: (-scores[other], other)
    )


@given(
    owners=st.lists(st.integers(0, 5), min_size=3, max_size=20),
    seed=st.integers(0, 1000),
    equal=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_neighbours_are_those_found_one_by_one(owners: list[int], seed: int, equal: bool) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers in two dimensions make many equal scores.
    made = random.integers(1, 3, (36, 2)).astype(float) if equal else random.standard_normal((36, 4))
    encoded = encoded_set(made[:6], made[6 : 6 + len(owners)], owners)
    captions, photos = encoded.captions, encoded.photos
    vectors = np.concatenate([photos.vectors, captions.vectors]).astype(np.float64)
    scores = np.round(vectors @ vectors.T, 10)
    belongs = [*photos.photos, *captions.photos]

    firsts = []
    for row, owner in enumerate(captions.photos):
        order = ranked_by_hand(scores[6:, 6:][row], row)
        ranks = [rank for rank, other in enumerate(order, 1) if captions.photos[other] == owner]
        firsts += ranks[:1]
    found = same_modality(captions)
    assert (found["queries"], found["gallery"]) == (len(firsts), len(owners) - 1)
    if firsts:
        assert found["mrr"] == pytest.approx(np.mean([1 / rank for rank in firsts]))
        assert found["hit@1"] == pytest.approx(np.mean([rank == 1 for rank in firsts]))
    else:
        assert found["mrr"] is None

    mixed = mixed_results(photos, captions)
    for kind, rows in (("image", range(6)), ("text", range(6, len(belongs)))):
        shares, hits = [], []
        for row in rows:
            top = ranked_by_hand(scores[row], row)[:10]
            shares.append(np.mean([(other < 6) == (row < 6) for other in top]))
            counterparts = [
                o for o in range(len(belongs)) if (o < 6) != (row < 6) and belongs[o] == belongs[row]
            ]
            if counterparts:
                hits.append(bool(set(top) & set(counterparts)))
        assert mixed[kind]["own_modality@10"] == pytest.approx(np.mean(shares))
        assert mixed[kind]["hit@10"] == pytest.approx(np.mean(hits))
        assert mixed[kind]["queries"] == len(hits)
        assert mixed[kind]["own_modality_in_gallery"] == pytest.approx((len(rows) - 1) / (len(belongs) - 1))


def test_centring_closes_the_gap_between_two_cones_and_mixes_their_results() -> None:
    encoded = two_cones(60)
    fitted = set(encoded.photos.ids[::2])
    measured = measure_gap(encoded, fitted)
    assert set(measured.scored.photos.ids) == set(encoded.photos.ids) - fitted
    rows = [row for row, photo in enumerate(encoded.captions.photos) if photo in fitted]
    np.testing.assert_allclose(measured.text, encoded.captions.vectors[rows].mean(axis=0), atol=1e-6)
    held_back = measured.scored.photos.vectors - measured.image
    np.testing.assert_allclose(measured.centred.photos.vectors, unit(held_back), atol=1e-6)

    before, after = measured.before, measured.after
    assert before["gap"] > 1 > 0.3 > after["gap"]
    assert before["cone"]["image"] > 0.6 > 0.1 > abs(after["cone"]["image"])
    assert before["mixed"]["text"] == {
        **before["mixed"]["text"],
        "own_modality@10": 1,
        "hit@10": 0,
        "queries": 60,
    }
    assert after["mixed"]["text"]["own_modality@10"] < 0.8
    assert after["mixed"]["text"]["hit@10"] == 1
    assert after["text2image"]["hit@1"] == 1 > before["text2image"]["hit@1"]


def genuine_clip() -> EncodedSet:
    if not CLIP_VECTORS.is_file():
        pytest.skip(f"{CLIP_VECTORS} is not there")
    with np.load(CLIP_VECTORS) as data:
        owners = [str(name) for name in data["names"]]
        photos = list(dict.fromkeys(owners))
        images = unit(data["image"][[owners.index(name) for name in photos]].astype(np.float64))
        captions = side(data["text"].astype(np.float64), owners, "c")
    return EncodedSet("clip", EncodedSide(tuple(photos), tuple(photos), images, 0.0), captions, ())


def test_the_gap_of_genuine_clip_vectors() -> None:
    encoded = genuine_clip()
    measured = measure_gap(encoded, set(encoded.photos.ids[::2]))
    before, after = measured.before, measured.after
    # Liang et al. report 0.82 between the centroids of this model's photos and captions of COCO.
    assert before["gap"] == pytest.approx(0.85, abs=0.05)
    assert after["gap"] < 0.3
    assert before["mixed"]["text"]["own_modality@10"] == 1
    assert before["mixed"]["text"]["hit@10"] == 0
    assert after["mixed"]["text"]["hit@10"] > 0.25
    assert after["mixed"]["image"]["hit@10"] > 0.95
    for direction in ("text2image", "image2text"):
        assert after[direction]["hit@1"] > before[direction]["hit@1"] - 0.05
    assert after["text2text"]["mrr"] > before["text2text"]["mrr"]


def test_halves_go_by_the_bytes_of_a_photo() -> None:
    def records(folder: str) -> list[Record | Failure]:
        photos = [
            Record(f"{folder}-{number}", IMAGE, content=b"photo %d" % (number % 50)) for number in range(100)
        ]
        return [*photos, Failure("a", "b"), Record("c", TEXT, text="a caption", photo_id=f"{folder}-1")]

    here, there = PhotoHalves(), PhotoHalves()
    assert list(here.watch(records("here"))) == records("here")
    list(there.watch(records("there")))
    assert {id.removeprefix("here-") for id in here.fitted} == {
        id.removeprefix("there-") for id in there.fitted
    }
    assert all(
        (f"here-{number}" in here.fitted) == (f"here-{number + 50}" in here.fitted) for number in range(50)
    )
    assert 30 < len(here.fitted) < 70


def test_too_few_photos_are_an_error() -> None:
    encoded = two_cones(4)
    with pytest.raises(DataSetError, match="of 4 photos one half has 1 with captions"):
        measure_gap(encoded, set(encoded.photos.ids[:3]))


def test_the_plane_is_that_of_the_largest_variance() -> None:
    random = np.random.default_rng(1)
    rows = (random.standard_normal((200, 5)) * [0.1, 3, 0.2, 1, 0.1]).astype(np.float32)
    places, explained = principal_plane(rows)
    values, vectors = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))
    assert explained == pytest.approx(values[::-1][:2] / values.sum())
    expected = (rows - rows.mean(axis=0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-4)
    # The component's largest entry is positive, so the second column of the data grows to the right.
    assert np.corrcoef(places[:, 0], rows[:, 1])[0, 1] > 0.99


def result_of(measured: GapMeasurement) -> dict[str, object]:
    counts = {"photos": 30, "captions": 60}
    return {
        "model": "$vse$", "data_set": "here", "split": "dev", "means_of": counts, "scored": counts,
        "before": measured.before, "after": measured.after,
    }  # fmt: skip


def test_table_and_picture_tell_before_and_after(tmp_path: Path) -> None:
    measured = measure_gap(two_cones(60), {f"p{number:04}" for number in range(0, 60, 2)})
    written = StringIO()
    print_gap(result_of(measured), file=written)
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "distance of the centroids" in line)
    assert row.split()[-2:] == [f"{measured.before['gap']:.3f}", f"{measured.after['gap']:.3f}"]
    row = next(line for line in lines if "captions among the first 10" in line)
    assert row.split()[-2:] == ["100.0%", f"{100 * measured.after['mixed']['text']['own_modality@10']:.1f}%"]

    write_gap(result_of(measured), measured, tmp_path / "gap.png")
    with Image.open(tmp_path / "gap.png") as picture:
        assert picture.width > 1000
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)):
        assert np.count_nonzero(np.abs(colours - colour).sum(axis=1) < 12) > 200


def test_the_means_that_gap_writes_are_taken_by_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-t", "evaluate", "--gap", "-d", "toy-data", "-m", "vse", "--dim", "64", "--json"]
    assert app.main([*command, "--output", str(tmp_path)]) == 0
    output = capsys.readouterr()
    told = json.loads(output.out)
    assert (told["model"], told["dimension"]) == ("vse?dim=64", 64)
    made_of = told["means_of"]
    assert made_of["photos"] + told["scored"]["photos"] == len(list(TOY_IMAGES.iterdir()))
    with Image.open(tmp_path / "modality-gap.png") as picture:
        assert picture.format == "PNG"
    means = Centering.load(tmp_path / "centering.safetensors")
    assert (means.model.name, means.image.shape, means.text.shape) == ("vse?dim=64", (64,), (64,))
    assert means.data == f"{made_of['photos']} photos and {made_of['captions']} captions of toy-data"

    # What it says to type reads back as settings with that file.
    advised = next(line for line in output.err.splitlines() if "crossmodal index" in line)
    settings = read_settings(shlex.split(advised)[1:], {})
    assert settings.centering == tmp_path / "centering.safetensors"
    with PhotoIndex(tmp_path / "workspace", chosen_model(settings)) as index:
        index.add("toy-data")
    with PhotoIndex(tmp_path / "workspace") as index:
        (best,) = index.search_text("a rocket", top_k=1)
    query = unit(load_text_encoder("vse?dim=64").encode(["a rocket"]) - means.text)[0]
    assert best.cosine == pytest.approx(float(query @ centred_photo(str(best.uri), means)), abs=1e-5)


def centred_photo(path: str, means: Centering) -> np.ndarray:
    encoder = load_image_encoder("vse?dim=64", threads=1)
    square = encoder.preprocessing.crop(np.asarray(toy_photo(Path(path).name)))
    return unit(encoder.encode(square[None]) - means.image)[0]


def test_gap_refuses_what_it_cannot_mean() -> None:
    from crossmodal.cli.evaluate import run

    with pytest.raises(SettingsError, match="leave out the centring file"):
        run(Settings(task="evaluate", gap=True, centering=Path("/c.safetensors")))
