"""The ids of moments of videos: the first is the video itself, the others say where they begin."""

from __future__ import annotations

import re

__all__ = ["moment_id", "video_of"]

# Videos are known by their content: their ids are digests, or the beginnings of these.
_FURTHER = re.compile(r"([0-9a-f]{20}|[0-9a-f]{64})-t\d+")


def moment_id(video: str, seconds: float) -> str:
    """The id of a moment of a video, but the first, by its time."""
    return f"{video}-t{round(seconds * 1000)}"


def video_of(id: str) -> str:
    """The id of the video that a moment belongs to; of anything else its own."""
    found = _FURTHER.fullmatch(id)
    return id if found is None else found[1]
