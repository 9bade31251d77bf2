"""POST /v1/search against a real server: rankings, composed queries, filters, words, and what goes wrong."""

from __future__ import annotations

import base64
import csv
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from conftest import TOY_DATA, TOY_IMAGES, Server

SENTENCE = "people climb the stairs"

with (TOY_DATA / "captions.txt").open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))
SUBJECT = {row["image"]: row["subject"] for row in ROWS}
CAPTIONS = {name: [row["caption"] for row in ROWS if row["image"] == name] for name in SUBJECT}


def data_uri(name: str) -> str:
    return "data:image/jpeg;base64," + base64.b64encode((TOY_IMAGES / name).read_bytes()).decode()


def ask(server: Server, **body: Any) -> dict[str, Any]:
    status, answer = server.request("/v1/search", body)
    assert status == 200, answer
    return answer


def matches(server: Server, **body: Any) -> list[dict[str, Any]]:
    (result,) = ask(server, **body)["results"]
    found: list[dict[str, Any]] = result["matches"]
    return found


def files(found: list[dict[str, Any]]) -> list[str]:
    return [match["photo"]["file"] for match in found]


def id_of(server: Server, name: str) -> str:
    (match,) = [
        match for match in matches(server, text="anything", top_k=15) if match["photo"]["file"] == name
    ]
    return str(match["id"])


def test_a_sentence_finds_the_photos_that_the_other_clients_find(toy_server: Server) -> None:
    found = matches(toy_server, text=SENTENCE, top_k=15)
    status, answer = toy_server.request("/search", {"data": [SENTENCE], "top_k": 15, "mode": "search"})
    assert status == 200
    others = answer["search"]["docs"][0]["matches"]
    assert [(m["id"], m["cosine"]) for m in found] == [(m["id"], m["score"]["value"]) for m in others]
    best = found[0]
    assert best["photo"]["file"] == "stair-tower.jpg"
    assert best["rank"] == 1
    assert best["modality"] == "image"
    assert best["tags"].items() >= {"subject": "building", "tones": "black and white"}.items()
    assert [caption["text"] for caption in best["captions"]] == CAPTIONS["stair-tower.jpg"]
    assert [match["rank"] for match in found] == list(range(1, 16))


def test_a_photo_finds_captions_however_it_comes(toy_server: Server) -> None:
    inline = matches(toy_server, image=data_uri("coffee.jpg"), top_k=6)
    assert {match["modality"] for match in inline} == {"text"}
    assert inline[0]["text"] in CAPTIONS["coffee.jpg"]
    assert inline[0]["photo"]["file"] == "coffee.jpg"
    coffee = id_of(toy_server, "coffee.jpg")
    by_id = matches(toy_server, image=f"id:{coffee}", top_k=6)
    by_url = matches(toy_server, image=f"{toy_server.url}/v1/documents/{coffee}/content", top_k=6)
    uploaded = httpx2.post(
        f"{toy_server.url}/v1/search",
        data={"request": '{"top_k": 6}'},
        files={"image": ("x.jpg", (TOY_IMAGES / "coffee.jpg").read_bytes(), "image/jpeg")},
    ).json()["results"][0]["matches"]
    ids = [match["id"] for match in inline]
    assert [match["id"] for match in uploaded] == ids
    assert [match["id"] for match in by_id] == ids
    assert [match["id"] for match in by_url] == ids
    for one, other in zip(inline, by_id, strict=True):
        assert one["cosine"] == pytest.approx(other["cosine"], abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"modality": "text"},
        {"modality": "both"},
        {"hybrid": True},
        {"hybrid": True, "modality": "both"},
        {"group_duplicates": True, "modality": "both"},
        {"filter": {"tones": "colour"}},
    ],
    ids=str,
)
def test_a_smaller_number_is_the_beginning_and_an_offset_goes_on(
    toy_server: Server, options: dict[str, Any]
) -> None:
    whole = [
        (m["id"], m["cosine"], m["rank"]) for m in matches(toy_server, text="a cat", top_k=15, **options)
    ]
    for k in (1, 5, 9):
        part = matches(toy_server, text="a cat", top_k=k, **options)
        assert [(m["id"], m["cosine"], m["rank"]) for m in part] == whole[:k]
    rest = matches(toy_server, text="a cat", top_k=6, offset=3, **options)
    assert [(m["id"], m["cosine"], m["rank"]) for m in rest] == whole[3:9]


