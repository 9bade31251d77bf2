"""Whether photos of classes find their class: on toy photos whose sentences are given here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import TOY_IMAGES

from crossmodal.errors import DataError
from crossmodal.evaluation.zero_shot import zero_shot
from crossmodal.records import Failure, Record

# What vse knows: two photos of one class, and one each of two others.
CLASSES = {"cat": "a cat", "stair-tower": "people climb stairs", "cameraman": "a man with a camera"}


def named(classes: dict[str, str]) -> Iterator[Record | Failure]:
    yield Failure("list.csv, line 3", "The file gone.jpg is not there.")
    for name, sentence in classes.items():
        yield Record(name, "image", content=(TOY_IMAGES / f"{name}.jpg").read_bytes())
        yield Record(f"{name}-0", "text", text=sentence, photo_id=name)


def test_the_share_is_that_of_photos_whose_first_sentence_is_their_own() -> None:
    found = zero_shot("vse", named(CLASSES))
    assert (found.photos, found.sentences, found.cosine) == (3, 3, 1.0)
    wrong = zero_shot("vse", named({**CLASSES, "cat": CLASSES["cameraman"], "cameraman": CLASSES["cat"]}))
    assert wrong.cosine == pytest.approx(1 / 3)
    assert wrong.ranked == pytest.approx(1 / 3)


def test_a_sentence_of_several_photos_counts_once() -> None:
    found = zero_shot("vse", named({**CLASSES, "bricks": CLASSES["stair-tower"]}))
    assert (found.photos, found.sentences) == (4, 3)


def test_photos_without_sentences_are_nothing_to_measure() -> None:
    with pytest.raises(DataError, match="no photo has a caption"):
        zero_shot("vse", [record for record in named(CLASSES) if isinstance(record, Failure)])
