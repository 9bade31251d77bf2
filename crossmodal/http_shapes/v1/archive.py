"""What is to be in an archive of photos: their ids, or a filter."""

from __future__ import annotations

from crossmodal import limits
from crossmodal.errors import FilterError, RequestError
from crossmodal.filters import Filter, parse_filter
from crossmodal.http_shapes.values import checked_id, shown

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
    ids = body["ids"]
    if not isinstance(ids, list) or not ids:
        raise RequestError(f"'ids' is {shown(ids)}; it has to be a list of at least one id.", status=422)
    if len(ids) > limits.ARCHIVE.most:
        raise RequestError(limits.ARCHIVE.exceeded("'ids'", len(ids)), status=422)
    try:
        return [checked_id(id, f"ids[{number}]", limits.STORED_ID) for number, id in enumerate(ids)]
    except RequestError as error:
        raise RequestError(str(error), status=422) from None
