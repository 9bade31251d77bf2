"""What the Flows do at each endpoint, in both layouts: index, delete, search and encode."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import TOY_DATA, TOY_IMAGES
from flow_process import FlowProcess

from crossmodal.images import decode_image
from crossmodal.models import load_image_encoder, load_preprocessing, load_text_encoder
from crossmodal.settings import Settings
from crossmodal.workspace import IMAGE_CONTENTS, IMAGE_VECTORS, TEXTS, Workspace
from crossmodal.flow.topology import FLOW_FILES, read_topology

CACHE = Path("~/.cache/crossmodal").expanduser()
PHOTOS = sorted(TOY_IMAGES.glob("*.jpg"))
with (TOY_DATA / "captions.txt").open(encoding="utf-8") as lines:
    # The first caption of each photo.
    CAPTIONS = {Path(row["image"]).stem: row["caption"] for row in reversed(list(csv.DictReader(lines)))}
SENTENCE = "people climb the stairs"
NAN = float("nan")
TAGS = {"coffee": {"year": 2019}, "grass": {"year": 2021}, "rocket": {"year": 1999, "place": "pad"}}


def photo(path: Path, **fields: Any) -> dict[str, Any]:
    return {"id": path.stem, "modality": "image", "blob": path.read_bytes(), "content_hash": "1", **fields}


def caption(id: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "modality": "text", "text": text, "content_hash": "1", **fields}


@dataclass
class Written:
    """A workspace that the index Flow wrote, with what it answered."""

    workspace: Path
    arguments: tuple[str, ...]
    indexed: dict[str, dict[str, Any]]
    deleted: dict[str, dict[str, Any]]
    again: dict[str, dict[str, Any]]


@pytest.fixture(
    scope="module",
    params=[("--layout", "fused"), ("--layout", "pods", "--shards", "2")],
    ids=["fused", "pods-2-shards"],
)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    workspace = tmp_path_factory.mktemp("written")
    docs = [photo(path, tags=TAGS.get(path.stem)) for path in PHOTOS]
    docs += [caption(f"{path.stem}-0", CAPTIONS[path.stem], tags=TAGS.get(path.stem)) for path in PHOTOS]
    docs += [caption("nan", "words", embedding=[NAN] * 512), caption("short", "words", embedding=[1.0])]
    docs += [photo(PHOTOS[0], id="nothing", embedding=[0.0] * 512)]
    gone = [{"id": "cat", "modality": "image"}, {"id": "cat-0", "modality": "text"}]
    gone += [{"id": "never", "modality": "image"}]
    with FlowProcess("index", workspace, *request.param) as flow:
        indexed = flow.post("/index", docs)
        deleted = flow.post("/delete", gone)
        again = flow.post("/delete", gone)
    return Written(
        workspace,
        request.param,
        *({doc["id"]: doc for doc in answers} for answers in (indexed, deleted, again)),
    )


@pytest.fixture(scope="module")
def querying(written: Written) -> Iterator[FlowProcess]:
    with FlowProcess("query", written.workspace, *written.arguments) as flow:
        yield flow


def trail(kind: str, modality: str, arguments: tuple[str, ...]) -> list[str]:
    shards = 2 if "2" in arguments else 1
    topology = read_topology(FLOW_FILES[kind], Settings(model="m", shards=shards).flow_environment())
    return sorted(topology.trail(SimpleNamespace(modality=modality)))


def test_an_embedding_that_cannot_be_used_fails_its_document_alone(written: Written) -> None:
    errors = {id: doc["error"] for id, doc in written.indexed.items() if doc["error"]}
    assert set(errors) == {"nan", "short", "nothing"}
    assert "not a finite number" in errors["nan"]
    assert "shape (1,)" in errors["short"]
    assert "length 0.0" in errors["nothing"]
    added = {doc["outcome"] for id, doc in written.indexed.items() if id not in errors}
    assert added == {"added"}
    assert {doc["embedding"] for doc in written.indexed.values()} == {None}


def test_deleting_says_what_there_was_and_leaves_nothing_of_it(written: Written) -> None:
    assert {id: doc["outcome"] for id, doc in written.deleted.items()} == {
        "cat": "deleted",
        "cat-0": "deleted",
        "never": None,
    }
    assert {doc["outcome"] for doc in written.again.values()} == {None}
    assert {doc["error"] for doc in [*written.deleted.values(), *written.again.values()]} == {None}
    with Workspace(written.workspace) as workspace:
        for name in (IMAGE_VECTORS, IMAGE_CONTENTS):
            assert workspace.get(name, "cat") is None
            assert workspace.get(name, "coffee") is not None
        assert workspace.get(TEXTS, "cat-0") is None
        assert workspace.content("cat") is None
        assert workspace.status()["modalities"]["text"]["documents"] == len(PHOTOS) - 1


def test_every_step_and_shard_is_on_the_trail_of_every_endpoint(
    written: Written, querying: FlowProcess
) -> None:
    for id, modality in (("cat", "image"), ("cat-0", "text")):
        for answers in (written.indexed, written.deleted):
            assert answers[id]["trail"] == trail("index", modality, written.arguments)
    for endpoint in ("/search", "/encode", "/status"):
        for doc in (photo(PHOTOS[0]), caption("q", SENTENCE)):
            (answer,) = querying.post(endpoint, [doc])
            assert answer["trail"] == trail("query", doc["modality"], written.arguments)


def test_each_shard_of_the_other_modality_tells_how_it_searches(
    written: Written, querying: FlowProcess
) -> None:
    shards = 2 if "--shards" in written.arguments else 1
    asked = [{"id": "photos", "modality": "text"}, {"id": "captions", "modality": "image"}]
    for answer, name in zip(querying.post("/status", asked), (IMAGE_VECTORS, TEXTS), strict=True):
        assert answer["error"] is None
        told = {id: tags for id, _, _, tags in answer["matches"]}
        assert sorted(told) == [f"{name}/{shard}" for shard in range(shards)]
        assert sum(tags["vectors"] for tags in told.values()) == len(PHOTOS) - 1
        for tags in told.values():
            assert tags | {"vectors": 0} == {
                "tier": "exact",
                "chosen": "auto",
                "vectors": 0,
                "coded": 0,
                "tail": 0,
                "dead": 0,
                "recall": 1,
                "recall_measured": "every vector is compared",
                "building": None,
            }


def test_encoding_gives_the_vectors_of_the_model(querying: FlowProcess) -> None:
    docs = [caption("a", SENTENCE), photo(TOY_IMAGES / "coffee.jpg"), caption("empty", " "), photo(PHOTOS[0])]
    docs[3]["blob"] = b"a letter"
    text, image, empty, letter = querying.post("/encode", docs)
    sentence = load_text_encoder("clip-mini", cache=CACHE).encode([SENTENCE])[0]
    pixels = decode_image(docs[1]["blob"], max_pixels=10**8)
    cropped = load_preprocessing("clip-mini", cache=CACHE).crop(pixels)
    coffee = load_image_encoder("clip-mini", cache=CACHE).encode(cropped[None])[0]
    np.testing.assert_allclose(text["embedding"], sentence, atol=1e-5)
    np.testing.assert_allclose(image["embedding"], coffee, atol=1e-5)
    assert "empty" in empty["error"]
    assert "not an image" in letter["error"]
    assert text["matches"] is image["matches"] is empty["embedding"] is letter["embedding"] is None


def test_a_vector_does_not_depend_on_what_it_is_encoded_together_with(querying: FlowProcess) -> None:
    docs = [caption(str(number), SENTENCE + " and up" * number) for number in range(6)]
    docs += [photo(path) for path in PHOTOS[:2]]
    together = querying.post("/encode", docs)
    alone = [answer for doc in docs for answer in querying.post("/encode", [doc])]
    assert [doc["embedding"] for doc in together] == [doc["embedding"] for doc in alone]


def test_an_embedding_searches_as_what_it_was_made_of(querying: FlowProcess) -> None:
    docs = [caption("sentence", SENTENCE), photo(TOY_IMAGES / "coffee.jpg")]
    by_content = querying.post("/search", docs, {"top_k": 9})
    embeddings = [doc["embedding"] for doc in querying.post("/encode", docs)]
    by_embedding = querying.post(
        "/search",
        [
            {"id": doc["id"], "modality": doc["modality"], "embedding": embedding}
            for doc, embedding in zip(docs, embeddings, strict=True)
        ],
        {"top_k": 9},
    )
    assert by_embedding == by_content
    assert [len(doc["matches"]) for doc in by_content] == [9, 9]
    assert by_content[0]["matches"][0][0] == "stair-tower"
    assert by_content[1]["matches"][0][2] == CAPTIONS["coffee"]


def test_the_modality_says_what_is_searched_wherever_the_embedding_came_from(querying: FlowProcess) -> None:
    photo_of_coffee, coffee = querying.post(
        "/encode", [photo(TOY_IMAGES / "coffee.jpg"), caption("c", CAPTIONS["coffee"])]
    )
    photos, captions, longer = querying.post(
        "/search",
        [
            {"id": "1", "modality": "text", "embedding": photo_of_coffee["embedding"]},
            {"id": "2", "modality": "image", "embedding": coffee["embedding"]},
            {"id": "3", "modality": "text", "embedding": [7 * x for x in photo_of_coffee["embedding"]]},
        ],
        {"top_k": 3},
    )
    assert photos["matches"][0][0] == "coffee"
    assert photos["matches"][0][1] == pytest.approx(1, abs=1e-5)
    assert captions["matches"][0][0] == "coffee-0"
    assert captions["matches"][0][1] == pytest.approx(1, abs=1e-5)
    # A vector of another length is scaled, so that scores are cosines.
    assert longer["matches"][0][1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize(
    ("embedding", "words"),
    [
        ([1.0, 0.0], "shape (2,)"),
        ([[1.0] * 512], "shape (1, 512)"),
        ([], "shape (0,)"),
        ([NAN] + [0.1] * 511, "not a finite number"),
        ([0.0] * 512, "length 0.0"),
    ],
    ids=["short", "matrix", "empty", "nan", "zero"],
)
def test_a_bad_query_vector_fails_alone(
    querying: FlowProcess, modality: str, embedding: list[Any], words: str
) -> None:
    bad = {"id": "bad", "modality": modality, "embedding": embedding}
    failed, good = querying.post("/search", [bad, caption("good", SENTENCE)], {"top_k": 2})
    assert words in failed["error"]
    assert not failed["matches"]
    assert good["error"] is None
    assert len(good["matches"]) == 2


@pytest.mark.parametrize("top_k", [0, -1, 2001, 2.5, "many", True])
def test_a_top_k_out_of_bounds_is_a_sentence(querying: FlowProcess, top_k: object) -> None:
    docs = [caption("a", SENTENCE), photo(TOY_IMAGES / "coffee.jpg")]
    for answer in querying.post("/search", docs, {"top_k": top_k}):
        assert "top_k is" in answer["error"]
        assert "from 1 to 2000" in answer["error"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"year": {"$gte": 2000}}, {"coffee", "grass"}),
        ({"year": 1999}, {"rocket"}),
        ({"$not": {"year": {"$exists": True}}}, {path.stem for path in PHOTOS} - set(TAGS) - {"cat"}),
        ({"place": "nowhere"}, set()),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_filter_is_applied_before_the_cut(
    querying: FlowProcess, wanted: dict[str, Any], found: set[str]
) -> None:
    docs = [caption("a", SENTENCE), photo(TOY_IMAGES / "coffee.jpg")]
    photos, captions = querying.post("/search", docs, {"top_k": max(len(found), 1), "filter": wanted})
    assert {match[0] for match in photos["matches"]} == found
    assert {match[0] for match in captions["matches"]} == {f"{id}-0" for id in found}
    every = querying.post("/search", docs, {"top_k": 100})
    for some, all_ in zip((photos, captions), every, strict=True):
        ids = {match[0] for match in some["matches"]}
        assert some["matches"] == [match for match in all_["matches"] if match[0] in ids]


def test_a_filter_that_cannot_be_used_is_a_sentence(querying: FlowProcess) -> None:
    docs = [caption("a", SENTENCE), photo(TOY_IMAGES / "coffee.jpg")]
    for answer in querying.post("/search", docs, {"filter": {"year": {"$above": 3}}}):
        assert "$above" in answer["error"]
        assert not answer["matches"]
