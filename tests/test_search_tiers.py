"""Search by codes keeps the contract of exact search, and misses little of what that finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_samples import caption

from crossmodal.errors import DataError, ModelMismatch
from crossmodal.filters import parse_filter
from crossmodal.index.embedded import maintenance as maintenance_module
from crossmodal.index.embedded.codes import Recall
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex
from crossmodal.records import Record

TIERS = ["scan", "coarse", "ivf", "hnsw", "ivfpq", "lsh"]
COUNT, DIMENSION = 6000, 16


def vectors_like_captions(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around 40 centres, every tenth a copy of another: captions repeat."""
    centres = np.random.default_rng(7).normal(size=(40, DIMENSION))
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, 40, count)] + 0.7 * chance.normal(size=(count, DIMENSION))
    copied = len(vectors[1::10])
    vectors[::10][:copied] = vectors[1::10]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def put(store: EmbeddedStore, first: int, vectors: NDArray[np.float32], version: int = 0) -> None:
    store.put([caption(f"c{first + n:05d}", f"text {version}") for n in range(len(vectors))], vectors)


def filled(folder: Path, count: int = COUNT) -> EmbeddedStore:
    store = EmbeddedStore.open_writer(folder)
    put(store, 0, vectors_like_captions(count, seed=1))
    return store


def opened(store: EmbeddedStore, tier: str = "auto", *, keep_files: bool = False) -> VectorIndex:
    options = SearchOptions.of(tier)
    return VectorIndex(store.vector_source("text"), keep_files=keep_files, options=options)


def exact(store: EmbeddedStore) -> ExactIndex:
    return ExactIndex(store.vector_source("text"))


