"""Distances in filters: what was taken within some kilometres of a point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from crossmodal.filters.conditions import And, Facts, Filter, Not, Or, tag_name
from crossmodal.metadata.fields import LATITUDE, LOCATION, LONGITUDE, PRIVATE

__all__ = ["FARTHEST_KM", "Near", "asks_for_places", "distance_km"]

# The mean radius of the earth by the IUGG, 1980.
_RADIUS_KM = 6371.0088

# Half around the earth.
FARTHEST_KM = math.pi * _RADIUS_KM

# Degrees, about 10 cm: a box is so much larger than what it has to hold, because of rounding.
_MARGIN = 1e-6


@dataclass(frozen=True, slots=True)
class Near(Filter):
    """A latitude and a longitude of the document, in degrees, lie within ``km`` of a point."""

    latitude: float
    longitude: float
    km: float

    def holds(self, facts: Facts) -> bool:
        latitudes, longitudes = facts.values_of(LATITUDE), facts.values_of(LONGITUDE)
        return (
            latitudes is not None
            and longitudes is not None
            and any(
                self.holds_at(latitude, longitude)
                for latitude in latitudes.numbers
                for longitude in longitudes.numbers
            )
        )

    def holds_at(self, latitude: float, longitude: float) -> bool:
        """Whether a point is near enough; what is not on the globe is near to nothing."""
        return (
            abs(latitude) <= 90
            and abs(longitude) <= 180
            and distance_km(self.latitude, self.longitude, latitude, longitude) <= self.km
        )

    def to_json(self) -> dict[str, Any]:
        return {LOCATION: {"$near": [self.latitude, self.longitude], "$within_km": self.km}}

    def latitudes(self) -> tuple[float, float]:
        """The least and the greatest latitude that is near enough, or a little more."""
        half = math.degrees(self.km / _RADIUS_KM) + _MARGIN
        return max(self.latitude - half, -90.0), min(self.latitude + half, 90.0)

    def longitudes(self) -> list[tuple[float, float]]:
        """The same of longitudes: two ranges where the date line lies between, all of them around a pole."""
        south, north = self.latitudes()
        if south <= -90 or north >= 90:
            return [(-180.0, 180.0)]
        # The widest circle of longitude that touches the circle around the point.
        half = math.degrees(
            math.asin(min(math.sin(self.km / _RADIUS_KM) / math.cos(math.radians(self.latitude)), 1.0))
        )
        west, east = self.longitude - half - _MARGIN, self.longitude + half + _MARGIN
        if west < -180:
            return [(west + 360, 180.0), (-180.0, east)]
        if east > 180:
            return [(west, 180.0), (-180.0, east - 360)]
        return [(west, east)]


def asks_for_places(filter: Filter) -> bool:
    """Whether a condition of ``filter`` is on where photos were taken."""
    if isinstance(filter, And | Or):
        return any(map(asks_for_places, filter.parts))
    if isinstance(filter, Not):
        return asks_for_places(filter.part)
    if isinstance(filter, Near):
        return True
    tag = tag_name(getattr(filter, "field", "")) or ""
    return tag.partition(".")[0] in PRIVATE


def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """The length of the great circle between two points in degrees, in km, by the haversine formula."""
    first, second = math.radians(latitude), math.radians(other_latitude)
    across = math.sin((second - first) / 2) ** 2
    along = math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    return (
        2 * _RADIUS_KM * math.asin(min(math.sqrt(across + math.cos(first) * math.cos(second) * along), 1.0))
    )
