"""A second stage orders the best candidates, whatever top_k is, and at its deadline changes nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from conftest import TOY_IMAGES, run_app, run_here, start_server
from needs_jina import needs_jina
from PIL import Image
from small_blip import save_small_blip

from crossmodal import PhotoIndex
from crossmodal.client import Client
from crossmodal.deadlines import Deadline, until
from crossmodal.errors import ApiError, DataError, DeadlinePassed, ModelError, QueryError
from crossmodal.images.pool import shared_pool
from crossmodal.match import Match
from crossmodal.query.expression import Term
from crossmodal.query.request import Rerank
from crossmodal.rerankers import Item, load_reranker

DARKEST = """
import io, time
from PIL import Image


def darkest_first(query, candidates):
    '''The darker a photo, or the shorter a caption, the better.'''
    if query.text == "too slow":
        time.sleep(0.2)
    if query.text == "broken":
        raise KeyError("lost")
    if query.text == "no numbers":
        return [float("nan")] * len(candidates)
    return [fits(candidate) for candidate in candidates]


def fits(item):
    if item.photo is None:
        return -len(item.text)
    with Image.open(io.BytesIO(item.photo)) as image:
        return -sum(image.convert("L").resize((8, 8)).getdata()) / 64
"""


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package that offers the reranker ``darkest``, installed as packages are."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "made_for_tests.py").write_text(DARKEST, encoding="utf-8")
    about = folder / "made_for_tests-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: made-for-tests\nVersion: 1.0\n")
    entry = "darkest = made_for_tests:darkest_first\nnumber = made_for_tests:DARKEST\nonce = math:pi\n"
    (about / "entry_points.txt").write_text(f"[crossmodal.rerankers]\n{entry}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def toy(toy_workspace: Path, offered: Path) -> Iterator[PhotoIndex]:
    with PhotoIndex(toy_workspace, rerank="darkest") as index:
        yield index


def ids(matches: Sequence[Match]) -> list[str]:
    return [match.id for match in matches]


def darkness(toy: PhotoIndex, match: Match) -> float:
    with shared_pool() as pool:
        jpeg = pool.picture(toy.photo(match.id) or b"", side=1024)
    with Image.open(io.BytesIO(jpeg)) as image:
        return -float(np.mean(np.asarray(image.convert("L").resize((8, 8)), np.float64)))


@pytest.mark.parametrize("depth", [1, 6, 15, 50])
def test_the_best_candidates_are_in_its_order_and_the_others_stay(toy: PhotoIndex, depth: int) -> None:
    plain = toy.search("a cat", 15)
    found = toy.search("a cat", 15, rerank=Rerank(depth=depth))
    best = sorted(plain[:depth], key=lambda match: -darkness(toy, match))
    assert ids(found) == ids([*best, *plain[depth:]])
    assert [match.rank for match in found] == list(range(1, 16))
    for match in found[:depth]:
        assert match.reranked == pytest.approx(darkness(toy, match), abs=1e-9)
    assert all(match.reranked is None for match in found[depth:])
    # What is said of each match is what the search says of it.
    assert {match.id: match.score for match in found} == {match.id: match.score for match in plain}
    assert found.reranked is not None
    assert (found.reranked.applied, found.reranked.why) == (True, None)
    assert (found.reranked.name, found.reranked.depth) == ("darkest", depth)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("depth", [4, 10])
def test_a_top_5_is_the_beginning_of_a_top_15(
    toy: PhotoIndex, hybrid: bool, grouped: bool, depth: int
) -> None:
    def found(top_k: int, offset: int = 0) -> list[str]:
        asked = {"hybrid": hybrid, "group_duplicates": grouped, "offset": offset}
        return ids(toy.search("green leaves", top_k, rerank=Rerank(depth=depth), **asked))  # type: ignore[arg-type]

    whole = found(15)
    for top_k in (1, 5, 9):
        assert found(top_k) == whole[:top_k]
    assert found(3, offset=2) == whole[2:5]


def test_photos_find_captions_and_similar_photos_are_compared(toy: PhotoIndex) -> None:
    captions = toy.search(TOY_IMAGES / "cat.jpg", 9, rerank=Rerank(depth=9))
    lengths = [len(match.text or "") for match in captions]
    assert lengths == sorted(lengths)
    photo = next(iter(toy)).id
    similar = toy.similar(photo, 14, rerank=Rerank())
    assert sorted(ids(similar), key=ids(similar).index) == ids(similar)
    assert [match.reranked for match in similar] == sorted(
        (match.reranked or 0.0 for match in similar), reverse=True
    )


@pytest.mark.parametrize(
    ("query", "options", "why"),
    [
        ("too slow", {}, "within 0.1 seconds; ask for a smaller depth"),
        ("no numbers", {}, "it has to give each a finite number"),
        ("broken", {}, "The reranker darkest failed: KeyError: 'lost'"),
        ("a cat - snow", {}, "one sentence or photo"),
        ("a cat", {"modality": "both"}, "not both"),
        (Term(vector=np.ones(512, np.float32)), {}, "the query is a vector"),
    ],
)
def test_where_it_cannot_be_the_first_order_stays_whole_and_the_answer_says_why(
    toy: PhotoIndex, query: object, options: dict[str, str], why: str
) -> None:
    plain = toy.search(query, 15, **options)  # type: ignore[call-overload]
    seconds = 0.1 if query == "too slow" else 10.0
    found = toy.search(query, 15, rerank=Rerank(seconds=seconds), **options)  # type: ignore[call-overload]
    assert [(match.id, match.reranked) for match in found] == [(match.id, None) for match in plain]
    assert found.reranked is not None
    assert not found.reranked.applied
    assert why in (found.reranked.why or "")


def test_whoever_hangs_up_ends_it(toy: PhotoIndex) -> None:
    waiting = Deadline(60)
    hangs_up = Timer(0.05, waiting.give_up)
    hangs_up.start()
    with until(waiting), pytest.raises(DeadlinePassed):
        toy.search("too slow", 15, rerank=Rerank(seconds=10))


def test_a_long_name_is_not_repeated_in_full(toy: PhotoIndex) -> None:
    with pytest.raises(QueryError) as refused:
        toy.search("a cat", 1, rerank=Rerank("n" * 1_000_000))
    assert len(str(refused.value)) < 500


def test_what_is_not_there_is_refused_with_words(
    toy: PhotoIndex, toy_workspace: Path, tmp_path: Path
) -> None:
    with pytest.raises(QueryError, match="reranker here is 'darkest', not 'blip'"):
        toy.search("a cat", rerank=Rerank("blip"))
    with (
        PhotoIndex(toy_workspace) as without,
        pytest.raises(QueryError, match="no reranker here: start with --rerank NAME"),
    ):
        without.search("a cat", rerank=Rerank())
    for values in ({"depth": 0}, {"depth": 201}, {"seconds": 0.0}, {"seconds": 61.0}):
        with pytest.raises(DataError, match="must be"):
            Rerank(**values)  # type: ignore[arg-type]
    with pytest.raises(
        ModelError, match=r"no reranker 'nothing'\. Known are: blip, colpali, .* colqwen2:FOLDER, .* darkest"
    ):
        load_reranker("nothing")
    with pytest.raises(ModelError, match="'number' cannot be loaded"):
        load_reranker("number")
    with pytest.raises(ModelError, match="'once' is a float; it has to be a function"):
        load_reranker("once")
    with pytest.raises(ModelError, match="holds no BLIP with a matching head that can be loaded"):
        load_reranker(f"blip:{tmp_path}")


def test_weights_that_cannot_be_downloaded_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"Salesforce/blip-itm-base-coco .* use --rerank blip:FOLDER"):
        load_reranker("blip", cache=tmp_path)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_blip(tmp_path_factory.mktemp("blip"))


def test_blip_gives_what_its_matching_head_says(blip: Path) -> None:
    import torch

    from crossmodal.models.libraries import import_transformers

    library = import_transformers()
    model = library.BlipForImageTextRetrieval.from_pretrained(blip).eval()
    processor = library.BlipProcessor.from_pretrained(blip)
    photos = [path.read_bytes() for path in sorted(TOY_IMAGES.glob("*.jpg"))[:4]]
    given = load_reranker(f"blip:{blip}")(Item("a cat"), [Item(photo=photo) for photo in photos])
    assert len(set(given)) == 4
    for photo, value in zip(photos, given, strict=True):
        inputs = processor(images=Image.open(io.BytesIO(photo)), text="a cat", return_tensors="pt")
        with torch.no_grad():
            chance = model(**inputs).itm_score.softmax(-1)[0, 1].item()
        assert 1 / (1 + np.exp(-value)) == pytest.approx(chance, abs=1e-6)


def test_blip_compares_photos_with_captions_and_nothing_else(blip: Path) -> None:
    reranker = load_reranker(f"blip:{blip}")
    photo = Item(photo=(TOY_IMAGES / "cat.jpg").read_bytes())
    captions = [Item("a cat"), Item("a red rocket")]
    forth = reranker(photo, captions)
    assert forth == [reranker(caption, [photo])[0] for caption in captions]
    with pytest.raises(DataError, match="compares a sentence with photos"):
        reranker(captions[0], captions)


def test_a_server_and_its_client_rerank(toy: PhotoIndex, toy_workspace: Path, offered: Path) -> None:
    asked = ("--workspace", toy_workspace, "--rerank", "darkest")
    server = start_server("query_restful", *asked, environment={"PYTHONPATH": str(offered)})
    with ExitStack() as ending, Client(server.url) as client:
        ending.callback(server.stop)
        found = client.search("a cat", top_k=15, rerank={"depth": 6})
        here = toy.search("a cat", 15, rerank=Rerank(depth=6))
        assert ids(found.matches) == ids(here)
        assert [match.reranked for match in found.matches] == [match.reranked for match in here]
        assert found.reranked is not None
        assert found.reranked.applied
        assert found.timing.rerank_ms > 0
        assert client.search("a cat").reranked is None
        for wrong in ({"depth": 0}, {"depth": 2.5}, {"name": "blip"}, {"deep": 3}, {"seconds": True}):
            with pytest.raises(ApiError) as refused:
                client.search("a cat", rerank=wrong)
            assert refused.value.status == 422
        assert 'stage="rerank"' in _metrics(server.url)


def _metrics(url: str) -> str:
    import httpx2

    return httpx2.get(f"{url}/metrics").text


def search_with(blip: Path, workspace: Path, *arguments: str) -> list[tuple[str, float]]:
    asked = ("search", "a cat", "--workspace", workspace, "--rerank", f"blip:{blip}", "--print", "json")
    done = run_app(*asked, *arguments, timeout=400)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["reranked"]["applied"], result["reranked"]
    # Not where it lies.
    assert result["reranked"]["name"] == "blip"
    return [(match["id"], match["reranked"]) for match in result["matches"]]


@needs_jina
@pytest.mark.slow
def test_processes_of_their_own_rerank_the_same(blip: Path, toy_workspace: Path) -> None:
    assert search_with(blip, toy_workspace, "--layout", "pods") == search_with(blip, toy_workspace)


def test_an_evaluation_counts_ranks_in_the_order_of_the_reranker(blip: Path, tmp_path: Path) -> None:
    def hits(*arguments: str) -> dict[str, float]:
        done = run_here("evaluate", "-d", "toy-data", "--direction", "text2image", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        found: dict[str, float] = json.loads(done.stdout)["text2image"]
        return found

    plain, nothing = hits(), hits("--rerank", f"blip:{blip}", "--rerank-depth", "1")
    # One candidate has one order.
    assert nothing["hit@1"] == plain["hit@1"]
    # Random weights know nothing: of fifteen photos they put the right one first by chance.
    assert hits("--rerank", f"blip:{blip}", "--rerank-depth", "15")["hit@1"] < plain["hit@1"] / 2
