"""What the server answers, as plain data. ``decoding`` makes it from JSON by the type hints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crossmodal.match import Caption, Match, Photo
from crossmodal.query.request import Reranked, Timing
from crossmodal.records import Outcome

__all__ = [
    "Building",
    "CountedValue",
    "Document",
    "DocumentOutcome",
    "DocumentsPage",
    "Facet",
    "FacetValue",
    "IndexState",
    "LatencyBucket",
    "ModalityState",
    "ModelInfo",
    "ModelState",
    "Problem",
    "QueryResult",
    "QueryTerm",
    "Recognised",
    "Removal",
    "SearchAnswer",
    "SearchState",
    "Status",
    "Suggestion",
    "TagField",
    "Texts",
    "Traffic",
    "UploadProgress",
    "UploadSummary",
    "Writing",
]


@dataclass(frozen=True, slots=True)
class QueryTerm:
    """A term of a query as the server read it: a ``text``, an ``id``, an ``image`` or a ``vector``.

    ``modality`` is that of the id, or of what the vector is of.
    """

    weight: float
    text: str | None = None
    id: str | None = None
    modality: str | None = None
    image: str | None = None
    vector: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one of several queries has no answer; ``status`` is the HTTP status of that query alone."""

    title: str
    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Recognised:
    """Words of a query, ``text``, and the ``filter`` that the server took them for."""

    text: str
    filter: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What one query found, best first.

    ``has_more`` says that a larger ``top_k`` or ``offset`` gives more, ``truncated`` that fewer came than
    were asked for because they were too many bytes for one answer. ``recognised`` are the filters that words
    of the query became, ``reranked`` says whether a second stage ordered the best, and ``partial`` names the
    shards that did not answer, whose documents are missing. ``fits`` says whether
    the best match fits (None: not known), ``doubt`` why not.
    ``timing`` is that of the whole request.
    With an ``error`` there are no matches, and what could not be read of the query is missing.
    """

    terms: tuple[QueryTerm, ...]
    modality: str | None
    matches: tuple[Match, ...]
    has_more: bool
    error: Problem | None
    model: str
    timing: Timing
    truncated: bool | None = None
    recognised: tuple[Recognised, ...] | None = None
    reranked: Reranked | None = None
    partial: tuple[str, ...] | None = None
    fits: bool | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The results of several queries, in the order asked."""

    results: tuple[QueryResult, ...]
    model: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class Document:
    """An indexed photo or caption; ``captions`` are those of a photo, ``photo`` as in ``Match``.

    ``text_in_photo`` is what was read in a photo: empty where it has no text, None where nobody has looked.
    """

    id: str
    modality: str
    text: str | None
    mime_type: str | None
    photo: Photo | None
    captions: tuple[Caption, ...]
    tags: Mapping[str, Any]
    text_in_photo: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentsPage:
    """A page of documents; the next one begins after ``next``, if it isn't None."""

    documents: tuple[Document, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion by a filter ``matched``, the first few ids, and how many documents it ``deleted``.

    The captions that went with their photos count among the latter; after a dry run it is 0.
    """

    matched: int
    first_ids: tuple[str, ...]
    deleted: int


@dataclass(frozen=True, slots=True)
class DocumentOutcome:
    """What became of one uploaded photo or caption.

    ``source`` is the file (as it was given) or the document it came from; a photo's captions have outcomes of
    their own with the photo's source. ``outcome`` is "added", "replaced" or "unchanged", and None where
    ``error`` says why it is none of these.
    """

    source: str
    id: str | None
    modality: str | None
    outcome: Outcome | None
    error: str | None


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How far an upload is: files and documents ``done`` of ``total`` (None where that isn't known).

    The counts are of photos and captions; ``latest`` holds the outcomes that came since the last call.
    """

    done: int
    total: int | None
    added: int
    replaced: int
    unchanged: int
    failed: int
    latest: tuple[DocumentOutcome, ...]


@dataclass(frozen=True, slots=True)
class UploadSummary:
    """What an upload came to, by photo and caption."""

    added: int
    replaced: int
    unchanged: int
    failed: int
    outcomes: tuple[DocumentOutcome, ...]

    @property
    def failures(self) -> tuple[DocumentOutcome, ...]:
        """The outcomes that have an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)


@dataclass(frozen=True, slots=True)
class CountedValue:
    """A value of a tag and how many documents have it."""

    value: Any
    count: int


@dataclass(frozen=True, slots=True)
class TagField:
    """A tag that documents have: ``type`` is string, number, boolean, date or mixed.

    ``values`` are the most frequent ones; ``min`` and ``max`` are None where it holds no numbers.
    """

    name: str
    type: str
    count: int
    values: tuple[CountedValue, ...]
    min: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a tag, how many documents have it, and the id of the one of them that was indexed last."""

    value: Any
    count: int
    sample: str


@dataclass(frozen=True, slots=True)
class Facet:
    """Values of a tag, ``more`` where there are others; ``count`` documents have one that was asked for."""

    tag: str
    count: int
    values: tuple[FacetValue, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What may be meant by the beginning of it: ``text`` that ``count`` photos go by, which ``filter`` finds.

    ``kind`` is tag, year, month, place, camera, folder or file.
    """

    kind: str
    text: str
    tag: str
    filter: Mapping[str, Any]
    count: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that the server knows by name; ``serving`` is true of the one that it answers with."""

    name: str
    dimension: int | None
    licence: str | None
    serving: bool


@dataclass(frozen=True, slots=True)
class ModelState:
    """The model that built the index; ``weights`` is a fingerprint."""

    name: str
    dimension: int
    weights: str


@dataclass(frozen=True, slots=True)
class ModalityState:
    """How much of one modality is indexed."""

    documents: int
    vectors: int
    bytes_on_disk: int


@dataclass(frozen=True, slots=True)
class Building:
    """What is being made for quicker searches, and how much of it is ``done``, in [0, 1]."""

    what: str
    done: float


@dataclass(frozen=True, slots=True)
class BackendState:
    """A vector database that searches: ready, filling or away (``state``), and what is wrong (``error``).

    ``behind``: how many vectors it doesn't have yet, None where it doesn't say.
    """

    where: str
    state: str
    behind: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectsState:
    """The object store of originals and thumbnails: ready or away (``state``), and then why (``error``)."""

    state: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SearchState:
    """How vectors are searched; ``recall`` is in [0, 1], ``recall_measured`` how that is known.

    ``backend`` is the vector database that searches them, None where the index itself does.
    """

    tier: str
    recall: float | None
    recall_measured: str
    building: Building | None = None
    backend: BackendState | None = None


@dataclass(frozen=True, slots=True)
class IndexState(SearchState):
    """The same of the whole index, its worst part, and by modality: "image" and "text"."""

    modalities: Mapping[str, SearchState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Writing:
    """Whether documents can be added and deleted, else why not; ``state``: idle, starting or running."""

    allowed: bool
    reason: str | None
    state: str


@dataclass(frozen=True, slots=True)
class LatencyBucket:
    """How many queries took up to ``le_ms`` milliseconds and more than the bucket before; None: longer."""

    le_ms: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Queries since the server started, a second over the last minute, and the milliseconds they took."""

    queries: int
    queries_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    latency: tuple[LatencyBucket, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """In how many photos text was looked for, how many of them have some, and how many wait."""

    read: int
    with_text: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Status:
    """What the server holds and its traffic; ``model`` is None for an index without any document.

    ``modalities`` has the keys "image" and "text"; ``last_change`` is an ISO 8601 moment.
    """

    version: str
    model: ModelState | None
    calibrated: bool
    modalities: Mapping[str, ModalityState]
    index: IndexState
    shards: int
    layout: str
    last_change: str | None
    writing: Writing
    traffic: Traffic
    uptime_s: float
    texts: Texts | None = None
    objects: ObjectsState | None = None
