"""Files beside a photo that speak of it: which ones they are, and what Google Takeout's say."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import orjson

from crossmodal.metadata.dates import from_timestamp
from crossmodal.metadata.found import Found, coordinates, text_of

__all__ = ["MAX_SIDECAR_BYTES", "find_sidecars", "is_sidecar", "read_takeout"]

# Those of photo programs have some kilobytes; an editing history makes them longer.
MAX_SIDECAR_BYTES = 4 << 20

# Takeout cuts a name, the dot before json apart, to so many characters.
_TAKEOUT_CHARACTERS = 46
_SUPPLEMENT = ".supplemental-metadata"
_NUMBERED = re.compile(r"(.*)(\(\d+\))(\.[^.]*)", re.DOTALL)
_EDITED = re.compile(r"(.*)-edited(\(\d+\))?(\.[^.]*)", re.DOTALL)

# A file that has none of these is of another program.
_TAKEOUT_KEYS = frozenset({"photoTakenTime", "creationTime", "geoData", "googlePhotosOrigin"})


def find_sidecars(name: str, names: Collection[str]) -> list[str]:
    """Those of ``names``, the files of one folder, that speak of the photo ``name``; what counts more first.

    Each of the spellings ``x.jpg.xmp``, ``x.xmp``, ``x.jpg.json`` and ``x.jpg.supplemental-metadata.json``,
    also cut off and numbered as Google Takeout does it. ``names`` should be a set.
    """
    return [candidate for candidate in dict.fromkeys(_candidates(name)) if candidate in names]


def is_sidecar(name: str) -> bool:
    """Whether the file ``name`` may be one by the end of its name."""
    return name.lower().endswith((".xmp", ".json"))


def _candidates(name: str) -> Iterator[str]:
    stem, dot, _ = name.rpartition(".")
    for end in (".xmp", ".XMP"):
        yield name + end
        if dot:
            yield stem + end
    yield from _takeout_names(name)
    if edited := _EDITED.fullmatch(name):
        # An edited copy has no sidecar of its own.
        yield from _takeout_names(f"{edited[1]}{edited[2] or ''}{edited[3]}")


def _takeout_names(name: str) -> Iterable[str]:
    # x(1).jpg has its number at the end: x.jpg(1).json and x.jpg.supplemental-metadata(1).json.
    numbered = _NUMBERED.fullmatch(name)
    plain, number = (f"{numbered[1]}{numbered[3]}", numbered[2]) if numbered else (name, "")
    for kept in range(len(_SUPPLEMENT), -1, -1):
        yield f"{(plain + _SUPPLEMENT[:kept])[:_TAKEOUT_CHARACTERS]}{number}.json"
    yield f"{name}.json"


def read_takeout(content: bytes) -> Found:
    """What Google Takeout wrote of a photo; raises ValueError for anything else."""
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(said, dict) or not _TAKEOUT_KEYS & said.keys():
        raise ValueError("it is not of Google Takeout")
    found = Found()
    found.say("description", text_of(said.get("description")))
    people = said.get("people")
    if isinstance(people, list):
        found.say("people", [text_of(_inner(person, "name")) for person in people])
    taken = _inner(said.get("photoTakenTime"), "timestamp")
    if isinstance(taken, str | int) and not isinstance(taken, bool):
        found.say("taken", from_timestamp(taken))
    for key in ("geoData", "geoDataExif"):
        place = said.get(key)
        found.place(coordinates(_inner(place, "latitude"), _inner(place, "longitude")))
    return found


def _inner(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
