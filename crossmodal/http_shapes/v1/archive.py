"""What is to be in an archive of photos: their ids, or a filter."""

from __future__ import annotations

from crossmodal import limits
from crossmodal.errors import FilterError, RequestError
from crossmodal.filters import Filter, parse_filter
from crossmodal.http_shapes.v1.changes import checked_ids
from crossmodal.http_shapes.values import shown

__all__ = ["parse_archive"]

_KEYS = ("ids", "filter")


def parse_archive(body: object) -> list[str] | Filter:
    """The ids of photos, or the filter that they match; raises RequestError, 422, for any other body."""
    if not isinstance(body, dict) or len(body) != 1 or not set(body) <= set(_KEYS):
        raise RequestError(
            f"The body is {shown(body)}; it has to be an object with either 'ids', a list of them, or a "
            "'filter'.",
            status=422,
        )
    if "filter" in body:
        try:
            return parse_filter(body["filter"])
        except FilterError as error:
            raise RequestError(error.located("'filter'"), status=422) from None
    return checked_ids(body["ids"], limits.ARCHIVE)
