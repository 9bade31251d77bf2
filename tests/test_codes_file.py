"""The derived file of codes: read by whoever opens the index next, made anew when damaged or not of it."""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from store_samples import caption, run_python

from crossmodal.index.embedded import maintenance as maintenance_module
from crossmodal.index.embedded.codes import Recall
from crossmodal.index.embedded.derived_file import codes_file, stored_tier
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.search_file import SearchFile, save_vectors
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex

COUNT = 2500
SCAN = SearchOptions.of("scan")
CODES = "derived/text.0-of-1.codes"
VECTORS = "derived/text.0-of-1.vectors"


def vectors(count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def filled(folder: Path, seed: int = 1) -> EmbeddedStore:
    store = EmbeddedStore.open_writer(folder)
    store.put([caption(f"c{n:04d}", "text") for n in range(COUNT)], vectors(COUNT, seed))
    return store


@pytest.fixture(autouse=True)
def _nothing_is_built_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say when to build; the thread that does so by itself would begin after a few seconds."""
    monkeypatch.setattr(maintenance_module, "_GRACE_SECONDS", 3600)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its derived files."""
    folder = tmp_path_factory.mktemp("built") / "store"
    with filled(folder) as store:
        save_vectors(store.vector_source("text"))
        index = VectorIndex(store.vector_source("text"), options=SCAN)
        index.build()
        index.close()
    return folder


@pytest.fixture
def folder(workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workspace, tmp_path / "store"))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tiers that codes were trained for."""
    tiers: list[str] = []
    train = maintenance_module.train_codes

    def noted(tier: str, *given: object, **named: object) -> object:
        tiers.append(tier)
        return train(tier, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(maintenance_module, "train_codes", noted)
    return tiers


def opened(store: EmbeddedStore, options: SearchOptions = SCAN) -> VectorIndex:
    index = VectorIndex(store.vector_source("text"), options=options)
    index._maintenance.close()
    return index


def test_the_next_one_reads_the_codes_and_what_was_measured(folder: Path, trainings: list[str]) -> None:
    assert sorted((folder / "derived").iterdir()) == [folder / CODES, folder / VECTORS]
    with EmbeddedStore.open_reader(folder) as store:
        index = opened(store)
        status = index.status()
        assert (status["tier"], status["coded"], status["tail"]) == ("scan", COUNT, 0)
        assert status["recall"] > 0.9
        assert "64 made of stored vectors" in status["recall_measured"]
        queries = vectors(5, seed=2)
        assert [len(matches) for matches in index.search(queries, 20)] == [20] * 5
    assert trainings == []


def test_codes_that_fall_behind_are_extended_and_kept(folder: Path, trainings: list[str]) -> None:
    with EmbeddedStore.open_writer(folder) as store:
        store.put([caption(f"d{n}", "text") for n in range(1100)], vectors(1100, 3))
        index = VectorIndex(store.vector_source("text"), options=SCAN)
        assert index.status()["tail"] == 1100
        index.build()
        index.close()
        assert opened(store).status()["coded"] == COUNT + 1100
    assert trainings == []


@pytest.mark.parametrize("where", [0, 9, 13, 18, 30, 0.3, 0.6, 0.99])
def test_flipped_bit(folder: Path, where: float, caplog: pytest.LogCaptureFixture) -> None:
    file = folder / CODES
    raw = bytearray(file.read_bytes())
    raw[where if isinstance(where, int) else int(where * len(raw))] ^= 1
    file.write_bytes(raw)
    with caplog.at_level(logging.WARNING), EmbeddedStore.open_reader(folder) as store:
        assert opened(store).status()["tier"] == "exact"
    assert "text.0-of-1.codes is not used" in caplog.text


@pytest.mark.parametrize("length", [0, 20, 5000])
def test_truncated_file(folder: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    (folder / CODES).write_bytes((folder / CODES).read_bytes()[:length])
    with caplog.at_level(logging.WARNING), EmbeddedStore.open_reader(folder) as store:
        assert opened(store).status()["tier"] == "exact"
    assert "text.0-of-1.codes is not used" in caplog.text


def test_codes_of_another_store(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with filled(tmp_path / "other", seed=5) as other:
        shutil.copytree(folder / "derived", tmp_path / "other" / "derived")
        assert opened(other).status()["tier"] == "exact"
    assert "not of this store" in caplog.text


def test_codes_that_faiss_cannot_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = codes_file(folder / CODES)
    header, arrays = file.read()
    file.write([("rows", [arrays["rows"]]), ("index", [arrays["index"][4:]])], header)
    with caplog.at_level(logging.WARNING), EmbeddedStore.open_reader(folder) as store:
        assert opened(store).status()["tier"] == "exact"
    assert "this version of faiss cannot read" in caplog.text


def test_codes_of_a_tier_that_finds_too_little_are_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "suitable_tier", lambda *given: "scan")
    monkeypatch.setattr(maintenance_module, "measure_recall", lambda *given: Recall(0.5, "as told"))
    with EmbeddedStore.open_writer(folder) as store:
        index = VectorIndex(store.vector_source("text"))
        assert index.status()["tier"] == "scan"
        store.put([caption(f"d{n}", "text") for n in range(1100)], vectors(1100, 3))
        index.build()
        assert index.status()["tier"] == "exact"
        assert stored_tier(folder, "text", store.id)["tier"] == "exact"
        index.close()


def test_codes_of_other_parameters_are_made_anew(folder: Path, trainings: list[str]) -> None:
    with EmbeddedStore.open_reader(folder) as store:
        index = VectorIndex(store.vector_source("text"), options=SearchOptions.of("ivf", {"cells": 8}))
        assert index.status()["tier"] == "exact"
        index.build()
        assert index.status()["tier"] == "ivf"
        index.close()
    assert trainings == ["ivf"]


def test_a_folder_that_cannot_be_written_only_costs_time(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(folder / "derived")
    (folder / "derived").touch()
    with EmbeddedStore.open_reader(folder) as store:
        index = VectorIndex(store.vector_source("text"), options=SCAN)
        index.build()
        assert index.status()["tier"] == "scan"
        index.build()
        index.close()
    assert caplog.text.count("text.0-of-1.codes is not saved") == 1


def test_killed_while_writing_codes_leaves_the_old_ones(folder: Path) -> None:
    before = (folder / CODES).read_bytes()
    code = """
