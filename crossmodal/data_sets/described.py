"""What a row of Parquet, or a JSON object beside a photo, says of it, as img2dataset writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["CAPTIONS", "PLACES", "cell_text", "further_tags"]

# The columns that say where a photo is, the best first: img2dataset's, clip-retrieval's, and the key of both.
PLACES = ("url", "uri", "image_path", "key")
CAPTIONS = ("caption", "text")

# Columns that are read elsewhere, or are about the download and not about the photo.
_NO_TAGS = frozenset(
    (
        *(*PLACES, *CAPTIONS, "id", "modality", "photo_id", "mime_type", "sha256", "tags", "metadata"),
        *("status", "error_message", "exif", "original_width", "original_height"),
    )
)


def further_tags(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the other columns, which are tags as those of a table are."""
    return {
        name: value
        for name, value in row.items()
        if name not in _NO_TAGS
        and (isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)))
    }


def cell_text(row: Mapping[str, Any], name: str) -> str | None:
    """What the column says, None for one that is empty or not there; numbers as text."""
    value = row.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return None if value is None else str(value).strip() or None
