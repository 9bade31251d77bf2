"""What the Flows do at each operation, in both layouts: index, delete, search, encode and status."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOY_DATA, TOY_IMAGES
from needs_jina import needs_jina

from crossmodal.documents import Document
from crossmodal.engine.opening import local_flow
from crossmodal.filters import parse_filter
from crossmodal.flow.runner import Flow
from crossmodal.flow.topology import FlowKind
from crossmodal.images import decode_image
from crossmodal.jina.pods import open_pods
from crossmodal.models import load_image_encoder, load_preprocessing, load_text_encoder
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

CACHE = Path("~/.cache/crossmodal").expanduser()
PHOTOS = sorted(TOY_IMAGES.glob("*.jpg"))
with (TOY_DATA / "captions.txt").open(encoding="utf-8") as lines:
    # The first caption of each photo.
    CAPTIONS = {Path(row["image"]).stem: row["caption"] for row in reversed(list(csv.DictReader(lines)))}
SENTENCE = "people climb the stairs"
NAN = float("nan")
TAGS = {"coffee": {"year": 2019}, "grass": {"year": 2021}, "rocket": {"year": 1999, "place": "pad"}}


def record(id: str, **fields: Any) -> Document:
    """A document to index: a caption, or a photo where there is ``content``."""
    modality: Modality = "image" if "content" in fields else "text"
    embedding = fields.pop("embedding", None)
    doc = Document.of_record(Record(id, modality, content_hash="1", **fields))
    doc.embedding = None if embedding is None else np.array(embedding, np.float32)
    return doc


def sentence(id: str, text: str = SENTENCE) -> Document:
    """A query that looks for photos."""
    return Document.of_query(id, text=text)


def coffee(id: str = "coffee") -> Document:
    """A query that looks for captions."""
    return Document.of_query(id, content=(TOY_IMAGES / "coffee.jpg").read_bytes())


def vector(id: str, embedding: Any, seeks: Modality, *, corrected: bool | None = None) -> Document:
    """A query that is a vector alone."""
    return Document.of_query(id, vector=np.asarray(embedding, np.float32), seeks=seeks, corrected=corrected)


def run(
    flow: Flow, operation: Any, docs: Sequence[Document], parameters: Mapping[str, Any] | None = None
) -> list[Document]:
    """What a Flow answers, in the order of ``docs``."""
    answered = {doc.id: doc for doc in flow.run(operation, docs, parameters)}
    return [answered[doc.id] for doc in docs]


def found(doc: Document) -> list[tuple[Any, ...]]:
    """The matches of a document."""
    return [(match.id, match.cosine, match.text, match.uri, match.tags) for match in doc.matches or ()]


def embedded(doc: Document) -> list[float]:
    """The embedding of a document."""
    assert doc.embedding is not None, doc.error
    return [float(value) for value in doc.embedding]


def open_flow(kind: FlowKind, settings: Settings) -> Flow:
    """The Flow in the layout that the settings say."""
    if settings.layout == "pods":
        return open_pods(kind, settings)
    return local_flow(kind, settings.flow_environment())


@dataclass
class Written:
    """An index that the index Flow wrote, with what it answered."""

    settings: Settings
    indexed: dict[str, Document]
    deleted: dict[str, Document]
    again: dict[str, Document]


def gone() -> list[Document]:
    """What is to be deleted."""
    return [Document("cat", "image"), Document("cat-0", "text"), Document("never", "image")]


@pytest.fixture(
    scope="module",
    params=[("fused", 1), ("fused", 3), pytest.param(("pods", 2), marks=needs_jina)],
    ids=["fused", "fused-3-shards", "pods-2-shards"],
)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    layout, shards = request.param
    workspace = tmp_path_factory.mktemp("written")
    settings = Settings(workspace=workspace, model="clip-mini", layout=layout, shards=shards)
    tags = {path.stem: TAGS.get(path.stem, {}) for path in PHOTOS}
    docs = [record(path.stem, content=path.read_bytes(), tags=tags[path.stem]) for path in PHOTOS]
    docs += [record(f"{id}-0", text=CAPTIONS[id], tags=tags[id]) for id in tags]
    docs += [record("nan", text="words", embedding=[NAN] * 512)]
    docs += [record("short", text="words", embedding=[1.0])]
    docs += [record("nothing", content=PHOTOS[0].read_bytes(), embedding=[0.0] * 512)]
    flow = open_flow("index", settings)
    try:
        answers = [run(flow, "index", docs), run(flow, "delete", gone()), run(flow, "delete", gone())]
    finally:
        flow.close()
    return Written(settings, *({doc.id: doc for doc in answer} for answer in answers))


@pytest.fixture(scope="module")
def querying(written: Written) -> Iterator[Flow]:
    flow = open_flow("query", written.settings)
    yield flow
    flow.close()


def test_an_embedding_that_cannot_be_used_fails_its_document_alone(written: Written) -> None:
    errors = {id: str(doc.error) for id, doc in written.indexed.items() if doc.error}
    assert set(errors) == {"nan", "short", "nothing"}
    assert "not a finite number" in errors["nan"]
    assert "shape (1,)" in errors["short"]
    assert "length 0.0" in errors["nothing"]
    assert {doc.outcome for id, doc in written.indexed.items() if id not in errors} == {"added"}
    assert all(doc.record is not None for doc in written.indexed.values())


def test_deleting_says_what_there_was_and_leaves_nothing_of_it(written: Written) -> None:
    assert {id: doc.outcome for id, doc in written.deleted.items()} == {
        "cat": "deleted",
        "cat-0": "deleted",
        "never": None,
    }
    assert {doc.outcome for doc in written.again.values()} == {None}
    assert {doc.error for doc in [*written.deleted.values(), *written.again.values()]} == {None}
    with Workspace(written.settings.workspace) as workspace:
        assert workspace.get("cat", IMAGE) is None
        assert workspace.get("coffee", IMAGE) is not None
        assert workspace.get("cat-0", TEXT) is None
        assert workspace.content("cat") is None
        assert workspace.status()["modalities"]["text"]["documents"] == len(PHOTOS) - 1


@pytest.mark.parametrize("modality", ["image", "text"])
def test_each_shard_of_what_is_sought_says_how_it_searches(
    written: Written, querying: Flow, modality: Modality
) -> None:
    (answer,) = run(querying, "status", [Document("status", seeks=modality)])
    assert answer.error is None
    states = sorted(answer.shard_states or (), key=lambda state: int(state["shard"]))
    assert [state["shard"] for state in states] == list(range(written.settings.shards or 0))
    assert sum(state["vectors"] for state in states) == len(PHOTOS) - 1
    for shard, state in enumerate(states):
        assert state | {"vectors": 0} == {
            "modality": modality,
            "shard": shard,
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


def test_encoding_gives_the_vectors_of_the_model(querying: Flow) -> None:
    docs = [sentence("a"), coffee(), sentence("empty", " "), Document.of_query("letter", content=b"a letter")]
    text, image, empty, letter = run(querying, "encode", docs)
    expected = load_text_encoder("clip-mini", cache=CACHE).encode([SENTENCE])[0]
    np.testing.assert_allclose(embedded(text), expected, atol=1e-5)
    pixels = decode_image((TOY_IMAGES / "coffee.jpg").read_bytes(), max_pixels=10**8)
    cropped = load_preprocessing("clip-mini", cache=CACHE).crop(pixels)
    expected = load_image_encoder("clip-mini", cache=CACHE).encode(cropped[None])[0]
    np.testing.assert_allclose(embedded(image), expected, atol=1e-5)
    assert "empty" in str(empty.error)
    assert "not an image" in str(letter.error)
    assert empty.embedding is letter.embedding is None
    assert not any(doc.matches for doc in (text, image))


def test_a_vector_does_not_depend_on_what_it_is_encoded_together_with(querying: Flow) -> None:
    def docs() -> list[Document]:
        sentences = [sentence(str(number), SENTENCE + " and up" * number) for number in range(6)]
        return [*sentences, *(Document.of_query(p.stem, content=p.read_bytes()) for p in PHOTOS[:2])]

    together = run(querying, "encode", docs())
    alone = [answer for doc in docs() for answer in run(querying, "encode", [doc])]
    assert list(map(embedded, together)) == list(map(embedded, alone))


def test_an_embedding_searches_as_what_it_was_made_of(querying: Flow) -> None:
    by_content = run(querying, "search", [sentence("photos"), coffee("captions")], {"top_k": 9})
    photos, captions = map(embedded, run(querying, "encode", [sentence("photos"), coffee("captions")]))
    # What is of the other modality must be said of a vector; else it would rank by the cosine alone.
    docs = [
        vector("photos", photos, "image", corrected=True),
        vector("captions", captions, "text", corrected=True),
    ]
    by_embedding = run(querying, "search", docs, {"top_k": 9})
    assert list(map(found, by_embedding)) == list(map(found, by_content))
    assert [len(found(doc)) for doc in by_content] == [9, 9]
    assert found(by_content[0])[0][0] == "stair-tower"
    assert found(by_content[1])[0][2] == CAPTIONS["coffee"]
    # What a sentence was encoded into comes back with its matches.
    assert embedded(by_content[0]) == photos


def test_what_is_sought_says_what_is_searched_wherever_the_embedding_came_from(querying: Flow) -> None:
    docs = [coffee(), sentence("c", CAPTIONS["coffee"])]
    of_photo, of_caption = map(embedded, run(querying, "encode", docs))
    answers = run(
        querying,
        "search",
        [
            vector("1", of_photo, "image"),
            vector("2", of_caption, "text"),
            # A vector of another length is scaled, so that scores are cosines.
            vector("3", [7 * value for value in of_photo], "image"),
        ],
        {"top_k": 3},
    )
    for answer, id in zip(answers, ("coffee", "coffee-0", "coffee"), strict=True):
        assert found(answer)[0][:2] == (id, pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("seeks", ["text", "image"])
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
    querying: Flow, seeks: Modality, embedding: list[Any], words: str
) -> None:
    docs = [vector("bad", embedding, seeks), sentence("good")]
    failed, good = run(querying, "search", docs, {"top_k": 2})
    assert words in str(failed.error)
    assert not failed.matches
    assert good.error is None
    assert len(found(good)) == 2


@pytest.mark.parametrize("top_k", [0, -1, 2001, 2.5, "many", True])
def test_a_top_k_out_of_bounds_is_a_sentence(querying: Flow, top_k: object) -> None:
    for answer in run(querying, "search", [sentence("a"), coffee()], {"top_k": top_k}):
        assert "top_k is" in str(answer.error)
        assert "from 1 to 2000" in str(answer.error)


@pytest.mark.parametrize("parsed", [False, True], ids=["json", "parsed"])
@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"year": {"$gte": 2000}}, {"coffee", "grass"}),
        ({"year": 1999}, {"rocket"}),
        ({"$not": {"year": {"$exists": True}}}, {path.stem for path in PHOTOS} - set(TAGS) - {"cat"}),
        ({"place": "nowhere"}, set()),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_filter_is_applied_before_the_cut(
    querying: Flow, wanted: dict[str, Any], ids: set[str], parsed: bool
) -> None:
    parameters = {"top_k": max(len(ids), 1), "filter": parse_filter(wanted) if parsed else wanted}
    answers = run(querying, "search", [sentence("a"), coffee()], parameters)
    assert {match[0] for match in found(answers[0])} == ids
    assert {match[0] for match in found(answers[1])} == {f"{id}-0" for id in ids}
    every = run(querying, "search", [sentence("a"), coffee()], {"top_k": 100})
    for some, all_ in zip(map(found, answers), map(found, every), strict=True):
        kept = {match[0] for match in some}
        assert some == [match for match in all_ if match[0] in kept]


def test_a_filter_that_cannot_be_used_is_a_sentence(querying: Flow) -> None:
    parameters = {"filter": {"year": {"$above": 3}}}
    for answer in run(querying, "search", [sentence("a"), coffee()], parameters):
        assert "$above" in str(answer.error)
        assert not answer.matches


def test_ranks_of_what_is_wanted_count_all_shards(querying: Flow) -> None:
    (every,) = run(querying, "search", [sentence("q")], {"top_k": 100})
    places = {id: (rank, cosine) for rank, (id, cosine, *_) in enumerate(found(every), 1)}
    ranked = sentence("q")
    ranked.wanted = ["coffee", "never", "rocket"]
    (answer,) = run(querying, "search", [ranked])
    assert {match.id: (match.rank, match.cosine) for match in answer.matches or ()} == {
        id: places[id] for id in ("coffee", "rocket")
    }


def test_a_query_that_seeks_nothing_is_refused_with_words(querying: Flow) -> None:
    docs = [Document("lost", "text", text=SENTENCE), sentence("good")]
    refused, good = run(querying, "search", docs, {"top_k": 2})
    assert "No branch of flow-query takes a document" in str(refused.error)
    assert good.error is None


def test_many_threads_may_ask_at_once(querying: Flow) -> None:
    def ask(number: int) -> list[tuple[Any, ...]]:
        (answer,) = run(querying, "search", [sentence(str(number % 2))], {"top_k": 3})
        return found(answer)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(32)))
    assert len(answers[0]) == 3
    assert answers == [answers[0]] * 32
