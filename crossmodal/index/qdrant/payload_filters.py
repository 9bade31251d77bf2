"""Conditions as filters on Qdrant's payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossmodal.index.following.conditions import AllOf, AnyOf, AnyValue, Bound, NoneOf, Rows, Wanted

if TYPE_CHECKING:
    from qdrant_client import models

__all__ = ["payload_filter"]

_BOUNDS = {"$lt": "lt", "$lte": "lte", "$gt": "gt", "$gte": "gte"}


def payload_filter(wanted: Wanted) -> models.Filter:
    """``wanted`` as a filter by itself."""
    from qdrant_client import models

    match wanted:
        case AllOf(parts):
            return models.Filter(must=[payload_filter(part) for part in parts])
        case AnyOf(parts) if parts:
            return models.Filter(should=[payload_filter(part) for part in parts])
        case AnyOf():
            # Which ids are among none.
            return models.Filter(must=[models.HasIdCondition(has_id=[])])
        case NoneOf(part):
            return models.Filter(must_not=[payload_filter(part)])
        case AnyValue(values):
            condition = models.FieldCondition(key="values", match=models.MatchAny(any=list(values)))
            return models.Filter(must=[condition])
        case Bound(key, operator, bound):
            within = models.Range(**{_BOUNDS[operator]: bound})
            return models.Filter(must=[models.FieldCondition(key=f"{wanted.side}.{key}", range=within)])
        case Rows(rows, among):
            named = models.HasIdCondition(has_id=list(rows))
            return models.Filter(must=named) if among else models.Filter(must_not=named)
