"""What each protocol searches and asks, and what it says of data that is not what it needs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from crossmodal.errors import DataSetError, SettingsError
from crossmodal.evaluation.protocols import (
    ORIGINAL,
    PROTOCOLS,
    WHOLE,
    Listing,
    choose,
    list_records,
    shared_captions,
)
from crossmodal.records import Failure, Record
from crossmodal.settings import PROTOCOLS as OFFERED

# Six photos in the order in which the data set has them, three captions each.
PHOTOS = ("f", "a", "e", "b", "d", "c")
LISTING = Listing(
    {photo: f"{photo}.jpg" for photo in PHOTOS},
    {photo: tuple(f"{photo}-{n}" for n in range(3)) for photo in PHOTOS},
)
TWO_EACH = replace(PROTOCOLS["coco-5k"], photos=6, captions=2)
THREE_FOLDS = replace(PROTOCOLS["coco-1k"], photos=6, captions=2, folds=3)


def test_the_command_line_offers_every_protocol() -> None:
    assert tuple(PROTOCOLS) == OFFERED


def test_the_published_sizes() -> None:
    sizes = {name: (one.photos, one.captions, one.folds) for name, one in PROTOCOLS.items()}
    assert sizes["flickr8k-1k"] == sizes["flickr30k-1k"] == (1000, 5, 1)
    assert sizes["coco-5k"] == (5000, 5, 1)
    assert sizes["coco-1k"] == (5000, 5, 5)


def test_the_listing_of_records() -> None:
    records = [
        Record("p", "image", uri="p.jpg"),
        Record("p-0", "text", text="x", photo_id="p"),
        Failure("row 3", "is empty"),
        Record("p-2", "text", text="x", photo_id="p"),
        Record("q-0", "text", text="y", photo_id="q"),
    ]
    assert list_records(records) == Listing({"p": "p.jpg"}, {"p": ("p-0", "p-2"), "q": ("q-0",)})


def test_captions_that_two_photos_have_word_for_word_are_counted_in_each_fold() -> None:
    said = {"p": ["A dog .", "A dog .", "A cat ."], "q": ["A dog . ", "a dog ."], "r": ["A cat .", "Snow ."]}
    records = [Record(photo, "image", uri=f"{photo}.jpg") for photo in said] + [
        Record(f"{photo}-{number}", "text", text=text, photo_id=photo)
        for photo, texts in said.items()
        for number, text in enumerate(texts)
    ]
    listing = list_records(records)
    assert listing.shared == {"p-0", "p-1", "p-2", "q-0", "r-0"}
    assert shared_captions(listing, choose(WHOLE, listing)) == 5
    assert shared_captions(listing, choose(WHOLE, listing, num_queries=1)) == 1


def test_the_whole_data_is_searched_and_what_has_a_counterpart_asks() -> None:
    listing = Listing({"p": "p.jpg", "alone": "alone.jpg"}, {"p": ("p-0", "p-1"), "lost": ("lost-0",)})
    (subset,) = choose(WHOLE, listing)
    assert subset.gallery == {"p", "alone", "p-0", "p-1", "lost-0"}
    assert subset.queries == {"p", "p-0", "p-1"}


def test_n_limits_the_queries_of_each_direction_to_the_first() -> None:
    (subset,) = choose(WHOLE, LISTING, num_queries=4)
    assert subset.queries == {"f", "a", "e", "b", "f-0", "f-1", "f-2", "a-0"}
    assert len(subset.gallery) == 24
    (every,) = choose(WHOLE, LISTING, num_queries=1000)
    assert every.queries == every.gallery


def test_only_the_first_captions_count() -> None:
    (subset,) = choose(TWO_EACH, LISTING)
    assert subset.gallery == subset.queries
    assert len(subset.gallery) == 18
    assert not any(id.endswith("-2") for id in subset.gallery)


def test_folds_are_equal_parts_in_the_datas_order() -> None:
    folds = choose(THREE_FOLDS, LISTING)
    assert [fold.gallery & set(PHOTOS) for fold in folds] == [{"f", "a"}, {"e", "b"}, {"d", "c"}]
    assert all(len(fold.gallery) == 6 and fold.queries == fold.gallery for fold in folds)
    assert all(one.gallery.isdisjoint(other.gallery) for one, other in pairwise(folds))


def test_the_original_protocol_counts_photos_and_first_captions_together() -> None:
    (subset,) = choose(ORIGINAL, LISTING, num_indexed=6, num_queries=2)
    assert subset.gallery == {"f", "f-0", "a", "a-0", "e", "e-0"}
    assert subset.queries == {"f", "f-0", "a", "a-0"}
    # An odd number leaves the last photo without its caption, which can still ask for the photo.
    (odd,) = choose(ORIGINAL, LISTING, num_indexed=5)
    assert odd.gallery == {"f", "f-0", "a", "a-0", "e"}
    assert odd.queries == {"f", "f-0", "a", "a-0", "e-0"}


def test_more_indexed_documents_than_there_are() -> None:
    with pytest.raises(
        DataSetError, match=r"searches 13 documents \(-i\), but the data has only 12: 6 photos"
    ):
        choose(ORIGINAL, LISTING, num_indexed=13)
    with pytest.raises(DataSetError, match="searches 16,000 documents"):
        choose(ORIGINAL, LISTING)


def test_i_belongs_to_the_original_protocol() -> None:
    with pytest.raises(SettingsError, match="-i 6 belongs to the protocol original, and --protocol coco-5k"):
        choose(TWO_EACH, LISTING, num_indexed=6)


def test_a_wrong_number_of_photos() -> None:
    with pytest.raises(DataSetError, match="flickr8k-1k needs 1,000 photos, but the data has 6"):
        choose(PROTOCOLS["flickr8k-1k"], LISTING)


def test_photos_with_too_few_captions_are_named() -> None:
    lacking = Listing(LISTING.photos, {**LISTING.captions, "e": ("e-0",)})
    with pytest.raises(DataSetError, match=r"1 of the 6 photos have fewer, such as e\.jpg with 1"):
        choose(TWO_EACH, lacking)
    with pytest.raises(DataSetError, match=r"6 of the 6 photos have fewer, such as f\.jpg with 3"):
        choose(replace(TWO_EACH, captions=5), LISTING)


@pytest.mark.parametrize("protocol", [WHOLE, ORIGINAL, TWO_EACH])
def test_nothing_that_belongs_together(protocol: object) -> None:
    strangers = Listing({"p": "p.jpg"}, {"q": ("q-0", "q-1")})
    with pytest.raises(DataSetError, match="of 2 captions none belongs to one of the 1 photos"):
        choose(protocol, strangers)  # type: ignore[arg-type]
    with pytest.raises(DataSetError, match="of 0 captions"):
        choose(protocol, Listing({"p": "p.jpg"}, {}))  # type: ignore[arg-type]
