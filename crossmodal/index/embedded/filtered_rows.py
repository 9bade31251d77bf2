"""Which rows of an index match a filter: SQL answers each condition, and masks in memory join them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossmodal.filters import And, Exists, Filter, Not, OneOf, Or, Range, tag_name
from crossmodal.index.embedded.row_view import RowView
from crossmodal.index.embedded.vector_source import VectorSnapshot

__all__ = ["matching_rows"]


def matching_rows(wanted: Filter, view: RowView, snapshot: VectorSnapshot) -> NDArray[np.bool_]:
    """Which positions of ``view``, which is as of ``snapshot``, are alive and match: bool (positions,)."""
    mask = _holds(wanted, view, snapshot)
    return mask if view.alive is None else mask & view.alive


def _holds(wanted: Filter, view: RowView, snapshot: VectorSnapshot) -> NDArray[np.bool_]:
    mask = np.zeros(view.positions, np.bool_)
    match wanted:
        case And(parts):
            mask[:] = True
            for part in parts:
                mask &= _holds(part, view, snapshot)
        case Or(parts):
            for part in parts:
                mask |= _holds(part, view, snapshot)
        case Not(part):
            mask = ~_holds(part, view, snapshot)
        case OneOf() | Range() | Exists() if tag_name(wanted.field) is None:
            mask[:] = wanted.matches(snapshot.source.modality, {})
        case OneOf() | Range() | Exists():
            places = view.find(snapshot.matching(wanted))
            mask[places[places >= 0]] = True
        case _:
            raise TypeError(f"{type(wanted).__name__} is no filter that parse_filter makes")
    return mask
