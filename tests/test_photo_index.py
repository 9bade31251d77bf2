"""Indexing and searching real photos from Python, with the default model, without a server."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOY_DATA, TOY_IMAGES, run_app

from crossmodal import Match, PhotoIndex, Workspace, models
from crossmodal.data_sets import open_data_set
from crossmodal.errors import (
    DataError,
    FilterError,
    ModelMismatch,
    StoreError,
    StoreLocked,
    StoreMissing,
)
from crossmodal.images import decode_image
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models import DEFAULT_MODEL, ModelIdentity, identify_model, registry
from crossmodal.records import IMAGE, Failure, Record, caption_id, record_id

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")

RECORDS = [
    item for item in open_data_set(str(TOY_DATA), data_root=TOY_DATA.parent) if isinstance(item, Record)
]
PHOTOS = [record for record in RECORDS if record.modality == IMAGE]
CAPTIONS = [record for record in RECORDS if record.modality != IMAGE]
QUERY = "a cat looks into the camera"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PhotoIndex:
    """The toy data indexed by the facade."""
    index = PhotoIndex(tmp_path_factory.mktemp("facade") / "workspace", data_root=TOY_DATA.parent)
    summary = index.add("toy-data")
    assert (summary.added, summary.replaced, summary.unchanged) == (len(RECORDS), 0, 0)
    assert summary.failures == []
    return index


@pytest.fixture(scope="module")
def photo_vectors() -> np.ndarray:
    encoder = models.load_image_encoder(DEFAULT_MODEL, cache=None)
    crop = encoder.preprocessing.crop
    return encoder.encode(np.stack([crop(decode_image(p.content or b"")) for p in PHOTOS]))


def best(
    query: np.ndarray, vectors: np.ndarray, records: list[Record], hubness: np.ndarray | None = None
) -> list[tuple[str, float]]:
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    if hubness is not None:
        scores -= hubness
    return sorted(zip([r.id for r in records], scores.tolist(), strict=True), key=lambda m: (-m[1], m[0]))


def test_sentence_finds_the_photos_that_the_encoders_rank_first(
    index: PhotoIndex, photo_vectors: np.ndarray
) -> None:
    banks = registry.banks_of(identify_model(DEFAULT_MODEL))
    assert banks is not None
    query = models.load_text_encoder(DEFAULT_MODEL, cache=None).encode([QUERY])[0]
    expected = best(query, photo_vectors, PHOTOS, banks.hubness(photo_vectors, IMAGE))
    cosines = dict(best(query, photo_vectors, PHOTOS))
    matches = index.search_text(QUERY, top_k=100)
    assert len(matches) == len(PHOTOS)
    assert [match.id for match in matches] == [id for id, _ in expected]
    assert [match.cosine for match in matches] == pytest.approx([cosines[m.id] for m in matches], abs=1e-6)
    by_id = {record.id: record for record in PHOTOS}
    for match in matches:
        record = by_id[match.id]
        assert (match.modality, match.uri, match.mime_type) == ("image", record.uri, "image/jpeg")
        assert match.tags.items() >= record.tags.items()
    assert index.search_text(QUERY, top_k=5) == matches[:5]


def test_photo_finds_the_captions_that_the_encoders_rank_first(
    index: PhotoIndex, photo_vectors: np.ndarray
) -> None:
    vectors = models.load_text_encoder(DEFAULT_MODEL, cache=None).encode(
        [record.text or "" for record in CAPTIONS]
    )
    texts = {record.id: record.text for record in CAPTIONS}
    banks = registry.banks_of(identify_model(DEFAULT_MODEL))
    assert banks is not None
    hubness = banks.hubness(vectors, "text")
    for number in (0, 3):
        expected = best(photo_vectors[number], vectors, CAPTIONS, hubness)
        matches = index.search_image(PHOTOS[number].content or b"", top_k=10)
        assert [match.id for match in matches] == [id for id, _ in expected[:10]]
        cosines = dict(zip(texts, vectors @ photo_vectors[number], strict=True))
        assert [m.cosine for m in matches] == pytest.approx([cosines[m.id] for m in matches], abs=1e-5)
        assert [match.text for match in matches] == [texts[match.id] for match in matches]
        assert {match.photo_id for match in matches} <= {photo.id for photo in PHOTOS}
        assert index.search_image(str(PHOTOS[number].uri), top_k=10) == matches


def test_adding_again_changes_nothing(index: PhotoIndex) -> None:
    before = index.search_text(QUERY)
    summary = index.add(TOY_DATA)
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 0, len(RECORDS))
    assert index.search_text(QUERY) == before


def test_a_changed_photo_is_replaced_and_a_lost_one_comes_back(tmp_path: Path) -> None:
    index = PhotoIndex(tmp_path)
    index.add(RECORDS)
    cat, rocket = ((TOY_IMAGES / name).read_bytes() for name in ("cat.jpg", "rocket.jpg"))
    old = next(photo for photo in PHOTOS if photo.content == cat)
    other = next(photo for photo in PHOTOS if photo.content == rocket)
    scores = {match.id: match.cosine for match in index.search_text(QUERY, top_k=100)}
    # As an upload under the same id: nothing says any more where it lies.
    new = replace(old, content=rocket, digest=None, local=None, content_hash="")
    summary = index.add([new])
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 1, 0)
    changed = {match.id: match.cosine for match in index.search_text(QUERY, top_k=100)}
    assert changed[old.id] == pytest.approx(scores[other.id], abs=1e-6)
    assert {**changed, old.id: 0} == {**scores, old.id: 0}
    with EmbeddedStore.open_writer(tmp_path) as store:
        assert store.content(old.id) == rocket
        store.delete([old.id, other.id])
    assert {match.id for match in index.search_text(QUERY, top_k=100)} == set(scores) - {old.id, other.id}
    summary = index.add([new, *RECORDS[1:]] if RECORDS[0].id == old.id else [new, other])
    assert summary.added == 2
    repaired = {match.id: match.cosine for match in index.search_text(QUERY, top_k=100)}
    assert repaired == pytest.approx(changed, abs=1e-6)


def test_bad_inputs_fail_alone(tmp_path: Path) -> None:
    cat = (TOY_IMAGES / "cat.jpg").read_bytes()
    items: list[Record | Failure] = [
        Failure("list.csv:3", "a column too many"),
        Record(record_id("cut"), IMAGE, uri="cut.jpg", content=cat[: len(cat) // 4]),
        Record(record_id("text"), IMAGE, uri="text.jpg", content=b"no photo"),
        Record(caption_id(record_id("cat"), "  "), "text", text="  "),
        Record(record_id("cat"), IMAGE, uri="cat.jpg", content=cat),
        Record(caption_id(record_id("cat"), "a cat"), "text", text="a cat", photo_id=record_id("cat")),
    ]
    with PhotoIndex(tmp_path) as index:
        summary = index.add(items)
        assert (summary.added, summary.replaced, summary.unchanged) == (2, 0, 0)
        assert [failure.source for failure in summary.failures[:3]] == ["list.csv:3", "cut.jpg", "text.jpg"]
        assert len(summary.failures) == 4
        assert [match.uri for match in index.search_text("a cat")] == ["cat.jpg"]
        assert [match.text for match in index.search_image(cat)] == ["a cat"]
        with pytest.raises(DataError, match="query is empty"):
            index.search_text(" ")
        with pytest.raises(DataError, match=r"missing\.jpg does not exist"):
            index.search_image(tmp_path / "missing.jpg")
        with pytest.raises(DataError):
            index.search_image(b"no photo")
        with pytest.raises(DataError, match="top_k is 0"):
            index.search_text("a cat", top_k=0)


def test_no_index_and_another_model(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"crossmodal index"):
        PhotoIndex(tmp_path / "none").search_text("a cat")
    other = ModelIdentity("other", "0" * 16, "crop 224", 512)
    EmbeddedStore.open_writer(tmp_path, identity=other).close()
    with pytest.raises(ModelMismatch) as told:
        PhotoIndex(tmp_path, DEFAULT_MODEL)
    assert str(other) in str(told.value)
    assert str(identify_model(DEFAULT_MODEL)) in str(told.value)


def test_an_index_that_is_being_read_can_be_copied(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path / "index") as index:
        index.add(RECORDS[:5])
        before = index.search_text(QUERY)
        # Closing a file gives up all locks of this process on it.
        shutil.copytree(tmp_path / "index", tmp_path / "copy")
        assert run_app("-t", "status", "--workspace", tmp_path / "index").returncode == 0
        assert index.search_text(QUERY) == before
        assert index.add(RECORDS).unchanged == 5
    with PhotoIndex(tmp_path / "copy") as copy:
        assert copy.search_text(QUERY) == before


def test_only_one_adds_at_a_time(tmp_path: Path) -> None:
    index = PhotoIndex(tmp_path)
    with (
        EmbeddedStore.open_writer(tmp_path),
        pytest.raises(StoreLocked, match="is being written by"),
    ):
        index.add(RECORDS[:1])
    assert index.add(RECORDS[:1]).added == 1


def test_searches_divided_into_shards_give_the_same(index: PhotoIndex, tmp_path: Path) -> None:
    with PhotoIndex(tmp_path, shards=4) as sharded:
        sharded.add(RECORDS)
        for k in (1, 5, 100):
            assert_same(sharded.search_text(QUERY, k), index.search_text(QUERY, k))
            assert_same(
                sharded.search_image(TOY_IMAGES / "coffee.jpg", k),
                index.search_image(TOY_IMAGES / "coffee.jpg", k),
            )
    derived = {path.name for path in (tmp_path / "derived").iterdir()}
    assert derived == {f"{name}.{n}-of-4.vectors" for name in ("image", "text") for n in range(4)}
    # How many shards there are is a matter of each search, and not of the index.
    with PhotoIndex(tmp_path, shards=3) as other:
        assert_same(other.search_text(QUERY, 100), index.search_text(QUERY, 100))


def test_a_shard_that_cannot_be_opened_is_not_left_out_of_later_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PhotoIndex(tmp_path, shards=2) as sharded:
        sharded.add(PHOTOS)
        opened, calls = EmbeddedStore.open_reader, 0

        def refused(path: Path, **given: Any) -> EmbeddedStore:
            nonlocal calls
            calls += "identity" in given
            if calls == 2:
                raise StoreError("as on a disk that fails")
            return opened(path, **given)

        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedStore, "open_reader", refused)
            with pytest.raises(StoreError, match="as on a disk that fails"):
                sharded.search_text(QUERY)
        assert len(sharded.search_text(QUERY, len(PHOTOS))) == len(PHOTOS)


def assert_same(found: Sequence[Match], expected: Sequence[Match]) -> None:
    assert [match.rank for match in found] == list(range(1, len(found) + 1))
    assert [match.id for match in found] == [match.id for match in expected]
    assert [match.cosine for match in found] == pytest.approx([match.cosine for match in expected], abs=1e-6)
    assert [match.score for match in found] == pytest.approx([match.score for match in expected], abs=1e-6)


def test_workspace_that_the_command_line_made(toy_workspace: Path, index: PhotoIndex) -> None:
    with PhotoIndex(toy_workspace) as opened:
        assert opened.model == DEFAULT_MODEL
        summary = opened.add(TOY_DATA)
        assert (summary.added, summary.replaced, summary.unchanged) == (0, 0, len(RECORDS))
        assert_same(opened.search_text(QUERY), index.search_text(QUERY))
        assert_same(opened.search_image(TOY_IMAGES / "cat.jpg"), index.search_image(TOY_IMAGES / "cat.jpg"))


def test_index_made_anew_is_found_by_one_that_is_open(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path) as index:
        index.add(PHOTOS[:4])
        Workspace(tmp_path).delete()
        with pytest.raises(StoreMissing):
            index.search_text(QUERY)
        assert index.add(PHOTOS[:2]).added == 2
        assert {match.id for match in index.search_text(QUERY)} == {photo.id for photo in PHOTOS[:2]}


def test_filters_choose_before_the_cut(index: PhotoIndex) -> None:
    """The best of those that match come, as many as are asked for, in the order of a plain search."""
    subjects = {str(photo.tags["subject"]) for photo in PHOTOS}
    assert len(subjects) > 2
    for subject in subjects:
        matching = {photo.id for photo in PHOTOS if photo.tags["subject"] == subject}
        expected = [match for match in index.search_text(QUERY, top_k=100) if match.id in matching]
        for top_k in (1, len(matching), 100):
            assert_same(index.search_text(QUERY, top_k, filter={"subject": subject}), expected[:top_k])
        described = {caption.id for caption in CAPTIONS if caption.tags["subject"] == subject}
        everything = index.search_image(TOY_IMAGES / "cat.jpg", top_k=100)
        captions = index.search_image(TOY_IMAGES / "cat.jpg", 100, filter={"subject": subject})
        assert_same(captions, [match for match in everything if match.id in described])
    assert index.search_text(QUERY, filter={"subject": "nothing"}) == []
    assert index.search_text(QUERY, filter={"modality": "text"}) == []
    with pytest.raises(FilterError, match=r"\$near"):
        index.search_text(QUERY, filter={"subject": {"$near": 1}})
    with pytest.raises(FilterError, match="JSON object"):
        index.search_image(b"", filter=[1])  # type: ignore[arg-type]


def test_deleted_photos_take_their_captions_along(tmp_path: Path) -> None:
    with PhotoIndex(tmp_path) as index:
        with pytest.raises(StoreMissing):
            index.delete(["anything"])
        index.add(RECORDS)
        first, second = PHOTOS[0], PHOTOS[1]
        described = [caption.id for caption in CAPTIONS if caption.photo_id == first.id]
        assert len(described) > 1
        assert index.delete([first.id, "nothing", first.id]) == [first.id, *described]
        assert index.delete([first.id]) == []
        assert first.id not in {match.id for match in index.search_text(QUERY, 100)}
        captions = {match.id for match in index.search_image(second.content or b"", 100)}
        assert captions == {caption.id for caption in CAPTIONS} - set(described)
        assert index.delete([second.id], captions=False) == [second.id]
        assert {match.id for match in index.search_image(second.content or b"", 100)} == captions
        kept = next(caption.id for caption in CAPTIONS if caption.photo_id == second.id)
        assert index.delete([kept]) == [kept]
        summary = index.add(RECORDS)
        assert (summary.added, summary.unchanged) == (len(described) + 3, len(RECORDS) - len(described) - 3)
    with EmbeddedStore.open_writer(tmp_path) as store:
        assert store.verify() == []
