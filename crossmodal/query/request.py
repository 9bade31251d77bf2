"""One search as it is asked for, and what came of it: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crossmodal.records import Modality
from crossmodal.settings import MAX_TOP_K

if TYPE_CHECKING:
    from crossmodal.errors import CrossmodalError
    from crossmodal.filters import Filter
    from crossmodal.query.terms import Term

__all__ = [
    "FIELDS",
    "HYBRID_DEPTH",
    "MAX_RESULTS",
    "FoundMatch",
    "Parts",
    "SearchOutcome",
    "SearchRequest",
    "Target",
    "Timing",
]

Target = Literal["image", "text", "both"]

# What a match holds only where it is asked for.
FIELDS = ("text", "photo", "captions", "tags")

# ``offset`` and ``top_k`` together.
MAX_RESULTS = MAX_TOP_K

# How many of each ranking a hybrid search looks at. It is the same for every top_k: a document's fused score
# depends on its ranks in both, so that a top 5 is the beginning of the top 15.
HYBRID_DEPTH = 200


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One query of weighted terms, and what is wanted of the index.

    ``modality`` is None where the kinds of terms decide it: captions for photos alone, photos otherwise, and
    with ``similar`` the kind of the documents that are named. ``exclude`` are ids that are no results.
    ``min_score`` is in [0, 1]; ``fields`` are some of FIELDS.
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
    exclude: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a match of a hybrid search stood in each ranking (1 is the best), and what that came to."""

    vector_rank: int | None
    word_rank: int | None
    bm25: float | None
    fused: float


@dataclass(slots=True)
class FoundMatch:
    """One result: ``score`` in [0, 1] or None where the model has no calibration, ``cosine`` in [-1, 1].

    ``photo_id`` is that of the photo itself or of the photo that a caption describes; None where it isn't in
    the index, and ``file`` is what its file was called, where that is known. ``captions`` are (id, text)
    pairs of a photo.
    """

    id: str
    modality: Modality
    cosine: float
    score: float | None
    rank: int = 0
    text: str | None = None
    photo_id: str | None = None
    file: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    captions: tuple[tuple[str, str], ...] = ()
    parts: Parts | None = None
    duplicates: tuple[str, ...] | None = None


@dataclass(slots=True)
class SearchOutcome:
    """What became of one query: matches, best first, or the error that kept it from being answered.

    ``request`` is None where the query itself could not be read. ``kinds`` tells for each term whether it was
    a text or a photo; ``modality`` what was searched.
    """

    request: SearchRequest | None
    modality: Target | None = None
    kinds: tuple[Modality, ...] = ()
    matches: list[FoundMatch] = field(default_factory=list)
    has_more: bool = False
    error: CrossmodalError | None = None


@dataclass(slots=True)
class Timing:
    """Milliseconds that the parts of a search took, all its queries together."""

    total_ms: float = 0.0
    encode_ms: float = 0.0
    search_ms: float = 0.0
    words_ms: float = 0.0
    fetch_ms: float = 0.0
