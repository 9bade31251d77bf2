"""The parts of a document to index, checked, and the records that they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.http_shapes.values import checked_id, checked_text, plain_json, shown
from crossmodal.metadata import read_metadata
from crossmodal.records import IMAGE, TEXT, Record, digest_of, record_id, tags_beyond_limits
from crossmodal.records import photo_id as id_of_content
from crossmodal.videos.moments import video_of

__all__ = ["captions_of", "checked_image_type", "id_of", "records_of", "tags_of"]


def id_of(item: Mapping[str, Any], name: str, keys: Iterable[str] = ("id",)) -> str | None:
    """The id at the first of ``keys`` that has one; raises RequestError where it cannot be an id."""
    for key in keys:
        if item.get(key) not in (None, ""):
            return checked_id(item[key], f"The {key} of {name}")
    return None


def tags_of(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of the tags; raises RequestError where they are no object that can be stored."""
    tags = item.get("tags")
    if tags is not None and not isinstance(tags, dict):
        raise RequestError(f"The tags of {name} are {shown(tags)}; they have to be an object.")
    if tags and (refusal := tags_beyond_limits(tags, f"The tags of {name}")) is not None:
        raise RequestError(refusal, status=422)
    copy: dict[str, Any] = plain_json(tags or {}, f"The tags of {name}", exact=True)
    return copy


def captions_of(item: Mapping[str, Any], name: str) -> list[str]:
    """The sentences in ``text``, ``caption`` and ``captions``; raises RequestError for any other value."""
    listed = item.get("captions")
    if listed is not None and not isinstance(listed, list):
        raise RequestError(f"The captions of {name} are {shown(listed)}; they have to be a list of strings.")
    if listed is not None and len(listed) > limits.CAPTIONS.most:
        raise RequestError(limits.CAPTIONS.exceeded(name, len(listed)), status=422)
    # jina's clients send "" for a field that is not set.
    single = [(key, item.get(key)) for key in ("text", "caption") if item.get(key) not in (None, "")]
    return [checked_text(value, f"The {key} of {name}") for key, value in single] + [
        checked_text(value, f"captions[{number}] of {name}") for number, value in enumerate(listed or ())
    ]


def checked_image_type(mime_type: str, name: str) -> str:
    """``mime_type`` where it is that of an image; raises RequestError, 415, for any other."""
    if mime_type.startswith("video/"):
        raise RequestError(
            f"{name} is a video, and only photos and text can be sent. Videos are indexed from a folder on "
            "the server's machine: crossmodal index -d FOLDER.",
            status=415,
        )
    if not mime_type.startswith("image/"):
        raise RequestError(f"{name} holds {shown(mime_type)}; only images and text can be used.", status=415)
    return mime_type


def records_of(
    id: str | None,
    *,
    photo: bytes | None,
    mime_type: str | None,
    captions: Sequence[str],
    photo_id: str | None,
    tags: Mapping[str, Any],
) -> list[Record]:
    """A photo followed by its captions, or captions alone, which describe the photo ``photo_id``.

    Captions of a moment are those of its video. Without an ``id``, a photo gets one from its bytes and a
    caption one from its text, so that sending them again replaces and never duplicates.
    """
    records = []
    if photo is not None:
        digest = digest_of(photo)
        id = photo_id = id or id_of_content(digest)
        name = tags.get("file")
        metadata = read_metadata(photo, name=name if isinstance(name, str) else "")
        records.append(
            Record(
                id,
                IMAGE,
                mime_type=mime_type,
                tags=tags,
                metadata=metadata.tags,
                content=photo,
                digest=digest,
            )
        )
        records += metadata.caption_records(id)
    elif photo_id is not None:
        photo_id = video_of(photo_id)
    for number, caption in enumerate(captions):
        # The photo is part of the derived id: two photos may well have the same caption.
        caption_id = id or record_id(f"caption:{photo_id or ''}:{caption}")
        if id and (photo is not None or len(captions) > 1):
            caption_id = f"{id}-{number}"
        records.append(
            Record(caption_id, TEXT, text=caption, mime_type="text/plain", photo_id=photo_id, tags=tags)
        )
    return records