def test_there_is_more_as_long_as_there_is(toy_server: Server) -> None:
    for top_k, more in ((14, True), (15, False), (100, False)):
        (result,) = ask(toy_server, text="a cat", top_k=top_k)["results"]
        assert result["has_more"] is more
        assert len(result["matches"]) == min(top_k, 15)


def test_photos_and_captions_together_are_in_order_of_a_score_that_both_have(toy_server: Server) -> None:
    found = matches(toy_server, text="a cup of coffee", modality="both", top_k=20)
    assert {match["modality"] for match in found} == {"image", "text"}
    scores = [match["score"] for match in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    first = {
        modality: next(m for m in found if m["modality"] == modality)["photo"]["file"]
        for modality in ("image", "text")
    }
    assert first == {"image": "coffee.jpg", "text": "coffee.jpg"}


def test_one_term_is_the_plain_query_and_weights_alone_change_nothing(toy_server: Server) -> None:
    plain = [(m["id"], m["cosine"]) for m in matches(toy_server, text=SENTENCE, top_k=15)]
    for body in ({"terms": [{"text": SENTENCE, "weight": 3}]}, {"expression": f'0.5*"{SENTENCE}"'}):
        found = matches(toy_server, top_k=15, **body)
        assert [m["id"] for m in found] == [id for id, _ in plain]
        assert [m["cosine"] for m in found] == pytest.approx([score for _, score in plain], abs=1e-6)


def test_minus_pushes_down_what_it_names(toy_server: Server) -> None:
    plain = files(matches(toy_server, text="a black and white photo", top_k=15))
    minus = files(matches(toy_server, expression="a black and white photo - gravel - a brick wall", top_k=15))
    for name in ("gravel.jpg", "bricks.jpg"):
        assert minus.index(name) > plain.index(name)
    listed = matches(
        toy_server,
        terms=[
            {"text": "a black and white photo"},
            {"text": "gravel", "weight": -1},
            {"text": "a brick wall", "weight": -1},
        ],
        top_k=15,
    )
    assert files(listed) == minus


def test_a_sentence_and_a_photo_in_one_query_find_both(toy_server: Server) -> None:
    rocket = id_of(toy_server, "rocket.jpg")
    alone = files(matches(toy_server, terms=[{"id": rocket}], modality="image", top_k=15))
    found = files(
        matches(toy_server, expression=f"3*a cup of coffee + id:{rocket}", modality="image", top_k=15)
    )
    assert set(found[:2]) == {"coffee.jpg", "rocket.jpg"}
    assert found.index("coffee.jpg") < alone.index("coffee.jpg")


def test_more_like_this_leaves_itself_out_and_stays_among_its_kind(toy_server: Server) -> None:
    gravel = id_of(toy_server, "gravel.jpg")
    similar = matches(toy_server, id=gravel, top_k=15)
    assert len(similar) == 14
    assert gravel not in {match["id"] for match in similar}
    assert {match["modality"] for match in similar} == {"image"}
    assert similar[0]["photo"]["file"] in ("grass.jpg", "bricks.jpg")
    caption = matches(toy_server, text="tabby cat", modality="text", top_k=1)[0]
    like_it = matches(toy_server, id=caption["id"], top_k=2)
    assert caption["id"] not in {match["id"] for match in like_it}
    assert {match["photo"]["file"] for match in like_it} == {"cat.jpg"}


def test_recommendations_follow_likes_and_avoid_dislikes(toy_server: Server) -> None:
    ids = {name: id_of(toy_server, f"{name}.jpg") for name in ("gravel", "galaxies", "retina")}
    liked = files(matches(toy_server, like=[ids["gravel"]], top_k=15))
    assert liked[0] == "grass.jpg"
    assert len(liked) == 14
    mixed = files(matches(toy_server, like=[ids["gravel"]], unlike=[ids["galaxies"]], top_k=15))
    assert mixed[0] == "grass.jpg"
    assert sorted(mixed) == sorted(set(liked) - {"galaxies.jpg"})
    # The retina and the galaxies look alike to the model: who dislikes one is shown the other later.
    without = [name for name in liked if name != "galaxies.jpg"]
    assert mixed.index("retina.jpg") > without.index("retina.jpg")


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ({"subject": "person"}, lambda name: SUBJECT[name] == "person"),
        ({"subject": {"$in": ["texture", "space"]}}, lambda name: SUBJECT[name] in ("texture", "space")),
        ({"$not": {"subject": "person"}}, lambda name: SUBJECT[name] != "person"),
        ({"nothing": {"$exists": True}}, lambda name: False),
        ({"modality": "text"}, lambda name: False),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_filter_comes_before_the_cut(toy_server: Server, rule: dict[str, Any], passes: Any) -> None:
    everything = matches(toy_server, text="a rocket", top_k=15)
    expected = [(m["id"], m["cosine"]) for m in everything if passes(m["photo"]["file"])]
    found = matches(toy_server, text="a rocket", top_k=15, filter=rule)
    assert [(m["id"], m["cosine"]) for m in found] == expected
    two = matches(toy_server, text="a rocket", top_k=2, filter=rule)
    assert [(m["id"], m["cosine"]) for m in two] == expected[:2]


def test_a_search_within_some_photos_finds_them_and_their_captions_alone(toy_server: Server) -> None:
    everything = matches(toy_server, text="a black and white photo", top_k=15)
    chosen = [match["id"] for match in everything[4:9]]
    rule = {"$ids": chosen}
    found = matches(toy_server, text="a black and white photo", top_k=15, filter=rule)
    assert [(m["id"], m["cosine"]) for m in found] == [(m["id"], m["cosine"]) for m in everything[4:9]]
    for options in ({"modality": "text"}, {"modality": "text", "hybrid": True}):
        captions = matches(toy_server, text="a black and white photo", top_k=41, filter=rule, **options)
        assert {caption["photo"]["id"] for caption in captions} <= {*chosen}
        assert len(captions) >= len(chosen)
    words = matches(toy_server, text="a black and white photo", hybrid=True, top_k=15, filter=rule)
    assert {match["id"] for match in words} == {*chosen}
    _, listed = toy_server.request(f"/v1/documents?filter={quote(json.dumps(rule))}")
    assert {document["id"] for document in listed["documents"]} == {*chosen}
    status, refused = toy_server.request("/v1/search", {"text": "a cat", "filter": {"$ids": ["x"] * 1001}})
    assert (status, "at most 1,000" in str(refused)) == (422, True)


def test_filters_are_applied_to_words_as_well(toy_server: Server) -> None:
    found = matches(
        toy_server, text="a black and white photo", hybrid=True, filter={"subject": "object"}, top_k=15
    )
    assert sorted(files(found)) == ["coffee.jpg", "coins.jpg"]


def test_words_find_what_the_vectors_rank_low(toy_server: Server) -> None:
    # The default model doesn't know the word; a caption holds it.
    plain = files(matches(toy_server, text="astronaut", top_k=15))
    hybrid = matches(toy_server, text="astronaut", hybrid=True, top_k=15)
    assert files(hybrid).index("astronaut.jpg") < plain.index("astronaut.jpg")
    best = next(match for match in hybrid if match["photo"]["file"] == "astronaut.jpg")
    assert best["parts"]["word_rank"] == 1
    assert best["parts"]["bm25"] > 0
    assert best["parts"]["vector_rank"] == plain.index("astronaut.jpg") + 1
    fused = 1 / (60 + 1) + 1 / (60 + best["parts"]["vector_rank"])
    assert best["parts"]["fused"] == pytest.approx(fused)
    ranked = [match["parts"]["fused"] for match in hybrid]
    assert ranked == sorted(ranked, reverse=True)


def test_min_score_cuts_where_it_says(toy_server: Server) -> None:
    everything = matches(toy_server, text="a cup of coffee", modality="both", top_k=50)
    # Half of the scores in answers are rounded up, and none of them may cut its own match.
    for limit in [match["score"] for match in everything[:6]]:
        kept = matches(toy_server, text="a cup of coffee", modality="both", top_k=50, min_score=limit)
        assert [m["id"] for m in kept] == [m["id"] for m in everything if m["score"] >= limit]
    assert matches(toy_server, text="a cup of coffee", min_score=1.0) == []


def test_return_chooses_the_fields(toy_server: Server) -> None:
    (bare,) = matches(toy_server, text="a cat", top_k=1, **{"return": []})
    assert set(bare) == {"id", "modality", "rank", "score", "cosine"}
    (some,) = matches(toy_server, text="a cat", top_k=1, **{"return": ["tags", "photo"]})
    assert set(some) == {"id", "modality", "rank", "score", "cosine", "tags", "photo"}


def test_several_queries_are_answered_in_order_and_a_bad_one_alone(toy_server: Server) -> None:
    status, answer = toy_server.request(
        "/v1/search",
        {
            "queries": [
                {"text": "a cat"},
                {"id": "nobody"},
                {"image": data_uri("cat.jpg"), "top_k": 3},
                {"image": data_uri("cat.jpg")[:9023]},
                {"text": "a cat", "filter": {"a": {"$like": 1}}},
            ],
            "top_k": 2,
        },
    )
    assert status == 200
    results = answer["results"]
    assert [len(result["matches"]) for result in results] == [2, 0, 3, 0, 0]
    assert [result["error"] and result["error"]["status"] for result in results] == [
        None,
        404,
        None,
        422,
        422,
    ]
    assert "truncated" in results[3]["error"]["detail"]
    assert results[4]["error"]["errors"][0]["pointer"] == "/queries/4/filter/a/$like"
    assert results[0]["query"] == {"terms": [{"text": "a cat", "weight": 1.0}], "modality": "image"}
    assert results[0]["matches"] == matches(toy_server, text="a cat", top_k=2)


@pytest.mark.parametrize(
    ("body", "expected", "words", "pointer"),
    [
        ({"id": "nobody"}, 404, "'nobody'", None),
        ({"text": ""}, 422, "empty", "/text"),
        ({"image": data_uri("cat.jpg")[:9023]}, 422, "truncated", None),
        ({"terms": [{"text": "a"}, {"text": "a", "weight": -1}]}, 422, "", None),
        ({"txt": "a"}, 422, "'txt' is not known", "/txt"),
        (b"{", 400, "not JSON", None),
        (b"", 400, "empty", None),
        ([], 400, "JSON object", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_mistake_is_a_problem_document(
    toy_server: Server, body: Any, expected: int, words: str, pointer: str | None
) -> None:
    answer = httpx2.post(
        f"{toy_server.url}/v1/search",
        **({"content": body} if isinstance(body, bytes) else {"json": body}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == expected
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == expected
    assert words in problem["detail"]
    assert [error["pointer"] for error in problem.get("errors", [])] == ([pointer] if pointer else [])
    assert "Traceback" not in answer.text


def test_another_content_type_is_refused(toy_server: Server) -> None:
    answer = httpx2.post(
        f"{toy_server.url}/v1/search", content=b"a cat", headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_the_time_is_told_with_its_parts(toy_server: Server) -> None:
    timing = ask(toy_server, text="a sentence that nobody has asked before", hybrid=True)["timing"]
    parts = [timing[name] for name in ("encode_ms", "search_ms", "words_ms", "fetch_ms")]
    assert all(part > 0 for part in parts)
    assert sum(parts) <= timing["total_ms"]


def test_many_clients_at_once_get_their_own_answers(toy_server: Server) -> None:
    bodies: list[dict[str, Any]] = [
        {"text": f"a {word}", "modality": modality}
        for word in ("cat", "rocket", "lawn", "coin", "woman", "man")
        for modality in ("image", "text", "both")
    ]
    alone = [[m["id"] for m in matches(toy_server, **body)] for body in bodies]
    before = sentences_counted(toy_server)
    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(lambda body: [m["id"] for m in matches(toy_server, **body)], bodies * 2))
    assert found == alone * 2
    assert sentences_counted(toy_server) == before + 2 * len(bodies), "each is counted once, whoever asks"


def sentences_counted(server: Server) -> float:
    """How many sentences /metrics says were encoded or remembered."""
    text = httpx2.get(f"{server.url}/metrics").text
    counts = re.findall(r'^crossmodal_text_cache_total\{result="(?:hit|miss)"\} (\S+)$', text, re.MULTILINE)
    return sum(map(float, counts))
