"""A search request on its way through the engine: what the steps before have found out."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossmodal.match import Match
from crossmodal.query.calibration import Calibration
from crossmodal.query.composition import ComposedQuery, EncodedTerm
from crossmodal.query.request import HYBRID_DEPTH, MAX_RESULTS, SearchOutcome, SearchRequest
from crossmodal.records import Modality

__all__ = ["SearchState", "deepest", "first_depth"]

# Grouping needs more results than it will show; so many times what is asked for is fetched, then all.
_GROUPING_FACTOR = 4

# The same depth for every small top_k: a result's duplicates then don't depend on how many are shown.
_GROUPING_LEAST = 200


@dataclass(slots=True)
class SearchState:
    """One request with its outcome in the making.

    ``depth`` is how many matches the indexes are asked for. By modality searched: ``composed`` vectors, what
    was ``found``, and the (id, BM25) pairs that ``words`` found, best first.
    """

    request: SearchRequest
    outcome: SearchOutcome
    depth: int
    calibration: Calibration | None = None
    terms: list[EncodedTerm] = field(default_factory=list)
    composed: dict[Modality, ComposedQuery] = field(default_factory=dict)
    found: dict[Modality, list[Match]] = field(default_factory=dict)
    words: dict[Modality, list[tuple[str, float]]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the request has an error already."""
        return self.outcome.error is not None


def first_depth(request: SearchRequest) -> int:
    """How many matches the indexes are asked for: enough that some are left, and one that shows if there are
    more."""
    if request.hybrid:
        return HYBRID_DEPTH
    wanted = request.offset + request.top_k + 1
    if request.group_duplicates:
        wanted = max(wanted * _GROUPING_FACTOR, _GROUPING_LEAST)
    return min(wanted + len(request.exclude), deepest(request))


def deepest(request: SearchRequest) -> int:
    """The most matches that the indexes are ever asked for."""
    return MAX_RESULTS + len(request.exclude)