import os, signal, sys
from pathlib import Path
from crossmodal.index.embedded import derived_file
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex
derived_file.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
source = EmbeddedStore.open_reader(Path(sys.argv[1])).vector_source("text")
VectorIndex(source, options=SearchOptions.of("lsh")).build()
"""
    assert run_python(code, folder).returncode == -9
    assert (folder / CODES).read_bytes() == before
    with EmbeddedStore.open_reader(folder) as store:
        assert opened(store).status()["tier"] == "scan"


def test_vectors_are_saved_again_when_enough_has_changed(folder: Path) -> None:
    file = SearchFile(folder / VECTORS)
    with EmbeddedStore.open_writer(folder) as store:
        store.put([caption(f"e{n}", "text") for n in range(10)], vectors(10, 4))
        assert save_vectors(store.vector_source("text"))
        source = file.source()
        assert source is not None
        assert (source.count, source.sequence) == (COUNT, 1)
        store.put([caption(f"f{n}", "text") for n in range(100)], vectors(100, 4))
        assert save_vectors(store.vector_source("text"))
        source = file.source()
        assert source is not None
        assert (source.count, source.sequence) == (COUNT + 110, 3)


def test_an_index_without_a_file_writes_it_and_lets_go_of_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "_FEW_UNSAVED", 1000)
    with filled(tmp_path) as store:
        index = VectorIndex(store.vector_source("text"))
        query = vectors(3, seed=6)
        expected = index.search(query, 10)
        assert len(index._exact.view().tail) == COUNT
        index.build()
        assert len(index._exact.view().base) == COUNT
        assert len(index._exact.view().tail) == 0
        assert index.search(query, 10) == expected
        store.delete(["c0001"])
        store.put([caption("late", "text")], query[:1])
        assert index.search(query, 1)[0][0][0] == "late"
        assert len(index) == COUNT
        index.close()


def test_what_another_process_is_writing_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "_FEW_UNSAVED", 1000)
    monkeypatch.setattr(maintenance_module, "_UNWRITABLE_SECONDS", 0)
    file = tmp_path / VECTORS
    file.parent.mkdir()
    with filled(tmp_path) as store, file.with_name(f"{file.name}.tmp").open("wb") as being_written:
        index = VectorIndex(store.vector_source("text"))
        fcntl.flock(being_written, fcntl.LOCK_EX)
        index.build()
        assert not file.exists()
        fcntl.flock(being_written, fcntl.LOCK_UN)
        index.build()
        assert file.exists()
        index.close()


def test_what_was_measured_is_read_without_faiss_and_without_the_codes(folder: Path) -> None:
    with EmbeddedStore.open_reader(folder) as store:
        index = VectorIndex(store.vector_source("text"), options=SCAN)
        told = index.status()
        index.close()
        id = store.id
    assert stored_tier(folder, "text", id) == {
        name: told[name] for name in ("tier", "recall", "recall_measured")
    }
    assert told["tier"] == "scan"
    # Codes of another modality or index, or damaged ones, are not used by a search either.
    assert stored_tier(folder, "image", id)["tier"] == "exact"
    assert stored_tier(folder, "text", "another")["tier"] == "exact"
    (folder / CODES).write_bytes(b"XMVCODES")
    assert stored_tier(folder, "text", id)["tier"] == "exact"


@pytest.mark.parametrize("name", ["store", "tier", "recall", "arrays", "next_row", "rows"])
def test_a_header_with_a_damaged_name_is_as_good_as_none(folder: Path, name: str) -> None:
    for file in (folder / CODES, folder / VECTORS):
        content = file.read_bytes()
        before, found, after = content.rpartition(f'"{name}"'.encode())
        file.write_bytes(before + found.upper() + after)
    with EmbeddedStore.open_writer(folder) as store:
        assert stored_tier(folder, "text", store.id)["tier"] in ("exact", "scan")
        assert save_vectors(store.vector_source("text"))
        assert SearchFile(folder / VECTORS).read().source.store_id == store.id


def test_of_several_shards_the_worst_is_told(folder: Path) -> None:
    file = codes_file(folder / CODES)
    header, arrays = file.read()
    for shard, recall in enumerate((0.97, 0.94, 0.99)):
        codes_file(folder / f"derived/text.{shard}-of-3.codes").write(
            [(name, [array]) for name, array in arrays.items()],
            {**header, "recall": recall, "recall_measured": f"in shard {shard}"},
        )
    file.path.unlink()
    assert stored_tier(folder, "text", header["store"]) == {
        "tier": "scan",
        "recall": 0.94,
        "recall_measured": "in shard 1",
    }
