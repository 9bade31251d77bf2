"""What a photo leads to without a search: the others of the same moment."""

from __future__ import annotations

from crossmodal import limits
from crossmodal.errors import DataError
from crossmodal.filters import Filter, parse_filter
from crossmodal.query.bursts import moment_filter
from crossmodal.records import IMAGE
from crossmodal.workspace import Workspace

__all__ = ["LONGEST_MOMENT", "MOMENT_MINUTES", "moment_of"]

# What belongs together for people: a cake, a view, a goal.
MOMENT_MINUTES = 10.0

# A week: what is longer is no moment, and dates have an end.
LONGEST_MOMENT = 7 * 24 * 60.0


def moment_of(workspace: Workspace, id: str, minutes: float = MOMENT_MINUTES) -> Filter:
    """The filter for the photos taken within ``minutes`` of the photo ``id``, by its camera if that is known.

    Raises DataError where there is no such photo, where it isn't known when it was taken, and for minutes
    that are negative or more than a week.
    """
    if not 0 <= minutes <= LONGEST_MOMENT:
        raise DataError(f"A moment has {minutes:g} minutes; it has to have 0 to {LONGEST_MOMENT:,.0f}.")
    record = workspace.get(id, IMAGE)
    if record is None:
        raise DataError(f"There is no photo {limits.quoted(id)} in the index.")
    found = moment_filter(record.all_tags, minutes)
    if found is None:
        raise DataError(f"When the photo {limits.quoted(id)} was taken isn't known to the minute.")
    return parse_filter(found)
