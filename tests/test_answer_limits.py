"""Answers have a limit, say where they end for it, and indexes with larger tags still answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import TOY_IMAGES, Server, start_server

from crossmodal import PhotoIndex, limits
from crossmodal.engine.describing import cut_to
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.match import Match
from crossmodal.models import identify_model
from crossmodal.query.expression import Term
from crossmodal.query.request import SearchOutcome, SearchRequest
from crossmodal.records import TEXT, Record, json_size

CAPTIONS = 12
TAG_BYTES = 1 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index made before tags had a limit: 1 MiB with each caption."""
    workspace = tmp_path_factory.mktemp("large") / "workspace"
    identity = identify_model("vse", cache=Path("~/.cache/crossmodal").expanduser())
    records = [
        Record(f"c{n:02}", TEXT, text=f"dog {n}", tags={"n": n, "long": "x" * TAG_BYTES}).hashed()
        for n in range(CAPTIONS)
    ]
    vectors = np.random.default_rng(1).normal(size=(CAPTIONS, identity.dimension)).astype(np.float32)
    with EmbeddedStore.open_writer(workspace, identity=identity) as store:
        store.put(records, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return workspace


@pytest.fixture(scope="module")
def server(large: Path) -> Iterator[Server]:
    served = start_server("query_restful", "--workspace", large)
    try:
        yield served
    finally:
        served.stop()


def test_python_gets_what_fits_and_is_told(large: Path) -> None:
    with PhotoIndex(large) as index:
        first = index.search("a dog", CAPTIONS, modality="text")
        assert first.truncated
        assert first.has_more
        assert sum(json_size(match.tags) for match in first) <= limits.ANSWER.most
        rest = index.search("a dog", CAPTIONS, modality="text", offset=len(first))
        # The tags of later pages are whole as well.
        assert all(len(match.tags["long"]) == TAG_BYTES for match in [*first, *rest])
        assert [match.rank for match in [*first, *rest]] == list(range(1, 1 + len(first) + len(rest)))
        one = index.search("a dog", 1, modality="text")
        assert (len(one), one.truncated) == (1, False)


def test_an_answer_over_http_is_cut_and_says_so(server: Server) -> None:
    query = {"text": "a dog", "modality": "text", "top_k": CAPTIONS}
    status, answer = server.request("/v1/search", query)
    (result,) = answer["results"]
    assert (status, result["truncated"], result["has_more"]) == (200, True, True)
    assert 0 < len(result["matches"]) < CAPTIONS
    # Without tags all of them fit.
    _, answer = server.request("/v1/search", {**query, "return": ["text"]})
    (result,) = answer["results"]
    assert (len(result["matches"]), result["truncated"]) == (CAPTIONS, False)
    # All queries of a request share one limit.
    _, answer = server.request("/v1/search", {"queries": [{"text": "a dog"}] * 20, "modality": "text"})
    held = sum(json_size(match["tags"]) for result in answer["results"] for match in result["matches"][1:])
    assert held <= limits.ANSWER_TOGETHER.most
    assert all(result["matches"] for result in answer["results"])


def test_clients_of_jina_are_told_in_the_tags(server: Server) -> None:
    body = {"data": [{"uri": f"data:image/jpeg;base64,{_photo()}"}], "parameters": {"top_k": CAPTIONS}}
    status, answer = server.request("/search", body)
    (doc,) = answer["data"]
    assert status == 200
    assert 0 < len(doc["matches"]) < CAPTIONS
    assert f"ends after {limits.ANSWER.most >> 20} MiB" in doc["tags"]["truncated"]


def test_a_page_of_the_list_ends_early_and_the_next_one_goes_on(server: Server) -> None:
    seen: list[str] = []
    after = ""
    while True:
        _, page = server.request(f"/v1/documents?modality=text&limit=200{after}")
        assert json_size(page) <= limits.ANSWER_TOGETHER.most + 1000
        seen += [document["id"] for document in page["documents"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == [f"c{n:02}" for n in range(CAPTIONS)]


def test_one_match_always_comes() -> None:
    request = SearchRequest((Term(text="a"),))
    matches = [Match(str(n), TEXT, 0.5, text="x" * 100) for n in range(3)]
    outcomes = [SearchOutcome(request, matches=list(matches)) for _ in range(2)]
    assert cut_to(outcomes, 250) == 0
    assert [len(outcome.matches) for outcome in outcomes] == [2, 1]
    assert all(outcome.truncated and outcome.has_more for outcome in outcomes)


def _photo() -> str:
    import base64

    return base64.b64encode(min(TOY_IMAGES.iterdir()).read_bytes()).decode()