def built(store: EmbeddedStore, tier: str) -> VectorIndex:
    index = opened(store, tier)
    index.build()
    assert index.status()["tier"] == tier
    return index


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_built_meanwhile() -> Iterator[None]:
    """Tests say when to build; the thread that does so by itself would begin after a few seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maintenance_module, "_GRACE_SECONDS", 3600)
        yield


@pytest.fixture(scope="module", params=TIERS)
def changed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VectorIndex, ExactIndex]]:
    """An index with codes of which some have died since, some were replaced, and some are still missing."""
    with filled(tmp_path_factory.mktemp("store")) as store:
        index = built(store, request.param)
        store.delete([f"c{n:05d}" for n in range(0, 1200, 3)])
        put(store, 2000, vectors_like_captions(300, seed=2), version=1)
        put(store, COUNT, vectors_like_captions(500, seed=3))
        yield index, exact(store)
        index.close()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), small=st.integers(1, 60), large=st.integers(1, 600))
def test_order_scores_and_cuts_are_those_of_one_list(
    changed: tuple[VectorIndex, ExactIndex], seed: int, small: int, large: int
) -> None:
    index, exact = changed
    queries = vectors_like_captions(3, seed) + np.float32(0.05)
    found = index.search(queries, large)
    ids, scores, _ = exact.cosines(queries)
    for query, matches, all_scores in zip(queries, found, scores, strict=True):
        assert len(matches) == large
        assert matches == sorted(matches, key=lambda match: (-match[1], match[0]))
        assert len({id for id, *_ in matches}) == large
        score_of = dict(zip(ids, all_scores.tolist(), strict=True))
        assert [hit[:2] for hit in matches] == [(id, score_of[id]) for id, *_ in matches], "a dead row"
        assert index.search(query[None], small)[0][:large] == matches[:small]


def test_little_is_missed(changed: tuple[VectorIndex, ExactIndex]) -> None:
    index, exact = changed
    queries = vectors_like_captions(100, seed=9) + np.float32(0.05)
    shares = [
        len(set(found) & set(best)) / 10
        for found, best in zip(index.search(queries, 10), exact.search(queries, 10), strict=True)
    ]
    assert np.mean(shares) >= (0.98 if index.status()["tier"] in ("scan", "coarse", "hnsw") else 0.9)


def test_status_counts(changed: tuple[VectorIndex, ExactIndex]) -> None:
    status = changed[0].status()
    assert status["chosen"] == "named"
    assert (status["vectors"], status["coded"], status["tail"], status["dead"]) == (6100, 6000, 800, 700)
    assert 0.8 < status["recall"] <= 1
    assert "recent queries" in status["recall_measured"]
    assert status["building"] is None


def test_what_cannot_be_searched_is_refused_as_exact_search_refuses_it(
    changed: tuple[VectorIndex, ExactIndex],
) -> None:
    index, _ = changed
    assert index.search(np.empty((0, DIMENSION), np.float32), 5) == []
    with pytest.raises(ModelMismatch, match=r"query has 9 dimensions.*has 16"):
        index.search(np.ones((1, 9), np.float32), 5)
    with pytest.raises(DataError, match="top_k is 0"):
        index.search(np.ones((1, DIMENSION), np.float32), 0)
    with pytest.raises(DataError, match="not a finite number"):
        index.search(np.full((1, DIMENSION), np.nan, np.float32), 1)


def test_new_replaced_and_deleted_documents_at_once(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        index = built(store, "scan")
        old = store.vectors(["c00007"], "text")["c00007"]
        new = -old
        assert index.search(old[None], 1)[0][0][:2] == ("c00007", pytest.approx(1))
        store.put([caption("c00007", "another text")], new[None])
        assert index.search(new[None], 1)[0][0][:2] == ("c00007", pytest.approx(1))
        assert "c00007" not in {id for id, *_ in index.search(old[None], 500)[0]}
        assert index.status()["tail"] == 1
        # All that is near to a query dies: its places among the candidates go to others.
        near = [id for id, *_ in index.search(old[None], 400)[0]]
        store.delete(near)
        after = index.search(old[None], 20)[0]
        assert len(after) == 20
        assert not {id for id, *_ in after} & set(near)
        # That far away, codes of 32 bits tell little.
        assert len(set(after) & set(exact(store).search(old[None], 20)[0])) >= 14
        index.close()


def test_more_copies_than_candidates_come_in_order_of_id(tmp_path: Path) -> None:
    vectors = vectors_like_captions(COUNT, seed=1)
    vectors[500:2500] = vectors[500]
    with EmbeddedStore.open_writer(tmp_path) as store:
        put(store, 0, vectors)
        index = built(store, "scan")
        (found,) = index.search(vectors[500:501], 30)
        assert [id for id, *_ in found] == [f"c{n:05d}" for n in range(500, 530)]
        index.close()


def test_filters_are_exact(tmp_path: Path) -> None:
    with EmbeddedStore.open_writer(tmp_path) as store:
        records = [
            Record(id=f"c{n}", modality="text", tags={"odd": n % 2 == 1}).hashed() for n in range(3000)
        ]
        vectors = vectors_like_captions(3000, seed=4)
        store.put(records, vectors)
        index, wanted = built(store, "scan"), parse_filter({"odd": True})
        found = index.search(vectors[:5], 50, wanted)
        assert found == exact(store).search(vectors[:5], 50, wanted)
        assert all(int(id[1:]) % 2 for matches in found for id, *_ in matches)
        index.close()


def test_searches_go_on_while_codes_are_made_and_documents_written(tmp_path: Path) -> None:
    """Four threads search while the index is trained and extended and its documents change."""
    queries = vectors_like_captions(4, seed=5)
    with filled(tmp_path) as store, ThreadPoolExecutor(4) as pool:
        index = opened(store, "scan")
        done = threading.Event()

        def search(query: NDArray[np.float32]) -> int:
            count = 0
            while not done.is_set() or not count:
                (matches,) = index.search(query[None], 40)
                assert len(matches) == 40
                assert matches == sorted(matches, key=lambda match: (-match[1], match[0]))
                count += 1
            return count

        searching = [pool.submit(search, query) for query in queries]
        index.build()
        for version in range(1, 4):
            put(store, 1000, vectors_like_captions(1200, seed=10 + version), version=version)
            index.build()
        done.set()
        assert all(future.result() > 0 for future in searching)
        assert index.status()["tail"] == 0
        (found,) = index.search(queries[:1], 10)
        assert found == exact(store).search(queries[:1], 10)[0]
        index.close()


def test_the_thread_builds_by_itself_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance_module, "_GRACE_SECONDS", 0)
    monkeypatch.setattr(maintenance_module, "_LOOK_SECONDS", 0.02)
    query = vectors_like_captions(1, seed=5)
    codes = tmp_path / "derived/text.0-of-1.codes"
    with filled(tmp_path, 3000) as store:
        index = opened(store, "scan", keep_files=True)
        expected = exact(store).search(query, 10)
        waiting = threading.Event()
        for _ in range(1500):
            assert index.search(query, 10) == expected
            if index.status()["tier"] == "scan" and codes.exists():
                break
            waiting.wait(0.02)
        assert index.status()["recall"] is not None
        index.close()
        thread = index._maintenance._thread
        assert thread is not None
        # Closing waits for a second, which a busy machine may exceed.
        thread.join(60)
        assert not thread.is_alive()


def test_vectors_of_another_kind_are_trained_for(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        index = built(store, "scan")
        put(store, COUNT, vectors_like_captions(1300, seed=6))
        index.build()
        assert index._maintenance.tier is not None
        assert index._maintenance.tier.search.codes.trained_for == COUNT, "the same kind: coded as it is"
        assert index.status()["coded"] == COUNT + 1300
        # All in one plane, and ten times as long.
        flat = np.zeros((2500, DIMENSION), np.float32)
        flat[:, :2] = 10 * np.random.default_rng(8).normal(size=(2500, 2))
        put(store, 20_000, flat)
        index.build()
        assert index._maintenance.tier.search.codes.trained_for == COUNT + 1300 + 2500
        index.close()


def test_auto_widens_what_finds_too_little_and_then_steps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def measure(search: object, view: object, recent: object, enough: int) -> Recall:
        tried.append(search.options.rerank)  # type: ignore[attr-defined]
        return Recall(0.99 if tried[-1] >= enough else 0.9, "as told")

    options = replace(SearchOptions(), latency_ms=0.01)
    with filled(tmp_path, 3000) as store:
        for enough, tier in ((32, "scan"), (1000, "exact")):
            tried.clear()
            monkeypatch.setattr(
                maintenance_module, "measure_recall", lambda *given, enough=enough: measure(*given, enough)
            )
            monkeypatch.setattr(maintenance_module, "suitable_tier", lambda *given: "scan")
            index = VectorIndex(store.vector_source("text"), keep_files=False, options=options)
            index.build()
            assert tried == ([16, 32] if tier == "scan" else [16, 32, 64])
            assert index.status()["tier"] == tier
            assert index.status()["recall"] == (0.99 if tier == "scan" else 1.0)
            index.build()
            assert index.status()["tier"] == tier, "what was ruled out is not made again"
            index.close()
    assert "scan finds 0.900 of the best (as told); exact takes its place" in caplog.text


def test_codes_in_use_answer_until_those_of_another_tier_are_found_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an index grows past a limit of ``auto``: neither training nor a restart makes it slow."""
    wanted, good = "scan", {"scan"}
    monkeypatch.setattr(maintenance_module, "suitable_tier", lambda *given: wanted)
    monkeypatch.setattr(
        maintenance_module,
        "measure_recall",
        lambda search, *given: Recall(0.99 if search.codes.tier in good else 0.5, "as told"),
    )
    with filled(tmp_path, 3000) as store:
        index = opened(store, keep_files=True)
        index.build()
        first = index._maintenance.tier
        wanted = "coarse"
        for _ in range(2):
            index.build()
            assert index._maintenance.tier is first, "coarse was ruled out, and scan is not made again"
        index.close()
        again = opened(store, keep_files=True)
        assert again.status()["tier"] == "scan"
        good.add("coarse")
        again.build()
        assert again.status()["tier"] == "coarse"
        again.close()
        wanted = "scan"
        named = opened(store, "scan", keep_files=True)
        assert named.status()["tier"] == "exact", "a tier that is named is that one, or exact search"
        good.clear()
        named.build()
        named.close()
        wanted = "coarse"
        back = opened(store, keep_files=True)
        assert back.status()["tier"] == "exact", "what was named may find too little"
        back.close()


def test_codes_that_could_not_be_written_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance_module, "_UNWRITABLE_SECONDS", 0)
    codes = tmp_path / "derived/text.0-of-1.codes"
    with filled(tmp_path, 3000) as store:
        codes.parent.touch()
        index = opened(store, "scan", keep_files=True)
        index.build()
        assert "text.0-of-1.codes is not saved" in caplog.text
        codes.parent.unlink()
        index.build()
        assert codes.exists()
        written = codes.stat().st_ino
        index.build()
        assert codes.stat().st_ino == written, "once is enough"
        index.close()


def test_a_named_tier_that_finds_too_little_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recall = 0.9
    monkeypatch.setattr(maintenance_module, "measure_recall", lambda *given: Recall(recall, "as told"))
    with filled(tmp_path, 3000) as store:
        index = built(store, "scan")
        for first, measured, told in ((3000, 0.9, 1), (5000, 0.99, 1), (7000, 0.9, 2)):
            recall = measured
            put(store, first, vectors_like_captions(1100, seed=first))
            index.build()
            assert caplog.text.count("--index scan finds 0.900 of the best") == told
        index.close()
