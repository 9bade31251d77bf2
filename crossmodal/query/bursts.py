"""Photos of one burst: what a camera takes while its button is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = ["LEAST_BURST_COSINE", "LONGEST_APART", "Shot", "shot_of"]

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
    camera, taken = tags.get("camera"), tags.get("taken")
    if not isinstance(camera, str) or not isinstance(taken, str) or tags.get("taken_from") == _NO_CLOCK:
        return None
    try:
        moment = datetime.fromisoformat(taken) if len(taken) >= _WITH_TIME else None
    except ValueError:
        # A tag that a person gave.
        return None
    return Shot(camera, moment.replace(tzinfo=None)) if moment else None
