"""The one result type: a photo or a caption that a search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crossmodal.records import IMAGE, Look, Modality, Record
from crossmodal.videos.formats import is_video_type
from crossmodal.videos.moments import video_of

__all__ = [
    "FITTING_SCORE",
    "LEFT_OUT",
    "SCORE_DIGITS",
    "Caption",
    "Explanation",
    "FusedShares",
    "Match",
    "MatchedWords",
    "Parts",
    "Photo",
    "TermShare",
    "VideoMoment",
    "video_moment",
]


class Caption(NamedTuple):
    """A caption of a photo."""

    id: str
    text: str


# Where the best match of a query has a lower score, nothing fits well: fewer than one in ten such matches
# does (docs/scores.md).
FITTING_SCORE = 0.1

# Decimals of a score in answers. What a request says of scores is compared at as many, so that a score that
# was read in an answer keeps its match.
SCORE_DIGITS = 6

# The only tag of a match that comes without its tags, because those of the matches before it were as much as
# an answer may have (``limits.ANSWER``): how many bytes they have. No filter can name it.
LEFT_OUT = "$left_out"


@dataclass(frozen=True, slots=True)
class Photo:
    """Where a photo can be had from a server: ``content`` and ``thumbnail`` are paths on it.

    ``file`` is what its file was called, ``width`` and ``height`` are its sides in pixels, upright, and
    ``colour`` is its average, ``#rrggbb``; None where that isn't known.
    """

    id: str
    content: str
    thumbnail: str
    file: str | None = None
    width: int | None = None
    height: int | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a match of a hybrid search stood in each ranking (1 is the best, None where it wasn't in it).

    ``bm25`` is the score of its words, ``fused`` what the ranks came to. ``text_rank`` is that by the text
    that was read in the photo.
    """

    vector_rank: int | None
    word_rank: int | None
    bm25: float | None
    fused: float
    text_rank: int | None = None


@dataclass(frozen=True, slots=True)
class TermShare:
    """What a term of a query gave a match: ``gave`` is its ``cosine`` with the match times ``factor``."""

    cosine: float
    factor: float
    gave: float


@dataclass(frozen=True, slots=True)
class FusedShares:
    """What each ranking of a hybrid search gave a match; None where the match wasn't in it."""

    vector: float | None
    words: float | None
    text: float | None


@dataclass(frozen=True, slots=True)
class MatchedWords:
    """The ``words`` of a text that a hybrid search found, and where each stands in it.

    ``field`` is "caption", "file" or "text_in_photo", ``id`` that of the caption. ``spans`` are the first
    character of each and the one behind it; of the name of a file there are none, as it is found by parts of
    its words.
    """

    field: str
    id: str | None
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a match stands where it does.

    What ``terms``, in the order of the query's, gave adds up to the match's cosine; ``hubness`` is what was
    taken off that for its rank, None where nothing was. After a hybrid search what ``fused`` holds adds up to
    ``parts.fused``, and ``words`` were found.
    """

    terms: tuple[TermShare, ...]
    hubness: float | None = None
    fused: FusedShares | None = None
    words: tuple[MatchedWords, ...] = ()


@dataclass(frozen=True, slots=True)
class VideoMoment:
    """Where in which video a match is: ``id`` of the video, seconds from its beginning, and how long it is.

    ``content`` is a path on a server that plays it from there.
    """

    id: str
    time_seconds: float
    duration_seconds: float | None = None
    content: str | None = None


def video_moment(id: str, mime_type: str | None, tags: Mapping[str, Any]) -> VideoMoment | None:
    """What a document with this id, media type and tags shows of a video; None where it is no moment."""
    seconds, duration = tags.get("time_seconds"), tags.get("duration_seconds")
    if not is_video_type(mime_type) or not isinstance(seconds, int | float):
        return None
    return VideoMoment(
        video_of(id), float(seconds), float(duration) if isinstance(duration, int | float) else None
    )


@dataclass(slots=True)
class Match:
    """A photo or a caption of the index that a search found.

    ``cosine`` in [-1, 1] is that of its vector and the query's; ``corrected`` is that minus the document's
    hubness, where the query ranks so, else None; ``score`` in [0, 1] is the calibrated chance
    that it fits, None where the model has no calibration. ``rank`` counts from 1. ``uri`` is where the photo
    was when it was indexed. ``photo_id`` is the id of the photo itself, or of the photo that a caption
    describes; None where that is not in the index. ``file`` is what the photo's file was called.
    ``plain_rank`` is the rank by the cosine alone, where an evaluation asks for it. ``explanation`` says why
    it is one, where that is asked, and ``reranked`` is what a second stage gave it.
    ``captions`` are those of a photo. ``parts`` come with a hybrid search, and so does ``text_in_photo``: of
    the text in a photo that has words of the query, the part that shows it. ``duplicates`` (ids) come with
    grouping. ``look`` is that of the photo. ``photo`` says where the photo can be had, where the match came
    from a server. ``video`` says where in which video the match is; None of what is no moment.
    """

    id: str
    modality: Modality
    cosine: float
    score: float | None = None
    rank: int = 0
    text: str | None = None
    uri: str | None = None
    file: str | None = None
    mime_type: str | None = None
    photo_id: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    captions: tuple[Caption, ...] = ()
    text_in_photo: str | None = None
    parts: Parts | None = None
    duplicates: tuple[str, ...] | None = None
    look: Look | None = None
    photo: Photo | None = None
    video: VideoMoment | None = None
    corrected: float | None = None
    plain_rank: int | None = None
    explanation: Explanation | None = None
    reranked: float | None = None

    @property
    def order(self) -> tuple[float, str]:
        """The one order of matches: what they are ranked by falls, equal ones are in order of id."""
        return (-(self.cosine if self.corrected is None else self.corrected), self.id)

    def describe(self, record: Record) -> None:
        """Takes over what ``record`` says of the document."""
        self.modality = record.modality
        self.text = record.text
        self.uri = record.uri
        self.file = record.file
        self.mime_type = record.mime_type
        self.photo_id = record.id if record.modality == IMAGE else record.photo_id
        self.tags = record.all_tags
        self.video = video_moment(record.id, record.mime_type, record.metadata)

    def leave_out_tags(self, size: int) -> None:
        """Forgets the tags, which have ``size`` bytes as JSON."""
        self.tags = {LEFT_OUT: size}
