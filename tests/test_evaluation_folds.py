"""Several galleries in one result: each fold for itself, their mean, and intervals of the mean."""

from __future__ import annotations

import numpy as np
import pytest

from crossmodal.errors import DataSetError
from crossmodal.evaluation import EncodedSet, EncodedSide, Retrieval, Subset, evaluate_encoded
from crossmodal.evaluation.retrieval import report

# The captions of photo p lie in its own direction, except that those of b lie in a's.
PHOTOS = ("a", "b", "c", "d")
DIRECTION_OF = {"a": 0, "b": 0, "c": 2, "d": 3}


def encoded() -> EncodedSet:
    axes = np.eye(4, dtype=np.float32)
    photos = EncodedSide(PHOTOS, PHOTOS, axes, 0.0)
    owners = tuple(photo for photo in PHOTOS for _ in range(2))
    ids = tuple(f"{photo}-{number}" for photo in PHOTOS for number in range(2))
    vectors = np.stack([axes[DIRECTION_OF[photo]] for photo in owners])
    return EncodedSet("made up", photos, EncodedSide(ids, owners, vectors, 0.0), ())


def subset(*photos: str) -> Subset:
    ids = frozenset([*photos, *(f"{photo}-{number}" for photo in photos for number in range(2))])
    return Subset(ids, ids)


def test_the_mean_of_the_folds_and_each_of_them() -> None:
    result = evaluate_encoded(encoded(), subsets=[subset("a", "b"), subset("c", "d")])
    # Where a and b are searched, b's captions find a first and b second.
    folds = result["text2image"]["folds"]
    assert [fold["mrr"] for fold in folds] == [0.75, 1.0]
    assert [fold["hit@1"] for fold in folds] == [0.5, 1.0]
    assert result["text2image"]["mrr"] == 0.875
    assert result["text2image"]["mean_rank"] == 1.25
    assert result["gallery"] == {"text2image": 2, "image2text": 4}
    assert result["queries"] == {"text2image": 8, "image2text": 4}


def test_the_interval_of_the_mean_is_narrower_than_one_folds() -> None:
    # Two folds alike: 40 photos each, half of them found.
    ranks = tuple(np.array([1 + 9 * (number % 2)], np.int64) for number in range(40))
    fold = {"text2image": Retrieval(40, ranks, tuple(str(number) for number in range(40)))}
    one, four = report([fold])["text2image"], report([fold] * 4)["text2image"]
    assert one["hit@1"] == four["hit@1"] == 0.5
    widths = [result["intervals"]["hit@1"][1] - result["intervals"]["hit@1"][0] for result in (one, four)]
    # Four independent folds halve the standard error.
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.2)
    assert "folds" not in one


def test_a_gallery_smaller_than_what_asks() -> None:
    everything = subset(*PHOTOS)
    only_first = Subset(everything.gallery & {"a", "b", "a-0", "b-0"}, everything.queries)
    result = evaluate_encoded(encoded(), "text2image", [only_first])
    # The captions of c and d have nothing to find.
    assert result["queries"] == {"text2image": 4}
    assert result["gallery"] == {"text2image": 2}
    assert result["text2image"]["hit@1"] == 0.5


def test_what_a_direction_searches_and_asks() -> None:
    chosen = Subset(frozenset(["a", "b", "a-0"]), frozenset(["a", "a-0", "b-0"]))
    assert chosen.searched("text2image", PHOTOS) == {"a", "b"}
    assert chosen.asking("text2image", PHOTOS) == {"a-0", "b-0"}
    assert chosen.searched("image2text", PHOTOS) == {"a-0"}
    assert chosen.asking("image2text", PHOTOS) == {"a"}
    assert chosen.searched("both", PHOTOS) == chosen.gallery
    assert chosen.asking("both", PHOTOS) == chosen.queries


def test_a_direction_without_an_answerable_query_is_a_sentence() -> None:
    with pytest.raises(DataSetError, match=r"nothing to evaluate image2text with.* among the 7 that"):
        report([{"image2text": Retrieval(7, (), ())}])
