"""Filters written as JSON: what they mean, what is refused and where, and that they can be written again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_filtered_search import filters, tags

from crossmodal.errors import DataError, FilterError
from crossmodal.filters import Identified, OneOf, collect_values, parse_filter
from crossmodal.limits import (
    FILTER_CONDITIONS,
    FILTER_LEVELS,
    FILTER_VALUES,
    FILTER_VALUES_TOGETHER,
)

PHOTO = {
    "place": "harbour",
    "year": 2019,
    "indoor": False,
    "people": ["Ada", "Grace", 3],
    "camera": {"make": "Leica", "lenses": [{"mm": 35}, {"mm": 50}]},
    "modality": "print",
    "note": None,
    "empty": [],
    "street": "lange Stra\u00dfe",
    "caf\u00e9": "Cr\u00e8me",
    "1": "one",
}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"place": "harbour"},
        {"place": {"$eq": "harbour"}, "year": 2019.0},
        {"tags.place": "harbour"},
        {"place": {"$ne": "beach"}},
        {"missing": {"$ne": "beach"}},
        {"missing": {"$nin": ["beach", 1]}},
        {"place": {"$in": ["beach", "harbour", 7]}},
        {"place": {"$gte": "ha", "$lt": "hb"}},
        {"year": {"$gt": 2018.5, "$lte": 2019}},
        {"year": {"$nin": ["2019", True]}},
        {"indoor": False},
        {"indoor": {"$ne": 0}},
        {"place": {"$eqi": "HARBOUR"}},
        {"camera.make": {"$eqi": "LEICA"}},
        {"people": {"$eqi": "ada"}},
        {"street": {"$eqi": "LANGE STRASSE"}},
        {"street": "lange Stra\u00dfe"},
        {"cafe\u0301": "Cre\u0300me"},
        {"caf\u00e9": {"$in": ["cre\u0300me", "Cre\u0300me"]}},
        {"people": "Grace"},
        {"people": 3},
        {"people": {"$nin": ["Alan"]}},
        {"people": {"$gt": 2, "$lt": "B"}},
        {"camera.make": "Leica"},
        {"camera.lenses.mm": 50},
        {"camera": {"$exists": True}},
        {"camera.lenses": {"$exists": True}},
        {"empty": {"$exists": True}},
        {"note": {"$exists": False}},
        {"missing": {"$exists": False}},
        {"modality": "image"},
        {"modality": {"$ne": "text"}},
        {"modality": {"$lt": "j"}},
        {"tags.modality": "print"},
        {"1": "one"},
        {"$or": [{"place": "beach"}, {"year": 2019}]},
        {"$and": [{"place": "harbour"}, {"$not": {"year": 2018}}]},
        {"$not": {"place": "beach", "year": 2019}},
        {"$not": {"$or": [{"place": "beach"}, {"indoor": True}]}},
    ],
    ids=json.dumps,
)
def test_what_matches(wanted: dict[str, Any]) -> None:
    assert parse_filter(wanted).matches("image", PHOTO)
    assert not parse_filter({"$not": wanted}).matches("image", PHOTO)


@pytest.mark.parametrize(
    "wanted",
    [
        {"place": "Harbour"},
        {"place": {"$eqi": "harbo"}},
        {"year": {"$eqi": "2019"}},
        {"missing": {"$eqi": ""}},
        {"place": "harbour", "year": 2020},
        {"year": "2019"},
        {"year": {"$gt": "2018"}},
        {"place": {"$gt": 0}},
        {"indoor": 0},
        {"indoor": {"$in": [0, "false"]}},
        {"year": {"$in": []}},
        {"missing": {"$lt": 1}},
        {"note": {"$exists": True}},
        {"people": {"$ne": "Ada"}},
        {"people": "AdaGrace"},
        {"camera": "Leica"},
        {"modality": "text"},
        {"empty": {"$lt": "z"}},
    ],
    ids=json.dumps,
)
def test_what_does_not_match(wanted: dict[str, Any]) -> None:
    assert not parse_filter(wanted).matches("image", PHOTO)


@pytest.mark.parametrize(
    ("wanted", "pointer", "words"),
    [
        ([{"place": "x"}], "", "JSON object"),
        ("place", "", 'not "place"'),
        (
            {"place": {"$gte": None}},
            "/place/$gte",
            '$gte of the field "place" needs a number or text, not null',
        ),
        ({"year": {"$lt": True}}, "/year/$lt", "needs a number or text, not true"),
        ({"a/b~c": {"$in": [1, None]}}, "/a~1b~0c/$in/1", '"a/b~c" cannot compare with null'),
        ({"place": {"$in": "harbour"}}, "/place/$in", 'needs a list of values, not "harbour"'),
        ({"place": {"$nin": [["x"]]}}, "/place/$nin/0", "a list of 1"),
        ({"place": {"$eqi": 3}}, "/place/$eqi", '$eqi of the field "place" needs text, not 3'),
        ({"place": ["x"]}, "/place", "$in"),
        ({"place": None}, "/place", '{"$exists": false}'),
        ({"place": {}}, "/place", "no operator"),
        ({"place": {"$regex": "h.*"}}, "/place/$regex", '"$regex" is no operator'),
        ({"camera": {"make": "x"}}, "/camera/make", '"camera.make"'),
        ({"place": {"$not": {"$eq": 1}}}, "/place/$not", '{"$not": {"place": ...}}'),
        ({"serial": 2**53 + 1}, "/serial", "Larger ones are exact as text alone"),
        ({"serial": {"$in": [1, -(2**60)]}}, "/serial/$in/1", "up to 9,007,199,254,740,992"),
        ({"year": {"$exists": 1}}, "/year/$exists", "true or false, not 1"),
        ({"year": float("nan")}, "/year", "finite number, not NaN"),
        ({"year": {"$lt": float("inf")}}, "/year/$lt", "finite number, not Infinity"),
        ({"year": {"$lt": 10**400}}, "/year/$lt", "more than 60 digits"),
        ({"$or": []}, "/$or", "at least one filter"),
        ({"$or": {"place": "x"}}, "/$or", "at least one filter, not an object"),
        ({"$and": [{"a": 1}, {"b": {"$x": 1}}]}, "/$and/1/b/$x", '"$x"'),
        ({"$not": [1]}, "/$not", "JSON object"),
        ({"$near": 1}, "/$near", "tags.$near"),
        ({"$eq": 1}, "/$eq", '{"FIELD": {"$eq": ...}}'),
        ({"$ids": "a"}, "/$ids", '$ids needs a list of ids, not "a"'),
        ({"$and": [{"$ids": ["a", 3]}]}, "/$and/0/$ids/1", "ids, which are text, not 3"),
        ({"$ids": ["a"] * (FILTER_VALUES.most + 1)}, "/$ids", "1,001 values; at most 1,000"),
        ({"a": {"$ids": ["b"]}}, "/a/$ids", '"$ids" is no operator'),
        ({"": 1}, "/", "empty"),
        ({"tags.": 1}, "/tags.", "empty"),
        ({1: 2}, "/1", "not 1"),
        ({"modality": "photo"}, "/modality", '"image" or "text", not "photo"'),
        ({"modality": {"$in": ["image", 3]}}, "/modality/$in/1", "tags.modality"),
        ({"a": {"$in": list(range(FILTER_VALUES.most + 1))}}, "/a/$in", "1,001 values; at most 1,000"),
    ],
)
def test_what_is_refused_says_where_and_what_helps(wanted: object, pointer: str, words: str) -> None:
    with pytest.raises(FilterError) as told:
        parse_filter(wanted)
    assert words in str(told.value)
    assert told.value.pointer == pointer
    assert isinstance(told.value, DataError)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(FilterError) as told:
        parse_filter({"place": {"$exists": "x" * 100_000}})
    assert len(str(told.value)) < 300


def test_ids_are_those_of_a_document_and_of_what_it_is_part_of() -> None:
    wanted = parse_filter({"$ids": ["b", "c", "b"], "place": "harbour"})
    assert wanted == parse_filter(wanted.to_json())
    assert wanted.matches("image", PHOTO, {"b", None})
    assert wanted.matches("text", PHOTO, {"caption", "c"})
    assert not wanted.matches("image", PHOTO, {"a"})
    assert not wanted.matches("image", PHOTO)
    assert not wanted.matches("image", {}, {"b"})
    assert parse_filter({"$ids": []}) == Identified(frozenset())
    # A tag of that name is another thing.
    assert parse_filter({"tags.$ids": "b"}).matches("image", {"$ids": "b"}, {"a"})


def nested(levels: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {"place": "x"}
    for _ in range(levels - 1):
        wanted = {"$not": wanted}
    return wanted


def test_limits() -> None:
    assert parse_filter(nested(FILTER_LEVELS.most)).matches("image", {}) is True
    with pytest.raises(FilterError, match=f"deeper than {FILTER_LEVELS.most} levels") as told:
        parse_filter(nested(FILTER_LEVELS.most + 1))
    assert told.value.pointer == "/$not" * FILTER_LEVELS.most
    with pytest.raises(FilterError, match="deeper"):
        parse_filter(nested(5000))
    many = {f"field {number}": number for number in range(FILTER_CONDITIONS.most)}
    assert parse_filter(many).matches("text", many)
    with pytest.raises(FilterError, match=f"more than {FILTER_CONDITIONS.most} conditions"):
        parse_filter({**many, "one more": 1})
    assert parse_filter({"a": {"$in": list(range(FILTER_VALUES.most))}}).matches(
        "text", {"a": FILTER_VALUES.most - 1}
    )
    lists = [{"a": {"$in": list(range(FILTER_VALUES.most))}}] * (
        FILTER_VALUES_TOGETHER.most // FILTER_VALUES.most
    )
    assert parse_filter({"$or": lists}).matches("text", {"a": 0})
    with pytest.raises(FilterError, match="more than 10,000 values together") as told:
        parse_filter({"$or": [*lists, {"b": {"$nin": ["x"]}}]})
    assert told.value.pointer == f"/$or/{len(lists)}/b/$nin"


def test_equal_filters_are_equal_and_others_are_not() -> None:
    """They are keys of a cache, where Python would take 1, 1.0 and True for one."""
    assert (
        parse_filter({"a": 1})
        == parse_filter({"tags.a": {"$eq": 1.0}})
        == parse_filter({"a": {"$in": [1, 1]}})
    )
    different = [{"a": 1}, {"a": True}, {"a": "1"}, {"a": {"$ne": 1}}, {"a": {"$gt": 1}}, {"a": {"$gt": "1"}}]
    assert len({parse_filter(wanted) for wanted in different}) == len(different)
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_filter({"a": 1}).field = "b"  # type: ignore[attr-defined]
    assert isinstance(parse_filter({"a": 1}), OneOf)


@given(wanted=filters, tags=tags, modality=st.sampled_from(["image", "text"]))
def test_a_filter_can_be_written_and_read_again(
    wanted: dict[str, Any], tags: dict[str, Any], modality: str
) -> None:
    parsed = parse_filter(wanted)
    again = parse_filter(json.loads(json.dumps(parsed.to_json())))
    assert again == parsed
    assert hash(again) == hash(parsed)
    # protobuf carries every number as a float.
    floats = parse_filter(json.loads(json.dumps(wanted), parse_int=float))
    assert floats == parsed
    assert again.matches(modality, tags, {"d01"}) == parsed.matches(modality, tags, {"d01"})


@given(wanted=filters, other=filters, tags=tags, modality=st.sampled_from(["image", "text"]))
def test_the_laws_of_logic(
    wanted: dict[str, Any], other: dict[str, Any], tags: dict[str, Any], modality: str
) -> None:

    def fits(one: dict[str, Any]) -> bool:
        return parse_filter(one).matches(modality, tags, {"d01", "d02"})

    first, second = fits(wanted), fits(other)
    assert fits({"$and": [wanted, other]}) == (first and second)
    assert fits({"$or": [wanted, other]}) == (first or second)
    assert fits({"$not": wanted}) == (not first)


def test_tags_nested_deeper_than_the_stack() -> None:
    deep: Any = "bottom"
    for _ in range(3000):
        deep = [deep]
    assert parse_filter({"a": "bottom"}).matches("image", {"a": deep})


def test_values_by_name() -> None:
    values = collect_values({"camera": {"make": "x"}, "camera.make": ["y", 1, 1.0, True], "huge": 10**400})
    assert set(values) == {"camera", "camera.make", "huge"}
    assert values["camera.make"].strings == {"x", "y"}
    assert values["camera.make"].numbers == {1.0}
    assert values["camera.make"].booleans == {True}
    assert values["huge"].numbers == {float("inf")}
