"""Multi-vector networks and jina-reranker-m0 give what they compute, and regions of photos are kept."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOY_IMAGES, run_here
from numpy.typing import NDArray
from PIL import Image
from small_vlms import save_small_colpali, save_small_colqwen2, save_small_jina

from crossmodal import PhotoIndex
from crossmodal.deadlines import Deadline, until
from crossmodal.errors import DataError, DeadlinePassed, ModelError
from crossmodal.match import Match
from crossmodal.query.request import Rerank
from crossmodal.rerankers import Item, Regions, load_reranker
from crossmodal.rerankers.multi_vector import _MultiVector
from crossmodal.workspace import Workspace

PHOTOS = [Item(photo=path.read_bytes()) for path in sorted(TOY_IMAGES.glob("*.jpg"))[:4]]
CAPTIONS = [Item("a cat"), Item("people climb the stairs")]

KINDS = {"colpali": save_small_colpali, "colqwen2": save_small_colqwen2, "jina-reranker-m0": save_small_jina}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(tmp_path_factory.mktemp("small") / name) for name, save in KINDS.items()}


@pytest.fixture
def workspace(toy_workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_workspace, tmp_path / "workspace"))


@pytest.fixture
def index(workspace: Path, folders: dict[str, Path]) -> Iterator[PhotoIndex]:
    with PhotoIndex(workspace, rerank=f"colpali:{folders['colpali']}") as index:
        yield index


def picture(item: Item) -> Image.Image:
    return Image.open(io.BytesIO(item.photo or b"")).convert("RGB")


def plain_network(name: str, kind: str, folder: Path) -> tuple[Any, Any]:
    from crossmodal.models.libraries import import_transformers

    library = import_transformers()
    processor = getattr(library, f"{kind}Processor").from_pretrained(folder)
    return getattr(library, name).from_pretrained(folder).eval(), processor


@pytest.mark.parametrize(("name", "kind"), [("colpali", "ColPali"), ("colqwen2", "ColQwen2")])
def test_each_token_takes_the_region_that_fits_it_best(
    name: str, kind: str, folders: dict[str, Path]
) -> None:
    import torch

    network, processor = plain_network(f"{kind}ForRetrieval", kind, folders[name])

    def vectors(inputs: Any) -> NDArray[np.float32]:
        inputs.pop("labels", None)
        with torch.no_grad():
            found: NDArray[np.float32] = network(**inputs).embeddings[0].numpy()
        return found

    reranker = load_reranker(f"{name}:{folders[name]}")
    given = reranker(CAPTIONS[0], PHOTOS)
    assert len(set(given)) == len(PHOTOS)
    tokens = vectors(processor.process_queries(["a cat"]))
    for photo, value in zip(PHOTOS, given, strict=True):
        cosines = tokens @ vectors(processor.process_images([picture(photo)])).T
        # As int8 the eight components of a region are off by less than 1/254 each.
        assert value == pytest.approx(cosines.max(axis=1).sum(), abs=len(tokens) * np.sqrt(8) / 254)
    captions = reranker(PHOTOS[0], CAPTIONS)
    assert captions == [reranker(caption, PHOTOS[:1])[0] for caption in CAPTIONS]
    for query, others in ((CAPTIONS[0], CAPTIONS), (PHOTOS[0], PHOTOS)):
        with pytest.raises(DataError, match="compares a sentence with photos"):
            reranker(query, others)


def test_regions_take_a_byte_a_number_and_lose_little() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 128)).astype(np.float32)
    vectors[7] = 0
    regions = Regions.of(vectors)
    assert (regions.values.dtype, regions.values.nbytes, regions.scales.shape) == (np.int8, 50 * 128, (50,))
    assert np.all(np.abs(regions.vectors - vectors) <= np.abs(vectors).max(axis=1, keepdims=True) / 253)


def test_jinas_head_reads_the_token_behind_document_and_query(folders: dict[str, Path]) -> None:
    import torch
    from safetensors.torch import load_file

    folder = folders["jina-reranker-m0"]
    network, processor = plain_network("Qwen2VLModel", "Qwen2VL", folder)
    head = {
        name: weight.double().numpy()
        for name, weight in load_file(folder / "model.safetensors").items()
        if name.startswith("score.")
    }
    shown = "<|vision_start|><|image_pad|><|vision_end|>"

    def by_hand(document: str, query: str, *photos: Item) -> float:
        inputs = processor(
            text=[f"**Document**:\n{document}\n**Query**:\n{query}"],
            images=[picture(photo) for photo in photos] or None,
            size={"shortest_edge": 56 * 56, "longest_edge": 768 * 28 * 28},
            return_tensors="pt",
        )
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[100]])], 1)
        for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            inputs[name] = torch.cat([inputs[name], torch.tensor([[value]])], 1)
        with torch.no_grad():
            last = network(**inputs).last_hidden_state[0, -1].double().numpy()
        hidden = np.maximum(0, head["score.0.weight"] @ last + head["score.0.bias"])
        logit = head["score.2.weight"] @ hidden + head["score.2.bias"] - 2.65
        return float(1 / (1 + np.exp(-logit[0])))

    reranker = load_reranker(f"jina-reranker-m0:{folder}")
    given = reranker(CAPTIONS[0], PHOTOS)
    assert len(set(given)) == len(PHOTOS)
    assert given == pytest.approx([by_hand(shown, "a cat", photo) for photo in PHOTOS], rel=1e-3)
    captions = reranker(PHOTOS[0], CAPTIONS)
    assert captions == pytest.approx(
        [by_hand(caption.text or "", shown, PHOTOS[0]) for caption in CAPTIONS], rel=1e-3
    )
    pair = by_hand(shown, shown, PHOTOS[1], PHOTOS[0])
    assert reranker(PHOTOS[0], PHOTOS[1:2]) == pytest.approx([pair], rel=1e-3)
    # Nobody makes a photo of a caption.
    assert len(reranker(PHOTOS[0], [Item("a cat <|image_pad|>")])) == 1


def test_jina_looks_at_the_deadline_between_candidates(folders: dict[str, Path]) -> None:
    reranker = load_reranker(f"jina-reranker-m0:{folders['jina-reranker-m0']}")
    waiting = Deadline(60)
    waiting.give_up()
    with until(waiting), pytest.raises(DeadlinePassed):
        reranker(CAPTIONS[0], PHOTOS)


def test_who_chooses_jinas_weights_learns_their_licence(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    load_reranker(f"jina-reranker-m0:{folders['jina-reranker-m0']}")
    assert "non-commercial use only (CC-BY-NC 4.0)" in caplog.text


def by_id(matches: Any) -> dict[str, float]:
    assert matches.reranked.applied, matches.reranked.why
    return {match.id: match.reranked for match in matches}


def kept(workspace: Path) -> list[str]:
    with sqlite3.connect(workspace / "derived" / "image.regions") as connection:
        return [id for (id,) in connection.execute("SELECT photo FROM regions ORDER BY photo")]


def never(*_: object) -> Regions:
    raise AssertionError("a photo was looked at again")


def test_regions_are_kept_for_the_next_search_as_long_as_the_photo_is_there(
    index: PhotoIndex, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: list[Match] = list(index.search("a cat", 15))
    assert not (workspace / "derived" / "image.regions").exists()
    found = index.search("a cat", 15, rerank=Rerank())
    first = by_id(found)
    assert [match.id for match in found] == sorted(first, key=lambda id: -first[id])
    assert [match.id for match in found] != [match.id for match in plain]
    assert kept(workspace) == sorted(first)
    with Workspace(workspace) as opened:
        # Of each photo 16 regions and the 8 tokens of its prompt, 8 bytes and a scale each.
        assert opened.status(parts=True)["bytes_of"]["regions"] > 15 * 24 * 12
    with monkeypatch.context() as patched:
        patched.setattr(_MultiVector, "regions", never)
        assert by_id(index.search("a cat", 15, rerank=Rerank())) == first
        assert by_id(index.search("a red rocket", 15, rerank=Rerank())) != first
    similar = index.similar(plain[0].id, 5, rerank=Rerank()).reranked
    assert similar is not None
    assert similar.why == "The reranker colpali compares a sentence with photos, or a photo with captions."
    captions = index.search(TOY_IMAGES / "cat.jpg", 9, rerank=Rerank())
    assert len(by_id(captions)) == 9
    gone = plain[0].id
    assert index.delete([gone])
    index.close()
    assert kept(workspace) == sorted(set(first) - {gone})


def spoiled(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)


def changed(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE regions SET content = zeroblob(length(content))")


@pytest.mark.parametrize("harm", [spoiled, changed, Path.unlink])
def test_losing_what_is_kept_costs_time_only(
    index: PhotoIndex, workspace: Path, harm: Callable[[Path], None]
) -> None:
    first = by_id(index.search("a cat", 15, rerank=Rerank()))
    harm(workspace / "derived" / "image.regions")
    assert by_id(index.search("a cat", 15, rerank=Rerank())) == first
    assert by_id(index.search("a cat", 15, rerank=Rerank())) == first
    assert kept(workspace) == sorted(first)


def test_a_search_that_was_too_late_has_not_been_for_nothing(
    index: PhotoIndex, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = _MultiVector.regions

    def slow(self: _MultiVector, photo: bytes) -> Regions:
        time.sleep(0.2)
        return quick(self, photo)

    monkeypatch.setattr(_MultiVector, "regions", slow)
    plain = [match.id for match in index.search("a cat", 15)]
    found = index.search("a cat", 15, rerank=Rerank(seconds=1))
    assert [match.id for match in found] == plain
    assert found.reranked is not None
    assert "within 1 seconds" in (found.reranked.why or "")
    assert 0 < len(kept(workspace)) < 15
    tries = 1
    while not index.search("a cat", 15, rerank=Rerank(seconds=1)).reranked.applied:  # type: ignore[union-attr]
        tries += 1
        assert tries < 15
    assert len(kept(workspace)) == 15


def test_an_evaluation_takes_one(folders: dict[str, Path]) -> None:
    asked = ("evaluate", "-d", "toy-data", "--direction", "text2image", "--json", "--rerank-depth", "3")
    done = run_here(*asked, "--rerank", f"colqwen2:{folders['colqwen2']}")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["text2image"]["hit@1"] < 60


@pytest.mark.parametrize("name", KINDS)
def test_what_cannot_be_loaded_says_what_to_do(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="can be loaded"):
        load_reranker(f"{name}:{tmp_path}")
    other = "colpali" if name == "colqwen2" else "colqwen2"
    with pytest.raises(ModelError, match=r"holds a model of the type 'col|holds no|lacks"):
        load_reranker(f"{name}:{folders[other]}")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=rf"cannot be downloaded.* use --rerank {name}:FOLDER"):
        load_reranker(name, cache=tmp_path)
