"""What an index can be asked from Python: the same as over HTTP, with the answers that the vectors give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import TOY_DATA, TOY_IMAGES
from PIL import Image

from crossmodal import Match, PhotoIndex, Record, Results, Term
from crossmodal.data_sets import open_data_set
from crossmodal.errors import DataError, QueryError, RequestError, SettingsError
from crossmodal.images import decode_image
from crossmodal.query.calibration import stored_calibration
from crossmodal.records import IMAGE, TEXT

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

RECORDS = [
    item for item in open_data_set(str(TOY_DATA), data_root=TOY_DATA.parent) if isinstance(item, Record)
]
PHOTOS = {record.id: record for record in RECORDS if record.modality == IMAGE}
CAPTIONS = {record.id: record for record in RECORDS if record.modality == TEXT}
CAT = TOY_IMAGES / "cat.jpg"
QUERY = "a cat looks into the camera"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoIndex]:
    with PhotoIndex(tmp_path_factory.mktemp("queries") / "workspace", data_root=TOY_DATA.parent) as index:
        index.add("toy-data")
        yield index


def id_of(name: str) -> str:
    return next(id for id, record in PHOTOS.items() if Path(str(record.uri)).name == name)


def ids(matches: list[Match]) -> list[str]:
    return [match.id for match in matches]


def ranked(
    index: PhotoIndex, vector: np.ndarray, wanted: dict[str, Record], *, corrected: bool = False
) -> list[str]:
    """The ids of ``wanted`` by the cosine of their stored vectors with ``vector``, the best first.

    Where ``corrected``, by cosine minus hubness, as those are that a query of the other modality finds.
    """
    modality = IMAGE if wanted is PHOTOS else TEXT
    stored = index._workspace.vectors(wanted, modality)
    values = {id: float(stored[id].astype(np.float64) @ vector.astype(np.float64)) for id in wanted}
    if corrected:
        hubness = index._workspace.hubness(wanted, modality)
        values = {id: value - hubness[id] for id, value in values.items()}
    return sorted(values, key=lambda id: (-values[id], id))


def test_a_sentence_finds_photos_with_their_captions_and_calibrated_scores(index: PhotoIndex) -> None:
    results = index.search(QUERY, 100)
    assert ids(results) == ranked(index, index.encode_text(QUERY), PHOTOS, corrected=True)
    calibration = stored_calibration("clip-mini")
    assert calibration is not None
    hubness = index._workspace.hubness(PHOTOS, IMAGE)
    assert len(set(hubness.values())) > 1
    values = [match.cosine - hubness[match.id] for match in results]
    expected = calibration.score(calibration.standardised(values, TEXT, IMAGE))
    assert [match.score for match in results] == pytest.approx(expected.tolist())
    assert all(0 < (match.score or 0) < 1 for match in results)
    for match in results:
        assert match.file == Path(str(PHOTOS[match.id].uri)).name
        assert match.photo_id == match.id
        described = [caption.text for caption in CAPTIONS.values() if caption.photo_id == match.id]
        assert [text for _, text in match.captions] == described
    assert (results.modality, results.has_more, results.fits, results.doubt) == (IMAGE, False, True, None)
    assert index.similar(CAT, 3) == index.search_image(CAT, 3, modality=IMAGE)
    strange = index.search("koira juoksee rannalla")
    assert strange.fits is False
    assert strange.doubt is not None
    assert index.search(QUERY, 3).has_more


def test_a_top_5_is_the_beginning_of_a_top_15_and_pages_go_on(index: PhotoIndex) -> None:
    everything = index.search(QUERY, 15)
    assert index.search(QUERY, 5) == everything[:5]
    assert [*index.search(QUERY, 5), *index.search(QUERY, 5, offset=5)] == everything[:10]


def test_an_expression_takes_away_and_weighs(index: PhotoIndex) -> None:
    cat = id_of("cat.jpg")
    plain = ids(index.search("an animal", 15))
    without = ids(index.search(f"an animal - 2*id:{cat}", 15))
    assert without.index(cat) > plain.index(cat)
    terms = (Term(text="an animal"), Term(-2.0, id=cat))
    assert ids(index.search(terms, 15)) == without
    # In search_text signs are words.
    assert ids(index.search_text("an animal - snow", 15)) != ids(index.search("an animal - snow", 15))


def test_photo_to_photos_and_caption_to_captions(index: PhotoIndex) -> None:
    cat = id_of("cat.jpg")
    vector = index.encode_image(CAT)
    assert ids(index.search_image(CAT, 15, modality=IMAGE)) == ranked(index, vector, PHOTOS)
    assert index.search_image(CAT, 1, modality=IMAGE)[0].id == cat
    assert index.search_image(CAT, 1, modality=IMAGE)[0].cosine == pytest.approx(1, abs=1e-3)
    similar = ids(index.similar(cat, 14))
    assert cat not in similar
    assert similar == [
        id for id in ranked(index, index._workspace.vectors([cat], IMAGE)[cat], PHOTOS) if id != cat
    ]
    caption = next(iter(CAPTIONS))
    found = index.similar(caption, 40)
    assert {match.modality for match in found} == {TEXT}
    assert caption not in ids(found)
    assert len(found) == len(CAPTIONS) - 1
    sentence = CAPTIONS[caption].text or ""
    assert index.search_text(sentence, 1, modality=TEXT)[0].id == caption


def test_a_photo_finds_photos_where_there_are_no_captions(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path) as index:
        index.add(list(PHOTOS.values()))
        results = index.search(CAT, 3)
        assert results.modality == IMAGE
        assert results[0].id == id_of("cat.jpg")
        assert index.search_image(CAT, 3) == results
        assert index.search_image(CAT, 3, modality=TEXT) == []
        assert index.similar(CAT, 3) == results
        # Nothing is said of cats but in the name of a file.
        named = index.search("cat.jpg", 3, hybrid=True)
        assert named[0].id == id_of("cat.jpg")
        assert named[0].parts is not None
        assert named[0].parts.word_rank == 1


def test_both_modalities_in_one_list_are_ordered_by_score(index: PhotoIndex) -> None:
    results = index.search(QUERY, 56, modality="both")
    assert {match.modality for match in results} == {IMAGE, TEXT}
    scores = [match.score or 0 for match in results]
    assert scores == sorted(scores, reverse=True)
    assert [match.rank for match in results] == list(range(1, len(results) + 1))


def test_words_count_in_a_hybrid_search(index: PhotoIndex) -> None:
    results = index.search("tabby", 5, hybrid=True)
    assert results[0].id == id_of("cat.jpg")
    assert results[0].parts is not None
    assert results[0].parts.word_rank == 1
    assert results[0].parts.bm25 is not None


def test_near_duplicates_are_shown_once(tmp_path: Path) -> None:
    cat = CAT.read_bytes()
    with PhotoIndex(tmp_path) as index:
        index.add([Record(name, IMAGE, uri=f"{name}.jpg", content=cat) for name in ("one", "two", "three")])
        index.add(
            [Record("rocket", IMAGE, uri="rocket.jpg", content=(TOY_IMAGES / "rocket.jpg").read_bytes())]
        )
        results = index.search("a cat", 10, group_duplicates=True)
        assert sorted([results[0].id, *(results[0].duplicates or ())]) == ["one", "three", "two"]
        assert len(results) == 2


def test_images_arrays_and_vectors_are_queries(index: PhotoIndex) -> None:
    expected = index.search_image(CAT, 10)
    pixels = decode_image(CAT.read_bytes())
    with Image.open(CAT) as image:
        for query in (CAT, CAT.read_bytes(), image, pixels):
            found = index.search(query, 10)
            assert found.modality == TEXT
            assert ids(found) == ids(expected)
            assert [match.cosine for match in found] == pytest.approx(
                [match.cosine for match in expected], abs=2e-3
            )
    vector = index.encode_text(QUERY)
    assert ids(index.search(vector, 10)) == ids(index.search(QUERY, 10))
    assert ids(index.search(vector * 3, 10, modality=TEXT)) == ids(index.search(QUERY, 10, modality=TEXT))


def test_a_list_of_queries_gives_a_result_each(index: PhotoIndex) -> None:
    queries = [QUERY, "a rocket", CAT]
    results = index.search(queries, 5)
    assert [ids(result) for result in results] == [ids(index.search(query, 5)) for query in queries]
    assert index.search(["a cat"], 1)[0][0] == index.search("a cat", 1)[0]


def test_vectors_are_the_models_own(index: PhotoIndex) -> None:
    one, many = index.encode_text(QUERY), index.encode_text([QUERY, "a rocket"])
    assert (one.shape, many.shape, one.dtype) == ((512,), (2, 512), np.float32)
    assert np.array_equal(many[0], one)
    photos = index.encode_image([CAT, TOY_IMAGES / "rocket.jpg"])
    assert np.array_equal(photos[0], index.encode_image(CAT))
    assert np.linalg.norm(photos, axis=1) == pytest.approx([1, 1], abs=1e-3)
    stored = index._workspace.vectors([id_of("cat.jpg")], IMAGE)[id_of("cat.jpg")]
    assert float(stored @ photos[0]) > 0.999


def test_what_is_inside_can_be_looked_at(index: PhotoIndex) -> None:
    assert len(index) == len(RECORDS)
    assert [record.id for record in index] == [*sorted(PHOTOS), *sorted(CAPTIONS)]
    cat = id_of("cat.jpg")
    found = index.get(cat)
    assert found is not None
    assert (found.uri, found.tags) == (PHOTOS[cat].uri, PHOTOS[cat].tags)
    assert cat in index
    assert "nothing" not in index
    first = index.page(IMAGE, limit=4)
    assert [record.id for record in [*first, *index.page(IMAGE, after=first[-1].id, limit=4)]] == sorted(
        PHOTOS
    )[:8]
    assert index.photo(cat) == CAT.read_bytes()
    assert max(decode_image(index.thumbnail(cat) or b"").shape) == 256
    assert {caption.photo_id for caption in index.captions_of(cat)} == {cat}
    assert repr(index).endswith("model='clip-mini': 15 photos, 41 captions)")


def test_a_notebook_shows_pictures_and_escapes_words(index: PhotoIndex, tmp_path: Path) -> None:
    html = index.search("a cat", 3)._repr_html_()
    assert html.count("<img ") == 3
    assert 'src="data:image/jpeg;base64,' in html
    assert Results()._repr_html_() == "<p>Nothing was found.</p>"
    with PhotoIndex(tmp_path) as other:
        other.add([Record("x", TEXT, text="<script>alert(1)</script> a cat")])
        assert "<script>" not in other.search_text("a cat", modality=TEXT)._repr_html_()


@pytest.mark.parametrize(
    ("query", "options", "error", "words"),
    [
        ("", {}, QueryError, "The expression is empty"),
        ("- cat", {}, QueryError, "Every term"),
        (("not a term",), {}, DataError, "tuple of at least one Term"),
        (3.5, {}, DataError, "A float is no query"),
        (np.zeros((4, 4), np.float32), {}, DataError, r"\(4, 4\)"),
        (np.zeros(7, np.float32), {}, DataError, r"needs \(512,\)"),
        (np.zeros(512, np.float32), {}, DataError, "length 0"),
        ("cat", {"modality": "video"}, DataError, "modality is 'video'"),
        ("cat", {"offset": -1}, DataError, "offset is -1"),
        ("cat", {"min_score": 2}, DataError, "min_score is 2"),
        ("cat", {"top_k": 1001}, DataError, "top_k is 1001"),
        ("id:nothing", {}, RequestError, "'nothing'"),
        ("cat", {"top": 3}, TypeError, "no option 'top'; there are modality, filter"),
    ],
)
def test_what_cannot_be_asked_is_said(
    index: PhotoIndex, query: object, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        index.search(query, **options)


def test_a_third_modality_is_an_error_and_no_text(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path) as index:
        summary = index.add([Record("x", "video", text="a cat")])  # type: ignore[arg-type]
        assert (summary.added, len(summary.failures)) == (0, 1)
        assert "the modality 'video'; it must be 'image' or 'text'" in summary.failures[0].reason
        assert len(index) == 0
        with pytest.raises(DataError, match="modality 'video'"):
            index.page("video")  # type: ignore[arg-type]
        with pytest.raises(DataError, match="modality 'video'"):
            Term(vector=np.ones(512, np.float32), kind="video")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"keep": "banana"}, "keep: 'banana' is not one of path, original"),
        ({"shards": -1}, "shards: -1 is below the minimum, 1"),
        ({"index": "magic"}, "index: 'magic' is not one of auto, exact"),
        ({"runtime": "gpu"}, "runtime: 'gpu' is not one of auto, torch"),
    ],
)
def test_an_option_that_there_is_not_is_said_at_once(tmp_path: Path, option: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        PhotoIndex(tmp_path, **option)


def test_each_of_two_records_of_one_id_is_answered_and_the_last_stays(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path) as index:
        summary = index.add([Record("x", TEXT, text="a cat"), Record("x", TEXT, text="a dog")])
        assert (summary.added, summary.replaced, summary.failures) == (1, 1, [])
        found = index.get("x")
        assert found is not None
        assert found.text == "a dog"


def test_one_term_is_a_query(index: PhotoIndex) -> None:
    assert ids(index.search(Term(text=QUERY), 5)) == ids(index.search(QUERY, 5))


def test_a_comparison_with_another_kind_says_so(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        index.add(
            [
                Record("cat", IMAGE, content=(TOY_IMAGES / "cat.jpg").read_bytes(), tags={"score": "4.5"}),
                Record("rocket", IMAGE, content=(TOY_IMAGES / "rocket.jpg").read_bytes(), tags={"stars": 4}),
            ]
        )
        found = index.search_text("a cat", filter={"score": {"$gt": 4}})
        assert (list(found), found.fits) == ([], False)
        assert found.doubt == (
            "The tag 'score' has text, and the filter compares it with numbers, so nothing can match: write "
            "the value as text."
        )
        assert "write the value as a number" in str(
            index.search_text("x", filter={"stars": {"$lt": "5"}}).doubt
        )
        assert index.search_text("a cat", filter={"stars": {"$gt": 8}}).doubt is None
        assert [match.id for match in index.search_text("a cat", filter={"score": {"$gt": "4"}})] == ["cat"]
