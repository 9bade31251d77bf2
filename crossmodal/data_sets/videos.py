"""A video of a data set as records: its first moment, which is the video itself, and its further ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crossmodal.records import Record, digest_of
from crossmodal.videos.moments import moment_id
from crossmodal.videos.reading import Moment, Video

__all__ = ["moment_records"]


def moment_records(video: Video, first: Record) -> list[Record]:
    """The hashed records of a video, of which ``first`` says all but its frame and its digest.

    The further ones are parts of the first, as captions are of a photo, and lie in its file.
    """
    metadata = {**first.metadata, "video_id": first.id}
    whole = replace(first, mime_type=video.format.mime_type, digest=video.digest, metadata=metadata)
    return [
        replace(whole, content=video.moments[0].jpeg).hashed(),
        *(_further(whole, video.digest, moment) for moment in video.moments[1:]),
    ]


def _further(whole: Record, digest: str, moment: Moment) -> Record:
    metadata: Mapping[str, Any] = {**whole.metadata, "time_seconds": moment.seconds}
    id = moment_id(whole.id, moment.seconds)
    return replace(
        whole,
        id=id,
        photo_id=whole.id,
        metadata=metadata,
        # The same for the same moment of the same file, whatever decoded it.
        digest=digest_of(moment_id(digest, moment.seconds).encode()),
        content=moment.jpeg,
    ).hashed()
