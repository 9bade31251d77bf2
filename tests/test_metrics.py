"""Retrieval metrics against cases worked out by hand, and what evaluate makes of records."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import encoded, toy_photo

from crossmodal.errors import DataSetError
from crossmodal.evaluation import evaluate
from crossmodal.evaluation.metrics import per_query, ranks_of_relevant, summarize
from crossmodal.models import load_image_encoder, load_text_encoder
from crossmodal.records import Failure, Record, caption_id, record_id


def ranks(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, np.int64) for row in rows]


def test_ranks_of_several_relevant_items() -> None:
    # One query; scores .9, .1, .5, .3 for items of the photos b, a, a, b.
    query = np.array([[1.0]], np.float32)
    gallery = np.array([[0.9], [0.1], [0.5], [0.3]], np.float32)
    assert [row.tolist() for row in ranks_of_relevant(query, gallery, ["a"], ["b", "a", "a", "b"])] == [
        [2, 4]
    ]
    assert [row.tolist() for row in ranks_of_relevant(query, gallery, ["b"], ["b", "a", "a", "b"])] == [
        [1, 3]
    ]


def test_a_tie_goes_to_the_earlier_item_of_the_gallery() -> None:
    query = np.array([[1.0]], np.float32)
    gallery = np.full((3, 1), 0.5, np.float32)
    for position, photo in enumerate(["a", "b", "c"], start=1):
        (found,) = ranks_of_relevant(query, gallery, [photo], ["a", "b", "c"])
        assert found.tolist() == [position]


def test_scores_are_compared_in_float64() -> None:
    # In float32 both sums are equal and the first item would win the tie.
    query = np.array([[1.0, 1.0]], np.float32)
    gallery = np.array([[1.0, 0.0], [1.0, 1e-9]], np.float32)
    (found,) = ranks_of_relevant(query, gallery, ["second"], ["first", "second"])
    assert found.tolist() == [1]


def test_a_query_without_relevant_items_has_no_ranks() -> None:
    one = np.array([[1.0]], np.float32)
    assert [row.tolist() for row in ranks_of_relevant(one, one, ["x"], ["y"])] == [[]]


def test_equal_captions_of_two_photos_do_not_count_for_each_other() -> None:
    # The same vector twice, of two photos: only the own one is relevant.
    queries = np.array([[1.0, 0.0]], np.float32)
    gallery = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    (found,) = ranks_of_relevant(queries, gallery, ["second"], ["first", "second"])
    assert found.tolist() == [2]


def test_summary_of_two_queries_by_hand() -> None:
    # First query: relevant at 1 and 4; second: relevant at 12 alone.
    summary = summarize(ranks([1, 4], [12]))
    assert summary["mrr"] == pytest.approx((1 + 1 / 12) / 2)
    assert (summary["hit@1"], summary["hit@5"], summary["hit@10"]) == (0.5, 0.5, 0.5)
    assert (summary["recall@1"], summary["recall@5"], summary["recall@10"]) == (0.25, 0.5, 0.5)
    assert summary["median_rank"] == 6.5
    assert summary["mean_rank"] == 6.5
    assert summary["map"] == pytest.approx(((1 / 1 + 2 / 4) / 2 + 1 / 12) / 2)
    gained = (1 / math.log2(2) + 1 / math.log2(5)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert summary["ndcg@10"] == pytest.approx(gained / 2)


def test_hit_and_recall_differ() -> None:
    # Five captions of one photo, one of them found: hit@10 is 1 where true recall@10 is .2.
    summary = summarize(ranks([3, 20, 30, 40, 50]))
    assert summary["hit@10"] == 1
    assert summary["recall@10"] == pytest.approx(0.2)


def test_ideal_ndcg_is_cut_as_well() -> None:
    assert summarize(ranks(list(range(1, 21))))["ndcg@10"] == pytest.approx(1)


def test_unanswerable_queries_do_not_count() -> None:
    assert summarize(ranks([1], [])) == summarize(ranks([1]))
    with pytest.raises(ValueError, match="no query"):
        summarize(ranks([], []))


@given(
    st.lists(
        st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True).map(sorted), min_size=1, max_size=20
    )
)
@settings(deadline=None)
def test_invariants(rows: list[list[int]]) -> None:
    summary = summarize(ranks(*rows))
    assert summary["hit@1"] <= summary["hit@5"] <= summary["hit@10"]
    for k in (1, 5, 10):
        assert summary[f"recall@{k}"] <= summary[f"hit@{k}"]
    assert summary["hit@1"] <= summary["mrr"] <= 1
    assert 0 < summary["map"] <= 1
    assert 0 <= summary["ndcg@10"] <= 1 + 1e-12


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_ranks_agree_with_sorting_each_query_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties are common.
    queries = rng.integers(-1, 2, (7, 3)).astype(np.float32)
    gallery = rng.integers(-1, 2, (11, 3)).astype(np.float32)
    query_photos = [str(number) for number in rng.integers(0, 4, 7)]
    gallery_photos = [str(number) for number in rng.integers(0, 4, 11)]
    found = ranks_of_relevant(queries, gallery, query_photos, gallery_photos)
    for query, photo, row in zip(queries, query_photos, found, strict=True):
        order = sorted(range(11), key=lambda item: (-float(query @ gallery[item]), item))
        assert row.tolist() == [place for place, item in enumerate(order, 1) if gallery_photos[item] == photo]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_metrics_are_those_of_trec_eval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties are common; some photos have one caption, some have twenty.
    queries = rng.integers(-1, 2, (12, 4)).astype(np.float32)
    gallery = rng.integers(-1, 2, (90, 4)).astype(np.float32)
    gallery_photos = [str(number) for number in np.minimum(rng.geometric(0.15, 90), 12)]
    query_photos = [str(number) for number in rng.integers(1, 13, 12)]
    found = ranks_of_relevant(queries, gallery, query_photos, gallery_photos)
    judged = [number for number, row in enumerate(found) if len(row)]
    run, relevant = {}, {}
    for number in judged:
        # trec_eval ranks equal scores by name from the end; scores that fall without ties carry our rule.
        order = sorted(range(90), key=lambda item: (-float(queries[number] @ gallery[item]), item))
        run[str(number)] = {f"d{item}": 90.0 - place for place, item in enumerate(order)}
        relevant[str(number)] = {
            f"d{item}": int(photo == query_photos[number]) for item, photo in enumerate(gallery_photos)
        }
    measures = {"recip_rank", "map", "ndcg_cut.10", "recall.1,5,10", "success.1,5,10"}
    told = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(run)
    values = per_query([found[number] for number in judged])
    names = {"mrr": "recip_rank", "map": "map", "ndcg@10": "ndcg_cut_10"}
    names |= {f"recall@{k}": f"recall_{k}" for k in (1, 5, 10)}
    names |= {f"hit@{k}": f"success_{k}" for k in (1, 5, 10)}
    for ours, theirs in names.items():
        expected = [told[str(number)][theirs] for number in judged]
        assert values[ours] == pytest.approx(expected), ours
        assert summarize(found)[ours] == pytest.approx(np.mean(expected)), ours


def toy_records() -> list[Record]:
    captions = {"cat.jpg": ["a cat"], "coffee.jpg": ["a cup", "coffee on a table"], "rocket.jpg": []}
    records = []
    for name, texts in captions.items():
        photo = record_id(name)
        records.append(Record(photo, "image", uri=name, content=encoded(toy_photo(name), "PNG")))
        records += [Record(caption_id(photo, text), "text", text=text, photo_id=photo) for text in texts]
    return records


def test_evaluate_counts_gallery_and_queries_and_names_failures() -> None:
    broken = Record("broken", "image", uri="broken.jpg", content=b"no image at all")
    row = Failure("captions.csv, line 7", "The row has 5 columns.")
    lonely = Record("lonely", "text", text="nobody's caption", photo_id="nobody")
    seen: list[int] = []
    result = evaluate("vse", [broken, row, lonely, *toy_records()], progress=seen.append)
    # The rocket has no caption and the lonely caption no photo: both are in the gallery, neither asks.
    assert result["gallery"] == {"text2image": 3, "image2text": 4}
    assert result["queries"] == {"text2image": 3, "image2text": 2}
    assert [failure["source"] for failure in result["failures"]] == ["captions.csv, line 7", "broken.jpg"]
    assert seen == [4, 8]
    assert result["model"] == "vse"
    assert result["tie_rule"] == "equal scores by id, ascending"
    assert json.loads(json.dumps(result)) == result


def test_evaluate_of_one_direction_gives_the_same_numbers() -> None:
    both = evaluate("vse", toy_records())
    for direction, other in (("text2image", "image2text"), ("image2text", "text2image")):
        one = evaluate("vse", toy_records(), direction=direction)  # type: ignore[arg-type]
        assert one[direction] == both[direction]
        assert list(one[direction]["intervals"]) == [name for name in one[direction] if name != "intervals"]
        assert other not in one
        assert list(one["gallery"]) == list(one["queries"]) == [direction]


def test_evaluate_ranks_as_the_encoders_vectors_say() -> None:
    records = toy_records()
    images, texts = load_image_encoder("vse"), load_text_encoder("vse")
    photos = [record for record in records if record.modality == "image"]
    squares = [images.preprocessing.crop(np.asarray(toy_photo(str(record.uri)))) for record in photos]
    scores = texts.encode(["a cat", "a cup", "coffee on a table"]) @ images.encode(np.stack(squares)).T
    ranks_by_hand = [1 + int((row > row[own]).sum()) for row, own in zip(scores, (0, 1, 1), strict=True)]
    expected = float(np.mean([1 / rank for rank in ranks_by_hand]))
    assert evaluate("vse", records)["text2image"]["mrr"] == pytest.approx(expected)


def test_equal_captions_of_two_photos_belong_to_their_own_photo() -> None:
    cat, coffee = (
        Record(name, "image", uri=name, content=encoded(toy_photo(name), "PNG"))
        for name in ("cat.jpg", "coffee.jpg")
    )
    captions = [
        Record(f"{number}", "text", text="a cup of coffee", photo_id=photo.id)
        for number, photo in enumerate((cat, coffee))
    ]
    result = evaluate("vse", [cat, coffee, *captions])
    # Both find the coffee first, which is right for one of them; by their text, it would be for both.
    assert result["text2image"]["hit@1"] == 0.5
    assert result["text2image"]["mean_rank"] == 1.5


def test_nothing_to_evaluate_is_an_error() -> None:
    cat, _, coffee, a_cup, *_ = toy_records()
    with pytest.raises(DataSetError, match="of 1 captions none belongs to one of the 1 photos"):
        evaluate("vse", [cat, a_cup])
    with pytest.raises(DataSetError, match="of 0 captions"):
        evaluate("vse", [cat, coffee])
