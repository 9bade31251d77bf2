"""The one table of the tags that photos get from their files: names, types and what they mean.

docs/library.md shows it (``python -m crossmodal.metadata`` writes it), filters take a tag's
type from it, and what is private is left out for whoever may not see where photos were taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FIELDS", "LATITUDE", "LOCATION", "LONGITUDE", "PRIVATE", "Field", "FieldKind", "tags_section"]

FieldKind = Literal["date", "number", "text", "list", "place"]

LATITUDE = "latitude"
LONGITUDE = "longitude"
# What a filter by distance names; the two numbers are what is stored.
LOCATION = "location"


@dataclass(frozen=True, slots=True)
class Field:
    """A tag: its ``name``, ``kind``, ``unit`` (empty where it has none) and one sentence, ``means``.

    ``private`` ones say where a photo was taken.
    """

    name: str
    kind: FieldKind
    unit: str
    means: str
    private: bool = False


_ALL = (
    Field(
        "taken",
        "date",
        "local time, ISO 8601",
        "When the photo was taken, with its zone where that is known.",
    ),
    Field(
        "taken_from",
        "text",
        "",
        "What said so: `sidecar`, `camera`, `xmp`, `iptc`, `file name` or `file time`.",
    ),
    Field("year", "number", "", "The year of `taken`."),
    Field("month", "number", "1 to 12", "The month of `taken`."),
    Field("camera", "text", "", "The camera's maker and model, the maker's name once."),
    Field("lens", "text", "", "The lens."),
    Field("iso", "number", "", "The sensitivity."),
    Field("aperture", "number", "f-number", "The aperture."),
    Field("exposure_seconds", "number", "seconds", "The exposure time."),
    Field("focal_length_mm", "number", "millimetres", "The focal length, as the lens has it."),
    Field("orientation", "text", "", "`landscape`, `portrait` or `square`, upright."),
    Field(LATITUDE, "number", "degrees, north is positive", "Where the photo was taken.", private=True),
    Field(LONGITUDE, "number", "degrees, east is positive", "Where the photo was taken.", private=True),
    Field(
        LOCATION,
        "place",
        "",
        'Both together, for `{"location": {"$near": [48.86, 2.35], "$within_km": 5}}`.',
        private=True,
    ),
    Field("city", "text", "", "The city, by a photo program or by the coordinates.", private=True),
    Field("region", "text", "", "The state or province, by the same.", private=True),
    Field("country", "text", "", "The country, by a photo program or by the coordinates.", private=True),
    Field("keywords", "list", "", "The keywords; of nested ones each part."),
    Field("people", "list", "", "The people in the photo."),
    Field("title", "text", "", "The title, which is also a caption."),
    Field("description", "text", "", "The description, which is also a caption."),
    Field("rating", "number", "stars, -1 to 5", "The rating; -1 is rejected."),
    Field("folder", "list", "", "Each folder around the photo, by its path from the root."),
    Field("file", "text", "", "The name of the file."),
    Field("format", "text", "", "The format of the file."),
    Field("frames", "number", "", "How many pictures an animation or a document has; the first is indexed."),
    Field("duration_seconds", "number", "seconds", "How long a video is."),
    Field("moments", "number", "", "How many moments of a video are in the index."),
    Field("video_id", "text", "", "The id of the video that a moment is of."),
    Field("time_seconds", "number", "seconds", "Where in its video a moment begins."),
    Field("width", "number", "pixels", "The width, upright."),
    Field("height", "number", "pixels", "The height, upright."),
    Field("bytes", "number", "bytes", "The size of the file."),
)

FIELDS = {field.name: field for field in _ALL}

PRIVATE = frozenset(field.name for field in _ALL if field.private)


def tags_section() -> str:
    """The table of docs/library.md."""
    rows = [f"| `{field.name}` | {field.kind} | {field.unit} | {field.means} |" for field in _ALL]
    return "\n".join(["| tag | type | unit | what it says |", "|---|---|---|---|", *rows]) + "\n"
