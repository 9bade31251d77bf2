"""Dates filter by what is known of them, places by distance; the index finds what the condition says."""

from __future__ import annotations

import json
import math
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from store_samples import vector_of

from crossmodal.errors import FilterError
from crossmodal.filters import Period, parse_filter
from crossmodal.index.embedded.exact_index import ExactIndex, matching_rows
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import Record

NEAR = {"$near": [48.86, 2.35], "$within_km": 5}


def matches(wanted: dict[str, Any], **tags: Any) -> bool:
    parsed = parse_filter(wanted)
    again = parse_filter(json.loads(json.dumps(parsed.to_json())))
    found = parsed.matches("image", tags)
    assert again.matches("image", tags) == found
    return found


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ("2019", True),
        (2019, True),
        ("2019-07", True),
        ("2019-07-04", True),
        ("2019-07-04T23", True),
        ("2019-07-04 23:30", True),
        ("2019-07-04T23:30:15", True),
        # The zone doesn't count, neither the photo's nor that of the filter.
        ("2019-07-04T23:30:15-05:00", True),
        ("2019-07-05", False),
        ("2018", False),
        ({"$gte": "2019-07", "$lt": "2020"}, True),
        ({"$gt": "2019-06"}, True),
        ({"$gt": "2019-07"}, False),
        ({"$lte": "2019-07"}, True),
        ({"$lt": "2019-07-04"}, False),
        ({"$lte": "2019-07-04"}, True),
        ({"$lte": 2019, "$gt": 2018}, True),
        ({"$in": ["2017", "2019-07"]}, True),
        ({"$nin": ["2017", "2019-07"]}, False),
        ({"$ne": 2019}, False),
        ({"$exists": True}, True),
    ],
    ids=str,
)
def test_a_part_of_a_date_stands_for_all_that_it_covers(wanted: Any, fits: bool) -> None:
    assert matches({"taken": wanted}, taken="2019-07-04T23:30:15+09:00") == fits


def test_other_text_under_the_name_of_a_date_is_equal_to_itself() -> None:
    assert matches({"taken": "last summer"}, taken="last summer")
    assert matches({"taken": {"$in": ["last summer", 2019]}}, taken="last summer")
    assert matches({"taken": "2019-07-04 12:30"}, taken="2019-07-04 12:30:00")
    assert not matches({"other": "2019"}, other="2019-07-04")
    # Numbers under that name are compared as numbers: milliseconds since 1970, years.
    assert matches({"taken": {"$gt": 1_562_236_496_122}}, taken=1_562_236_496_123)
    assert matches({"taken": {"$lte": 2019}}, taken=2019)
    assert matches({"taken": 2019}, taken=2019)
    assert not matches({"taken": {"$in": [2018, 2020]}}, taken=2019)


def test_a_range_of_dates_is_one_stretch() -> None:
    assert parse_filter({"taken": {"$gt": "2018", "$lt": "2019-08", "$gte": "2019-02-03"}}) == Period(
        "taken", "2019-02-03", "2019-08"
    )
    assert parse_filter({"taken": {"$lte": "2019-12-31"}}) == Period("taken", None, "2020-01-01")


@pytest.mark.parametrize(
    ("wanted", "pointer", "words"),
    [
        ({"taken": {"$gte": "summer"}}, "/taken/$gte", "2019-07-04T12:30, not"),
        ({"taken": {"$lt": "2019-02-30"}}, "/taken/$lt", "needs a date"),
        ({"taken": {"$lt": True}}, "/taken/$lt", "needs a number or text"),
        ({"place": NEAR}, "/place", 'not with "place"'),
        ({"location": {"$near": [1, 2]}}, "/location", "stand together"),
        ({"location": {**NEAR, "$ne": 1}}, "/location", "stand together"),
        (
            {"location": {**NEAR, "$near": [91, 0]}},
            "/location/$near/0",
            "a latitude between -90 and 90, not 91",
        ),
        ({"location": {**NEAR, "$near": [0, math.nan]}}, "/location/$near/1", "a longitude"),
        ({"location": {**NEAR, "$near": "Paris"}}, "/location/$near", "in degrees"),
        ({"location": {**NEAR, "$within_km": 0}}, "/location/$within_km", "more than 0"),
        ({"location": {**NEAR, "$within_km": True}}, "/location/$within_km", "kilometres"),
    ],
    ids=str,
)
def test_what_is_refused_and_where(wanted: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(FilterError) as raised:
        parse_filter(wanted)
    assert raised.value.pointer == pointer
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("point", "km", "place", "fits"),
    [
        # Paris to the Eiffel tower is 4.1 km, to Versailles 17 km.
        ((48.8566, 2.3522), 5, (48.8584, 2.2945), True),
        ((48.8566, 2.3522), 5, (48.8049, 2.1204), False),
        # A degree of latitude is 111.195 km on this sphere.
        ((0, 0.5), 111.19, (1, 0.5), False),
        ((0, 0.5), 111.2, (1, 0.5), True),
        # Across the date line, and across the pole.
        ((-17, 179.9), 50, (-17, -179.9), True),
        ((89.9, 0), 25, (89.9, 180), True),
        ((89.9, 0), 20, (89.9, 180), False),
        ((0, 0.5), 20_015, (0, -179.4), True),
    ],
)
def test_near_is_by_distance(
    point: tuple[float, float], km: float, place: tuple[float, float], fits: bool
) -> None:
    wanted = {"location": {"$near": list(point), "$within_km": km}}
    assert matches(wanted, latitude=place[0], longitude=place[1]) == fits
    assert not matches(wanted, latitude=place[0])
    assert not matches(wanted, latitude=str(place[0]), longitude=place[1])


