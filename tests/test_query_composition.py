"""Composed queries rank by the weighted sum of standardised cosines, and their score is that of the sum."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SHARED_DATA, TOY_IMAGES
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.errors import QueryError
from crossmodal.images import decode_image
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.query.calibration import Calibration, PairStatistics, stored_calibration
from crossmodal.query.composition import EncodedTerm, compose
from crossmodal.records import IMAGE, TEXT, Modality

# Cones as narrow as CLIP's, so that neglecting the kinds of pairs would show.
CLIP_LIKE = Calibration(
    PairStatistics(0.55, 0.09),
    PairStatistics(0.17, 0.05),
    PairStatistics(0.17, 0.05),
    PairStatistics(0.5, 0.11),
    slope=3,
    intercept=-10,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_terms(seed: int, weights: list[float], dimension: int = 16) -> list[EncodedTerm]:
    random = np.random.default_rng(seed)
    kinds: list[Modality] = [IMAGE if flag else TEXT for flag in random.random(len(weights)) < 0.5]
    vectors = unit(random.standard_normal((len(weights), dimension)))
    return [
        EncodedTerm(vector, weight, kind)
        for vector, weight, kind in zip(vectors, weights, kinds, strict=True)
    ]


@given(
    st.integers(0, 1000),
    st.lists(st.floats(0.1, 10) | st.floats(-10, -0.1), min_size=1, max_size=6),
    st.sampled_from([IMAGE, TEXT]),
)
def test_the_cosine_orders_by_the_weighted_sum_of_z(
    seed: int, weights: list[float], target: Modality
) -> None:
    terms = random_terms(seed, [abs(weights[0]), *weights[1:]])
    documents = unit(np.random.default_rng(seed + 1).standard_normal((50, 16)))
    query = compose(terms, target, CLIP_LIKE)
    worth = sum(
        term.weight * CLIP_LIKE.standardised(documents.astype(float) @ term.vector, term.modality, target)
        for term in terms
    )
    found = query.standardised(documents.astype(float) @ query.vector) * query.spread
    # float32 vectors, whose rounding the lengths of the terms (up to 10 / 0.05 each) enlarge.
    np.testing.assert_allclose(found, worth, atol=1e-6 * query.length * len(terms))
    assert np.linalg.norm(query.vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("weight", [0.3, 1, 7])
@pytest.mark.parametrize("calibration", [None, CLIP_LIKE])
def test_a_single_term_keeps_its_vector_and_its_score(weight: float, calibration: Calibration | None) -> None:
    (term,) = random_terms(1, [weight])
    query = compose([term], IMAGE, calibration)
    assert query.vector.tobytes() == term.vector.tobytes()
    cosines = np.linspace(-1, 1, 9)
    if calibration is None:
        assert query.score(cosines) is None
    else:
        plain = calibration.score(calibration.standardised(cosines, term.modality, IMAGE))
        np.testing.assert_allclose(query.score(cosines), plain, rtol=1e-9)


def test_text_and_photo_have_equal_say_although_their_cosines_differ_in_spread() -> None:
    text, photo = np.eye(4, dtype=np.float32)[:2]
    terms = [EncodedTerm(text, 1, TEXT), EncodedTerm(photo, 1, IMAGE)]
    query = compose(terms, IMAGE, CLIP_LIKE)
    # One spread of a text's cosines is 0.05, of a photo's 0.09.
    assert query.vector[0] / query.vector[1] == pytest.approx(0.09 / 0.05)
    assert compose(terms, IMAGE).vector[:2].tolist() == pytest.approx([2**-0.5, 2**-0.5])


def test_the_same_term_twice_is_no_stronger_evidence_and_two_terms_are() -> None:
    dog, beach = random_terms(3, [1.0, 1.0], dimension=512)
    once, twice = compose([dog], dog.modality, CLIP_LIKE), compose([dog, dog], dog.modality, CLIP_LIKE)
    np.testing.assert_allclose(twice.score([0.2, 0.5, 0.8]), once.score([0.2, 0.5, 0.8]), rtol=1e-4)
    centred = Calibration(*[PairStatistics(0.0, 0.04)] * 4, slope=3, intercept=-10)
    both = compose([dog, beach], IMAGE, centred)
    # A document three spreads above the others by each of two terms that have nothing to do with each other.
    other = random_terms(9, [1.0], 512)[0].vector
    document = np.linalg.lstsq(np.stack([dog.vector, beach.vector, other]), [0.12, 0.12, 0.9], rcond=None)[0]
    alone = compose([dog], IMAGE, centred).standardised(document @ dog.vector)
    assert alone == pytest.approx(3, abs=1e-3)
    assert both.standardised(document @ both.vector) == pytest.approx(3 * 2**0.5, rel=0.1)


def test_terms_that_cancel_out_are_named() -> None:
    (dog,) = random_terms(2, [1.0])
    nearly = EncodedTerm(unit(dog.vector + np.float32(1e-7)), -1.0, dog.modality, name="'a dog '")
    with pytest.raises(QueryError, match="term 1 and 'a dog ' cancel out"):
        compose([dog, nearly], IMAGE, CLIP_LIKE)


def test_nothing_to_look_for_is_refused() -> None:
    with pytest.raises(QueryError, match="positive"):
        compose(random_terms(2, [-1.0, -0.5]), IMAGE)


@pytest.fixture(scope="module")
def toy() -> tuple[list[str], np.ndarray]:
    """The names and the vectors of the toy photos."""
    encoder = load_image_encoder("clip-mini")
    paths = sorted(TOY_IMAGES.iterdir())
    squares = [encoder.preprocessing.crop(decode_image(path.read_bytes())) for path in paths]
    return [path.stem for path in paths], encoder.encode(np.stack(squares))


def ranking(toy: tuple[list[str], np.ndarray], *terms: EncodedTerm) -> list[str]:
    names, photos = toy
    query = compose(terms, IMAGE, stored_calibration("clip-mini"))
    return [names[row] for row in np.argsort(-(photos @ query.vector), kind="stable")]


def text(words: str, weight: float = 1.0) -> EncodedTerm:
    return EncodedTerm(load_text_encoder("clip-mini").encode([words])[0], weight, TEXT)


def test_a_photo_is_taken_away_from_a_sentence(toy: tuple[list[str], np.ndarray]) -> None:
    names, photos = toy
    stairs = text("people climb the stairs")
    assert ranking(toy, stairs)[:2] == ["stair-tower", "bricks"]
    bricks = EncodedTerm(photos[names.index("bricks")], -0.5, IMAGE)
    assert ranking(toy, stairs, bricks)[0] == "stair-tower"
    assert ranking(toy, stairs, bricks).index("bricks") > 1


def test_a_sentence_is_taken_away_from_a_sentence(toy: tuple[list[str], np.ndarray]) -> None:
    assert "cat" in ranking(toy, text("a furry animal"))[:4]
    assert ranking(toy, text("a furry animal"), text("a cat", -1)).index("cat") > 4


def test_a_photo_and_a_sentence_find_what_fits_both(toy: tuple[list[str], np.ndarray]) -> None:
    names, photos = toy
    raccoon = EncodedTerm(photos[names.index("raccoon")], 0.5, IMAGE)
    assert ranking(toy, raccoon)[0] == "raccoon"
    assert set(ranking(toy, raccoon, text("an animal"))[:2]) == {"raccoon", "cat"}


FLICKR = SHARED_DATA / "clip-vit-b32-embeddings" / "flickr8k-94-images-470-captions.npz"


@pytest.mark.skipif(not FLICKR.is_file(), reason="the development data is not there")
def test_the_sum_of_several_terms_varies_over_unrelated_photos_as_estimated() -> None:
    stored = np.load(FLICKR)
    _, rows, owners = np.unique(stored["names"], return_index=True, return_inverse=True)
    photos, captions = unit(stored["image"][rows]), unit(stored["text"])
    calibration = Calibration.fit(photos, captions, owners.tolist())
    random = np.random.default_rng(5)
    spreads, means = [], []
    for _ in range(100):
        chosen = random.choice(len(captions), 3, replace=False)
        terms = [
            EncodedTerm(captions[chosen[0]], 1.0, TEXT),
            EncodedTerm(captions[chosen[1]], -0.5, TEXT),
            EncodedTerm(photos[owners[chosen[2]]], 0.5, IMAGE),
        ]
        unrelated = np.delete(photos, owners[chosen], axis=0)
        query = compose(terms, IMAGE, calibration)
        found = query.standardised(unrelated.astype(float) @ query.vector)
        spreads.append(found.std())
        means.append(found.mean())
    # It takes photos to vary as much in all directions, which is off by a sixth here.
    assert np.mean(spreads) == pytest.approx(1, abs=0.2)
    assert np.mean(means) == pytest.approx(0, abs=0.1)


def test_the_score_of_a_sum_allows_for_the_hubness_that_is_taken_off_once() -> None:
    text_image = PairStatistics(0.1, 0.05, hubness=0.2)
    others = PairStatistics(0.0, 0.1)
    calibration = Calibration(others, others, text_image, others, slope=3, intercept=-10)
    dog, beach = np.eye(8, dtype=np.float32)[:2]
    both = compose([EncodedTerm(dog, 1, TEXT), EncodedTerm(beach, 1, TEXT)], IMAGE, calibration)
    assert both.corrected
    # An unrelated photo: its cosine with each term, and its hubness, are what they are in the mean.
    cosine = 0.1 * 2 / 2**0.5
    assert both.standardised(cosine - 0.2) == pytest.approx(0, abs=1e-6)
    # By z of one term alone: the value is a spread above the mean.
    alone = compose([EncodedTerm(dog, 1, TEXT)], IMAGE, calibration)
    assert alone.standardised(0.1 - 0.2 + 0.05) == pytest.approx(1)
    assert calibration.standardised(0.1 - 0.2 + 0.05, TEXT, IMAGE) == pytest.approx(1)
