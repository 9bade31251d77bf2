"""Photos of one burst: what a camera takes while its button is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = ["LEAST_BURST_COSINE", "LONGEST_APART", "Shot", "moment_filter", "shot_of"]

# Between a photo and the one that stands for its burst. Cameras fill their buffers in less, and a bracket of
# long exposures or three tries at one group of people fit.
LONGEST_APART = timedelta(seconds=5)

# The least cosine of a photo of a burst with the one that stands for it, so that a camera that is turned
# around, or shared, begins another.
LEAST_BURST_COSINE = 0.7

# A date without a time says nothing, and a folder that was copied has one file time for all that is in it.
_WITH_TIME = len("2019-07-04T12:34")
_NO_CLOCK = "file time"


@dataclass(frozen=True, slots=True)
class Shot:
    """With which ``camera`` a photo was taken, and when, as its clock had it."""

    camera: str
    taken: datetime

    def same_burst(self, other: Shot | None) -> bool:
        """Whether the two may be of one burst, whichever was first."""
        return (
            other is not None
            and self.camera == other.camera
            and abs(self.taken - other.taken) <= LONGEST_APART
        )


def shot_of(tags: Mapping[str, Any]) -> Shot | None:
    """The camera and the moment in the tags of a photo; None where one of them isn't known."""
    camera, moment = tags.get("camera"), _moment_of(tags)
    return Shot(camera, moment) if isinstance(camera, str) and moment is not None else None


def moment_filter(tags: Mapping[str, Any], minutes: float) -> dict[str, Any] | None:
    """The filter for photos taken within ``minutes`` of one with these tags, by its camera if that is known.

    None where it isn't known when that was.
    """
    moment = _moment_of(tags)
    if moment is None:
        return None
    apart = timedelta(minutes=minutes)
    try:
        first, last = (each.isoformat(timespec="seconds") for each in (moment - apart, moment + apart))
    except OverflowError:
        # At the end of all dates.
        return None
    taken, camera = {"$gte": first, "$lte": last}, tags.get("camera")
    if isinstance(camera, str):
        return {"taken": taken, "camera": camera}
    return {"taken": taken, "taken_from": {"$ne": _NO_CLOCK}}


def _moment_of(tags: Mapping[str, Any]) -> datetime | None:
    """When a photo was taken, by the clock of its camera; None where no clock says it."""
    taken = tags.get("taken")
    if not isinstance(taken, str) or tags.get("taken_from") == _NO_CLOCK or len(taken) < _WITH_TIME:
        return None
    try:
        return datetime.fromisoformat(taken).replace(tzinfo=None)
    except ValueError:
        # A tag that a person gave.
        return None
