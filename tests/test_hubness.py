"""Documents are ranked by cosine minus hubness where a query seeks the other modality, and only there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from store_samples import VSE, caption, photo, some_banks, vector_of

from crossmodal import PhotoIndex
from crossmodal.data_sets import open_data_set
from crossmodal.documents import Document
from crossmodal.engine.engine import Engine
from crossmodal.errors import ModelError
from crossmodal.filters import parse_filter
from crossmodal.index.embedded.compared import merge_matches
from crossmodal.index.embedded.exact_index import ExactIndex
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.vector_index import VectorIndex
from crossmodal.models.hubness import HUBNESS_FILE, SHARPNESS, Banks
from crossmodal.models.native.checkpoint import SHIPPED
from crossmodal.models.registry import banks_of, find_native, identify_model
from crossmodal.query.composition import EncodedTerm, compose
from crossmodal.records import IMAGE, TEXT
from crossmodal.settings import Settings
from crossmodal.training.banks import centroids, write_banks
from crossmodal.training.pairs import collect_pairs, input_store

BOTH = np.array([True, False])


def vectors(names: list[str]) -> np.ndarray:
    return np.stack([vector_of(name) for name in names])


def filled(folder: Path, count: int) -> tuple[EmbeddedStore, list[str]]:
    names = [f"c{number:05d}" for number in range(count)]
    store = EmbeddedStore.open_writer(folder, identity=VSE)
    store.take_banks(some_banks())
    store.put([caption(name, f"text of {name}") for name in names], vectors(names))
    return store, names


def test_hubness_is_the_soft_maximum_over_the_bank_of_the_other_modality() -> None:
    banks, rows = some_banks(), vectors([f"a {number}" for number in range(40)])
    for modality, codes, sharpness in ((IMAGE, banks.text, 16), (TEXT, banks.image, 10)):
        bank = codes / np.linalg.norm(codes.astype(float), axis=1)[:, None]
        assert SHARPNESS[modality] == sharpness
        soft_maxima = np.log(np.exp(sharpness * rows @ bank.T).mean(axis=1)) / sharpness
        found = banks.hubness(rows, modality)
        np.testing.assert_allclose(found, soft_maxima, atol=1e-6)
        assert (banks.hubness(np.repeat(rows, 30, axis=0), modality) == np.repeat(found, 30)).all()


def test_banks_survive_their_file_and_damage_is_named(tmp_path: Path) -> None:
    banks = some_banks()
    assert Banks.load(tmp_path) is None
    banks.save(tmp_path)
    again = Banks.load(tmp_path)
    assert again is not None
    assert (again.fingerprint, again.weights) == (banks.fingerprint, banks.weights)
    (tmp_path / HUBNESS_FILE).write_bytes(banks.to_bytes()[:-9])
    with pytest.raises(ModelError, match="delete it to rank without"):
        Banks.load(tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_banks_belong_to_the_shipped_weights(name: str) -> None:
    identity = identify_model(name)
    banks = banks_of(identity)
    assert banks is not None
    assert (banks.weights, banks.fingerprint) == (identity.weights, identity.hubness)
    assert banks_of(replace(identity, weights="0" * 16)) is None
    assert banks_of(replace(identity, name=f"{name}?centering=/moved.safetensors")) is None
    shorter = banks_of(identify_model(f"{name}?dim=64"))
    assert shorter is not None
    assert shorter.image.shape == (600, 64)
    assert shorter.text.shape == (1500, 64)


@pytest.mark.parametrize("tier", ["exact", "scan", "coarse", "ivf", "ivfpq", "hnsw"])
def test_each_tier_ranks_by_cosine_minus_hubness(tmp_path: Path, tier: str) -> None:
    store, names = filled(tmp_path / "index", 3000)
    rows, hubness = vectors(names), some_banks().hubness(vectors(names), TEXT)
    queries = vectors(["one", "two"])
    with store:
        index = VectorIndex(store.vector_source(TEXT), keep_files=False, options=SearchOptions(index=tier))
        index.build()
        assert index.status()["tier"] == tier
        found = index.search(queries, 20, corrected=BOTH)
        for query, hits, taken_off in zip(queries, found, (hubness, 0 * hubness), strict=True):
            cosines = rows.astype(float) @ query
            best = sorted(zip(taken_off - cosines, names, strict=True))[:20]
            shared = {hit.id for hit in hits} & {name for _, name in best}
            # Inverted files look into some of their cells only; by the other order 6 or 7 would be shared.
            assert len(shared) >= {"exact": 20, "ivf": 14, "ivfpq": 14}.get(tier, 17)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            for hit in hits:
                place = names.index(hit.id)
                assert hit.cosine == pytest.approx(cosines[place], abs=1e-6)
                assert hit.score == hit.cosine - float(taken_off[place])
        assert [hits[:5] for hits in found] == index.search(queries, 5, corrected=BOTH)
        assert found[0] != index.search(queries, 20)[0]
        assert found[1] == index.search(queries[1:], 20)[0]
        index.close()


def test_shards_and_filters_rank_as_the_whole_does(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "index", 200)
    queries = vectors(["one", "two"])
    with store:
        whole = ExactIndex(store.vector_source(TEXT)).search(queries, 30, corrected=BOTH)
        parts = [
            ExactIndex(store.vector_source(TEXT, shard, 3)).search(queries, 30, corrected=BOTH)
            for shard in range(3)
        ]
        assert [merge_matches(found, 30) for found in zip(*parts, strict=True)] == whole
        everything = parse_filter({"nowhere": {"$exists": False}})
        assert ExactIndex(store.vector_source(TEXT)).search(queries, 30, everything, corrected=BOTH) == whole


def test_an_index_that_gets_banks_later_is_searched_anew_with_the_same_vectors(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(20)]
    with EmbeddedStore.open_writer(tmp_path / "index", identity=VSE) as store:
        store.put([photo(name) for name in names], vectors(names))
        index = VectorIndex(store.vector_source(IMAGE))
        query, corrected = vectors(["one"]), np.array([True])
        assert index.search(query, 20, corrected=corrected) == index.search(query, 20)
        before, id = store.vectors(names, IMAGE), store.id
        index.build()
        assert store.take_banks(some_banks()) == 20
        assert store.id != id
        hubness = some_banks().hubness(vectors(names), IMAGE)
        assert store.hubness(names, IMAGE) == dict(zip(names, hubness.tolist(), strict=True))
        for hit in index.search(query, 20, corrected=corrected)[0]:
            assert hit.score == hit.cosine - float(hubness[names.index(hit.id)])
        assert all((vector == before[name]).all() for name, vector in store.vectors(names, IMAGE).items())
        assert store.verify() == []
        index.close()
        with store._connections.write() as connection:
            connection.execute("UPDATE image_vectors SET hubness = 0.5 WHERE id = 'p3'")
        assert store.verify() == ["the hubness of 'p3', row 3, is not that of its vector"]
        with store._connections.write() as connection:
            connection.execute("UPDATE banks SET fingerprint = 'of an earlier formula'")
        assert store.verify() == []


@pytest.mark.parametrize("name", ["vse", "vse?dim=64"])
def test_an_index_takes_its_model_s_banks_once(tmp_path: Path, name: str) -> None:
    identity = identify_model(name)
    with EmbeddedStore.open_writer(tmp_path / "index", identity=identity) as store:
        store.put([photo("p1")], vector_of("p1", 0, identity.dimension)[None])
        id, banks = store.id, banks_of(identity)
    assert banks is not None
    with EmbeddedStore.open_writer(tmp_path / "index", identity=identity) as store:
        assert (store.id, store.banks_fingerprint) == (id, banks.fingerprint)
        store.take_banks(some_banks(identity.dimension))
    with EmbeddedStore.open_writer(tmp_path / "index", identity=identity) as store:
        assert store.id != id
        assert store.banks_fingerprint == banks.fingerprint


def test_hubness_is_taken_off_once_where_a_term_is_of_the_other_modality() -> None:
    sentence, picture = vectors(["a sentence", "a photo"])
    asks, shows = EncodedTerm(sentence, 1.0, TEXT), EncodedTerm(picture, 0.5, IMAGE)
    assert compose([asks], IMAGE).corrected
    assert not compose([asks], TEXT).corrected
    assert not compose([shows], IMAGE).corrected
    assert compose([asks, shows], IMAGE).corrected
    assert not compose([shows, replace(asks, weight=-1.0)], IMAGE).corrected


def test_an_index_of_a_shipped_model_ranks_by_it_and_answers_with_plain_cosines(toy_workspace: Path) -> None:
    with PhotoIndex(toy_workspace) as index, Engine(Settings(workspace=toy_workspace)) as engine:
        found = index.search_text("a dog", 15)
        query = Document.of_query("q", text="a dog")
        (answer,) = engine.run_query("search", [query], {"top_k": 15})
        hubness = engine.workspace.hubness([match.id for match in found], IMAGE)
        assert set(hubness.values()) != {0.0}
        by_both = sorted(found, key=lambda match: (hubness[match.id] - match.cosine, match.id))
        assert [match.id for match in found] == [match.id for match in by_both]
        assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
        vector = index.encode_text("a dog")
        photos = engine.workspace.vectors([match.id for match in found], IMAGE)
        for match in found:
            assert match.cosine == pytest.approx(float(photos[match.id] @ vector), abs=1e-5)
        assert [match.cosine for match in answer.matches or ()] == [match.cosine for match in found]
        # Of one modality: by cosine alone.
        cosines = [match.cosine for match in index.similar(found[0].id, 14)]
        assert cosines == sorted(cosines, reverse=True)
        assert engine.workspace.banks_fingerprint == identify_model(engine.model).hubness


def test_training_makes_banks_where_there_is_enough_to_make_them_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED["vse"], folder)
    (folder / HUBNESS_FILE).unlink()
    checkpoint = find_native(str(folder))
    assert checkpoint is not None
    assert checkpoint.banks is None
    inputs = input_store(tmp_path, checkpoint.preprocessing)
    pairs = collect_pairs(
        open_data_set("toy-data", data_root=REPOSITORY / "data"), {checkpoint.preprocessing: inputs}
    )
    assert write_banks(checkpoint, inputs, pairs, data="toys") is None
    monkeypatch.setattr("crossmodal.training.banks._LEAST", 5)
    monkeypatch.setattr("crossmodal.training.banks._BANK", {IMAGE: 5, TEXT: 7})
    banks = write_banks(checkpoint, inputs, pairs, data="toys")
    assert banks is not None
    assert (banks.image.shape, banks.text.shape) == ((5, 512), (7, 512))
    assert banks.data == "15 photos and 41 captions of toys"
    assert identify_model(str(folder)).hubness == banks.fingerprint


def test_centroids_are_the_means_of_what_is_near_them() -> None:
    near = [vector_of("one") + np.float32(0.01) * vector_of(f"a {n}") for n in range(20)]
    far = [vector_of("two") + np.float32(0.01) * vector_of(f"b {n}") for n in range(20)]
    rows = np.stack([*near, *far])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = centroids(rows, 2)
    expected = np.stack([rows[:20].mean(axis=0), rows[20:].mean(axis=0)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(found @ expected.T).max(axis=1) == pytest.approx([1, 1], abs=1e-6)