moments = st.datetimes(datetime(2018, 12, 30), datetime(2020, 1, 3)).map(lambda at: at.replace(microsecond=0))
dates = moments.flatmap(
    lambda at: st.sampled_from(
        [at.isoformat(), at.isoformat(" "), at.isoformat() + "+09:00", at.date().isoformat()]
    )
)
parts = moments.flatmap(
    lambda at: st.sampled_from(
        [at.strftime(form) for form in ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%d %H:%M")]
        + [at.isoformat() + "-03:00", at.year]
    )
)
latitudes = st.sampled_from([-90, 90, 0, 48.86, 500]) | st.floats(-90, 90)
longitudes = st.sampled_from([-180, 180, 179.99, -179.99, 0, math.inf]) | st.floats(-180, 180)
documents = st.fixed_dictionaries(
    {},
    optional={
        "taken": dates | st.lists(dates | st.just("x"), max_size=2) | st.just(2019),
        "latitude": latitudes | st.lists(latitudes, max_size=2),
        "longitude": longitudes,
    },
)
ranges = st.dictionaries(
    st.sampled_from(["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"]), parts, min_size=1
).map(lambda operators: {"taken": operators})
nears = st.builds(
    lambda latitude, longitude, km: {"location": {"$near": [latitude, longitude], "$within_km": km}},
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.floats(0.1, 20_000),
)


@given(
    tags=st.lists(documents, min_size=1, max_size=12),
    filters=st.lists(ranges | nears, min_size=1, max_size=6),
)
def test_the_index_finds_what_the_condition_says(
    tags: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> None:
    records = [Record(f"d{number:02d}", "image", tags=one).hashed() for number, one in enumerate(tags)]
    with tempfile.TemporaryDirectory() as name, EmbeddedStore.open_writer(Path(name)) as store:
        store.put(records, np.stack([vector_of(record.id) for record in records]))
        source = store.vector_source("image")
        view = ExactIndex(source).view()
        ids = view.ids(np.arange(view.positions))
        for wanted in map(parse_filter, filters):
            with source.snapshot() as snapshot:
                mask = matching_rows(wanted, view, snapshot)
            assert {ids[place] for place in np.flatnonzero(mask)} == {
                record.id for record in records if wanted.matches("image", record.tags)
            }


@given(
    taken=moments,
    bound=moments,
    known=st.integers(1, 6),
    operator=st.sampled_from(["$lt", "$lte", "$gt", "$gte"]),
)
def test_dates_compare_as_time_does(taken: datetime, bound: datetime, known: int, operator: str) -> None:
    forms = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
    numbers = bound.timetuple()[:known]
    first = datetime(*(*numbers, 1, 1)[: max(known, 3)])
    months = first.year * 12 + first.month
    behind = {
        1: lambda: datetime(first.year + 1, 1, 1),
        2: lambda: datetime(months // 12, months % 12 + 1, 1),
        3: lambda: first + timedelta(days=1),
        4: lambda: first + timedelta(hours=1),
        5: lambda: first + timedelta(minutes=1),
        6: lambda: first + timedelta(seconds=1),
    }[known]()
    expected = {
        "$lt": taken < first,
        "$lte": taken < behind,
        "$gt": taken >= behind,
        "$gte": taken >= first,
    }[operator]
    assert (
        matches({"taken": {operator: bound.strftime(forms[known - 1])}}, taken=taken.isoformat()) == expected
    )


@given(
    first=st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    second=st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    km=st.floats(0.5, 20_000),
)
def test_distances_are_those_of_vectors(
    first: tuple[float, float], second: tuple[float, float], km: float
) -> None:
    def vector(point: tuple[float, float]) -> np.ndarray[Any, Any]:
        latitude, longitude = np.radians(point)
        flat = math.cos(latitude)
        return np.array([flat * math.cos(longitude), flat * math.sin(longitude), math.sin(latitude)])

    one, other = vector(first), vector(second)
    distance = 6371.0088 * math.atan2(float(np.linalg.norm(np.cross(one, other))), float(one @ other))
    assume(abs(distance - km) > 1e-3)
    wanted = {"location": {"$near": list(first), "$within_km": km}}
    assert matches(wanted, latitude=second[0], longitude=second[1]) == (distance < km)
