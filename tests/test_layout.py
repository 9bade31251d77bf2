"""The map of the photos: like lies by like, computed once and kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from asgi_client import AsgiClient, serving_in
from numpy.typing import NDArray

from crossmodal.engine.layout import Layouts
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.query.plane import laid_out, reduced
from crossmodal.records import Record
from crossmodal.workspace import Workspace

CLUSTERS = 8


def clustered(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of unit length in clusters, and in which each is."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(CLUSTERS, 64))
    cluster = random.integers(CLUSTERS, size=count)
    vectors = centres[cluster] + 0.7 * random.normal(size=(count, 64))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), cluster


def share_of_own(places: NDArray[np.float32], cluster: NDArray[np.int64]) -> float:
    """How many of the 5 nearest on the plane are of the same cluster."""
    apart = np.square(places[:, None] - places[None]).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :5]
    return float((cluster[nearest] == cluster[:, None]).mean())


def test_like_lies_by_like() -> None:
    vectors, cluster = clustered(400)
    points = reduced(lambda: [vectors[:150], vectors[150:]])
    places = laid_out(points)
    assert places is not None
    assert (places.shape, places.dtype) == ((400, 2), np.float32)
    assert places.min() >= 0
    assert places.max() <= 1
    assert np.ptp(places, axis=0).max() == pytest.approx(1)
    assert share_of_own(places, cluster) > 0.97
    again = laid_out(points)
    assert again is not None
    np.testing.assert_array_equal(again, places)


def test_more_than_are_laid_out_lie_between_those_that_they_are_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossmodal.query.plane._MOST", 150)
    vectors, cluster = clustered(400)
    places = laid_out(reduced(lambda: [vectors]))
    assert places is not None
    assert share_of_own(places, cluster) > 0.95


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17])
def test_few_photos_have_places_too(count: int) -> None:
    vectors, _ = clustered(count)
    places = laid_out(reduced(lambda: [vectors] if count else []))
    assert places is not None
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_equal_photos_and_a_single_dimension_are_no_trouble() -> None:
    for vectors in (np.ones((30, 8), np.float32), np.linspace(0, 1, 30, dtype=np.float32)[:, None]):
        places = laid_out(reduced(lambda same=vectors: [same]))
        assert places is not None
        assert np.isfinite(places).all()


def put(path: Path, start: int, count: int) -> None:
    vectors, _ = clustered(count, seed=start)
    with EmbeddedStore.open_writer(path) as store:
        store.put([Record(f"p{start + number:04}", "image") for number in range(count)], vectors)


def test_it_is_computed_once_kept_and_made_anew_where_much_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, 0, 100)
    (tmp_path / "derived").mkdir(exist_ok=True)
    with Workspace(tmp_path) as workspace:
        layouts = Layouts(workspace)
        first = layouts.current(wait=True)
        assert (len(first.ids), first.total, first.computing) == (100, 100, False)
        # Another process reads what was computed.
        with monkeypatch.context() as context:
            context.setattr("crossmodal.engine.layout.laid_out", None)
            other = Layouts(workspace)
            assert other.current().ids == first.ids
            np.testing.assert_array_equal(other.current().places, first.places)
            # Few came: they have no place yet.
            put(tmp_path, 100, 4)
            few = other.current()
            assert (len(few.ids), few.total, few.computing) == (100, 104, False)
        with EmbeddedStore.open_writer(tmp_path) as store:
            store.delete([f"p{number:04}" for number in range(10)])
        changed = layouts.current()
        assert changed.computing
        assert "p0000" not in changed.ids
        anew = layouts.current(wait=True)
        assert (len(anew.ids), anew.total, anew.computing) == (94, 94, False)
        layouts.close()


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    put(tmp_path, 0, 30)
    (tmp_path / "derived").mkdir(exist_ok=True)
    with Workspace(tmp_path) as workspace:
        whole = Layouts(workspace).current(wait=True)
        file = tmp_path / "derived" / "image.layout"
        assert file.stat().st_mode & 0o777 == 0o600
        for content in (b"", b"no zip", file.read_bytes()[:-30]):
            file.write_bytes(content)
            assert Layouts(workspace).current(wait=True).ids == whole.ids
            assert Layouts(workspace).current().ids == whole.ids


def test_by_http_it_comes_when_it_is_ready(tmp_path: Path) -> None:
    put(tmp_path, 0, 60)
    with serving_in(tmp_path) as serving:
        http = AsgiClient(serving)
        answer = http.get("/v1/layout").json()
        while answer["computing"]:
            time.sleep(0.05)
            answer = http.get("/v1/layout").json()
        assert (answer["placed"], answer["total"]) == (60, 60)
        assert {len(answer[name]) for name in ("ids", "x", "y", "colours")} == {60}
        assert answer["colours"][0] is None, "it has no thumbnail"
        some = http.get("/v1/layout?limit=7").json()
        assert len(set(some["ids"])) == len(some["x"]) == 7
        place = answer["ids"].index(some["ids"][3])
        assert (some["x"][3], some["y"][3]) == (answer["x"][place], answer["y"][place])
        wanted = json.dumps({"$ids": [*some["ids"][:2], "gone"]})
        two = http.get("/v1/layout", params={"filter": wanted}).json()
        assert (two["ids"], two["x"], two["placed"]) == (some["ids"][:2], some["x"][:2], 2)
        assert http.get("/v1/layout?limit=0").status_code == 422


def test_closing_gives_up_what_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, 0, 60)
    entered, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def held_up(blocks: Callable[[], Iterable[NDArray[np.float32]]]) -> NDArray[np.float32]:
        entered.set()
        go_on.wait(30)
        for block in blocks():
            seen.append(len(block))
        return reduced(blocks)

    with Workspace(tmp_path) as workspace, ThreadPoolExecutor(2) as threads:
        layouts = Layouts(workspace)
        with monkeypatch.context() as patch:
            patch.setattr("crossmodal.engine.layout.reduced", held_up)
            waiting = threads.submit(layouts.current, wait=True)
            entered.wait(30)
            closing = threads.submit(layouts.close)
            time.sleep(0.05)
            go_on.set()
            closing.result()
            # Who waited is told what there is, and begins nothing anew.
            assert waiting.result().computing
        assert seen == []
        assert layouts.current(wait=True).total == len(layouts.current().ids) == 60
        layouts.close()


def test_without_an_index_there_is_nothing(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        assert Layouts(workspace).current(wait=True).ids == ()
