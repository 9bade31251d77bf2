"""What the containers of videos say of them: QuickTime and MP4 by their names of tags, others by the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crossmodal.metadata.dates import from_iso
from crossmodal.metadata.found import Found, coordinates, text_of

__all__ = ["read_container"]

# Apple's names of tags (QuickTime File Format, "Metadata"), and what others call the same.
_APPLE = "com.apple.quicktime."
_TAKEN = (f"{_APPLE}creationdate", "creation_time", "date")
_LOCATION = (f"{_APPLE}location.ISO6709", "location", "location-eng")
_MAKE = (f"{_APPLE}make", "com.android.manufacturer", "make")
_MODEL = (f"{_APPLE}model", "com.android.model", "model")
_TITLE = (f"{_APPLE}title", f"{_APPLE}displayname", "title")
_DESCRIPTION = (f"{_APPLE}description", "description")

# ISO 6709, annex H: degrees, or degrees and minutes, or also seconds, with a sign each.
_PLACE = re.compile(r"([+-]\d{2,6}(?:\.\d+)?)([+-]\d{3,7}(?:\.\d+)?)")
# A container without a clock counts from its own year 0: 1904 in QuickTime, 1970 in others.
_NEVER = ("1904-01-01", "1970-01-01")


def read_container(said: Mapping[str, str]) -> Found:
    """The tags of the container of a video, by the names of ``FIELDS``."""
    found = Found()
    for name in _TAKEN:
        moment = from_iso(said.get(name))
        if moment is not None and not moment.startswith(_NEVER):
            found.say("taken", moment)
    for name in _LOCATION:
        found.place(_place(said.get(name, "")))
    make, model = _first(said, _MAKE), _first(said, _MODEL)
    if model and make and not model.lower().startswith(make.lower()):
        model = f"{make} {model}"
    found.say("camera", model or make)
    found.say("title", _first(said, _TITLE))
    found.say("description", _first(said, _DESCRIPTION))
    return found


def _first(said: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := text_of(said.get(name)))), None)


def _place(text: str) -> tuple[float, float] | None:
    """The degrees in ``+48.8583+002.2944+035/``; None where there are none."""
    if not (read := _PLACE.match(text.strip())):
        return None
    return coordinates(_degrees(read[1], 2), _degrees(read[2], 3))


def _degrees(number: str, digits: int) -> float:
    """Degrees with so many digits, behind which minutes and seconds may stand, two digits each."""
    whole, _, fraction = number[1:].partition(".")
    parts = [whole[:digits], *(whole[at : at + 2] for at in range(digits, len(whole), 2))]
    parts[-1] += f".{fraction}"
    value = sum(float(part) / 60.0**power for power, part in enumerate(parts))
    return -value if number[0] == "-" else value
