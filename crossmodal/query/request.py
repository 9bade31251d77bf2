"""One search as it is asked for, and what came of it: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossmodal import limits
from crossmodal.errors import DataError
from crossmodal.match import Match
from crossmodal.records import Modality
from crossmodal.settings import TARGETS, Target

if TYPE_CHECKING:
    from crossmodal.errors import CrossmodalError
    from crossmodal.filters import Filter
    from crossmodal.filters.sorting import Order
    from crossmodal.query.expression import Term
    from crossmodal.query.recognition import Recognised

__all__ = [
    "FIELDS",
    "HYBRID_DEPTH",
    "MAX_RESULTS",
    "MOST_RERANK_SECONDS",
    "Rerank",
    "Reranked",
    "SearchOutcome",
    "SearchRequest",
    "Target",
    "Timing",
]

# What a match holds only where it is asked for.
FIELDS = ("text", "photo", "captions", "tags")

# ``offset`` and ``top_k`` together.
MAX_RESULTS = limits.TOP_K.most

# How many of each ranking a hybrid search looks at. It is the same for every top_k: a document's fused score
# depends on its ranks in both, so that a top 5 is the beginning of the top 15.
HYBRID_DEPTH = limits.HYBRID_DEPTH.most


# A second stage that takes longer keeps a person waiting, and the cores from others.
MOST_RERANK_SECONDS = 60.0

_PARTS = ("total_ms", "encode_ms", "search_ms", "words_ms", "rerank_ms", "fetch_ms")


@dataclass(frozen=True, slots=True)
class Rerank:
    """How a search is reranked: the best ``depth`` candidates, within ``seconds``.

    ``name`` has to be that of the reranker that the query Flow has; None stands for it. Raises DataError for
    a number out of its range.
    """

    name: str | None = None
    depth: int = 50
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= HYBRID_DEPTH:
            raise DataError(f"The depth is {self.depth!r}; it must be from 1 to {HYBRID_DEPTH}.")
        if not 0 < self.seconds <= MOST_RERANK_SECONDS:
            raise DataError(
                f"The seconds are {self.seconds!r}; they must be more than 0, and at most "
                f"{MOST_RERANK_SECONDS:g}."
            )


@dataclass(frozen=True, slots=True)
class Reranked:
    """What became of the second stage: whether it was ``applied``, else ``why`` the order is the first one.

    ``milliseconds`` is what it took of this query.
    """

    name: str
    depth: int
    applied: bool
    milliseconds: float
    why: str | None = None


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One query of weighted terms, and what is wanted of the index.

    ``modality`` is None where the kinds of terms decide it: captions for photos alone (photos where no
    captions are indexed), photos otherwise, and with ``similar`` the kind of the documents that are named.
    ``sort`` is the order of what was found: the best ``top_k``, whatever it is. With ``recognise`` years,
    places and names of files in a sentence become filters (``query.recognition``); without ``places`` no
    places do. With ``explain`` each match says what it was found by; with ``rerank`` a second stage looks at
    the best candidates.
    ``exclude`` are ids that are no results. ``min_score`` is in [0, 1]; ``fields`` are some of FIELDS. Raises
    DataError for a number out of its range.
    """

    terms: tuple[Term, ...]
    modality: Target | None = None
    similar: bool = False
    top_k: int = 10
    offset: int = 0
    min_score: float | None = None
    filter: Filter | None = None
    hybrid: bool = False
    group_duplicates: bool = False
    fields: frozenset[str] = frozenset(FIELDS)
    sort: Order | None = None
    recognise: bool = False
    places: bool = True
    explain: bool = False
    rerank: Rerank | None = None
    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.modality not in (None, *TARGETS):
            raise DataError(f"The modality is {self.modality!r}; it must be 'image', 'text' or 'both'.")
        if not 1 <= self.top_k <= MAX_RESULTS:
            raise DataError(f"top_k is {self.top_k!r}; it must be a whole number from 1 to {MAX_RESULTS}.")
        if not 0 <= self.offset <= MAX_RESULTS - self.top_k:
            raise DataError(
                f"offset is {self.offset!r}; it must be at least 0, and with top_k at most {MAX_RESULTS:,}."
            )
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise DataError(f"min_score is {self.min_score!r}; it must be from 0 to 1.")


@dataclass(slots=True)
class SearchOutcome:
    """What became of one query: matches, best first, or the error that kept it from being answered.

    ``request`` is None where the query itself could not be read. ``kinds`` says for each term whether it was
    a text or a photo; ``modality`` what was searched. ``truncated`` says that fewer matches came than were
    asked for, as more were too many bytes for one answer (``limits.ANSWER``). ``recognised`` are the filters
    that words of the query became. ``reranked`` says what became of the second stage, where one was asked
    for. ``partial`` names the shards that did not answer, whose documents are missing. ``fits`` is False
    where nothing fits well, and ``doubt`` is the sentence that says why; it is None where that is not known,
    because there are no scores or nothing was found.
    """

    request: SearchRequest | None
    modality: Target | None = None
    kinds: tuple[Modality, ...] = ()
    matches: list[Match] = field(default_factory=list)
    has_more: bool = False
    truncated: bool = False
    recognised: tuple[Recognised, ...] = ()
    reranked: Reranked | None = None
    partial: tuple[str, ...] = ()
    fits: bool | None = None
    doubt: str | None = None
    error: CrossmodalError | None = None


@dataclass(slots=True)
class Timing:
    """Milliseconds that the parts of a search took, all its queries together."""

    total_ms: float = 0.0
    encode_ms: float = 0.0
    search_ms: float = 0.0
    words_ms: float = 0.0
    rerank_ms: float = 0.0
    fetch_ms: float = 0.0

    def add(self, other: Timing) -> None:
        """Adds the parts of another search."""
        for part in _PARTS:
            setattr(self, part, getattr(self, part) + getattr(other, part))
