"""Bodies of POST /v1/search: what each way of asking becomes, and where an error points."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from conftest import TOY_IMAGES
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.errors import CrossmodalError, RequestError
from crossmodal.http_shapes.v1.search import parse_search
from crossmodal.query.expression import Term
from crossmodal.query.request import SearchRequest

PHOTO = (TOY_IMAGES / "cat.jpg").read_bytes()
DATA_URI = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()


def only(body: Any, **arguments: Any) -> SearchRequest:
    (query,) = parse_search(body, **arguments)
    assert isinstance(query, SearchRequest), query
    return query


def refusal(body: Any) -> tuple[str, str | None]:
    (query,) = parse_search(body)
    assert isinstance(query, CrossmodalError), query
    return str(query), getattr(query, "pointer", None)


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ({"text": " a dog "}, [Term(1.0, text="a dog")]),
        ({"id": "42"}, [Term(1.0, id="42")]),
        ({"image": "id:42"}, [Term(1.0, id="42")]),
        ({"image": DATA_URI}, [Term(1.0, image=PHOTO)]),
        ({"image": "upload:0"}, [Term(1.0, image=b"photo")]),
        ({"image": "/v1/documents/a%2Fb/thumbnail"}, [Term(1.0, id="a/b")]),
        ({"image": "http://here:1/v1/documents/a/content"}, [Term(1.0, id="a")]),
        ({"image": "/images/a"}, [Term(1.0, id="a")]),
        (
            {"expression": "dog + 0.5*id:42 - snow"},
            [Term(1.0, text="dog"), Term(0.5, id="42"), Term(-1.0, text="snow")],
        ),
        (
            {"terms": [{"text": "dog"}, {"image": "id:42", "weight": 0.5}, {"id": "7", "weight": -2}]},
            [Term(1.0, text="dog"), Term(0.5, id="42"), Term(-2.0, id="7")],
        ),
        (
            {"like": ["a", "b"], "unlike": ["c"]},
            [Term(0.5, id="a"), Term(0.5, id="b"), Term(-0.5, id="c")],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_way_of_asking(body: dict[str, Any], terms: list[Term]) -> None:
    assert list(only(body, uploads=[b"photo"], host="here:1").terms) == terms


def test_without_a_query_an_upload_is_the_query() -> None:
    assert only({}, uploads=[b"photo"]).terms == (Term(1.0, image=b"photo"),)


def test_a_document_is_no_result_of_the_search_for_more_like_it() -> None:
    assert only({"id": "a"}).exclude == {"a"}
    assert only({"like": ["a"], "unlike": ["b"]}).exclude == {"a", "b"}
    assert only({"terms": [{"id": "a"}]}).exclude == frozenset()


def test_options_at_the_top_count_for_all_queries_and_a_query_may_have_its_own() -> None:
    first, second = parse_search(
        {"queries": [{"text": "a"}, {"text": "b", "top_k": 3, "modality": "both"}], "top_k": 7, "offset": 2.0}
    )
    assert isinstance(first, SearchRequest)
    assert isinstance(second, SearchRequest)
    assert (first.top_k, first.offset, first.modality) == (7, 2, None)
    assert (second.top_k, second.offset, second.modality) == (3, 2, "both")


@pytest.mark.parametrize(
    ("body", "words", "pointer"),
    [
        ({}, "exactly one of", None),
        ({"text": "a", "id": "b"}, "text and id", None),
        ({"text": ""}, "empty", "/text"),
        ({"text": "x" * 2001}, "2,001 characters; the limit is 2,000", "/text"),
        ({"text": 5}, "has to be a string", "/text"),
        ({"id": 5}, "has to be a string", "/id"),
        ({"txt": "a"}, "'txt' is not known", "/txt"),
        ({"a/b~c": 1, "text": "a"}, "not known", "/a~1b~0c"),
        ({"text": "a", "top_k": 0}, "whole number from 1 to 1,000", "/top_k"),
        ({"text": "a", "top_k": True}, "whole number", "/top_k"),
        ({"text": "a", "top_k": "5"}, "whole number", "/top_k"),
        ({"text": "a", "top_k": 600, "offset": 600}, "offset + top_k is 1,200", "/top_k"),
        ({"text": "a", "hybrid": True, "top_k": 201}, "at most 200 with 'hybrid'", "/top_k"),
        ({"id": "a", "hybrid": True}, "this query has none", "/hybrid"),
        ({"text": "a", "min_score": 2}, "lie in 0 to 1", "/min_score"),
        ({"text": "a", "modality": "video"}, "'image', 'text' or 'both'", "/modality"),
        ({"text": "a", "hybrid": 1}, "true or false", "/hybrid"),
        ({"text": "a", "return": ["vector"]}, "'vector'", "/return"),
        ({"text": "a", "filter": {"place": {"$nearly": 1}}}, "$nearly", "/filter/place/$nearly"),
        ({"image": "http://example.com/a.jpg"}, "never fetches", "/image"),
        ({"image": "http://there:1/v1/documents/a/content"}, "never fetches", "/image"),
        ({"image": "file:///etc/passwd"}, "or opens a path", "/image"),
        ({"image": "/etc/passwd"}, "or opens a path", "/image"),
        ({"image": "upload:0"}, "0 files came", "/image"),
        ({"image": "upload:x"}, "0 files came", "/image"),
        ({"terms": []}, "1 to 16 terms", "/terms"),
        ({"terms": [{"text": "a", "weight": 0}]}, "not be 0", "/terms/0/weight"),
        ({"terms": [{"text": "a", "weight": 11}]}, "-10 to 10", "/terms/0/weight"),
        ({"terms": [{"text": "a", "weight": 10**400}]}, "-10 to 10", "/terms/0/weight"),
        ({"terms": [{"text": "a", "weight": float("inf")}]}, "-10 to 10", "/terms/0/weight"),
        ({"terms": [{"text": "a", "weight": float("nan")}]}, "-10 to 10", "/terms/0/weight"),
        ({"terms": [{"text": "a", "weight": "1"}]}, "has to be a number", "/terms/0/weight"),
        ({"terms": [{"text": "a", "weight": -1}]}, "All terms are negative", "/terms"),
        ({"terms": [{"text": "a", "image": "id:b"}]}, "text and image", "/terms/0"),
        ({"expression": "- snow"}, "", "/expression"),
        ({"unlike": ["a"]}, "exactly one of", None),
        ({"text": "a", "unlike": ["b"]}, "'unlike' needs 'like'", "/unlike"),
        ({"like": []}, "1 to 64 ids", "/like"),
        ({"queries": [{"text": "a", "top_k": -1}]}, "whole number", "/queries/0/top_k"),
        ({"queries": [{"text": "a"}], "top_k": -1}, "whole number", "/top_k"),
        ({"queries": ["a"]}, "has to be an object", "/queries/0"),
    ],
    ids=str,
)
def test_a_mistake_is_a_sentence_that_points_at_its_place(
    body: dict[str, Any], words: str, pointer: str | None
) -> None:
    said, at = refusal(body)
    assert words in said
    assert at == pointer


@pytest.mark.parametrize(
    "body",
    [None, [], "a", {"queries": []}, {"queries": [{}] * 65}, {"queries": [{"text": "a"}], "text": "b"}],
)
def test_a_body_that_is_none_as_a_whole(body: Any) -> None:
    with pytest.raises(CrossmodalError) as raised:
        parse_search(body)
    assert not isinstance(raised.value, RequestError) or raised.value.status == 400


@pytest.mark.parametrize("number", ["1", "0000000001", "00", "-1", "\u0660", "9" * 5_000, ""])
def test_only_an_upload_that_came_is_a_photo(number: str) -> None:
    parsed = parse_search({"image": f"upload:{number}"}, uploads=[b"photo"])
    assert "1 files came with the request" in str(parsed[0])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(
    (
        *("text", "image", "id", "expression", "terms", "like", "unlike", "queries", "weight", "modality"),
        *("top_k", "offset", "min_score", "filter", "hybrid", "group_duplicates", "return"),
    )
)


@given(st.dictionaries(_keys | st.text(max_size=4), _json, max_size=4))
def test_any_json_is_a_request_or_an_error_told_on_purpose(body: dict[str, Any]) -> None:
    try:
        parsed = parse_search(json.loads(json.dumps(body)))
    except CrossmodalError:
        return
    for query in parsed:
        assert isinstance(query, SearchRequest) or str(query)
