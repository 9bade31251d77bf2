"""The one check of documents where they enter a process: every field that another process could have set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import orjson

from crossmodal.errors import DataError, RequestError
from crossmodal.http_shapes.values import plain_json, shown
from crossmodal.images import MAX_PIXELS
from crossmodal.images.signatures import IMAGE_TYPES
from crossmodal.limits import DIMENSION, LARGEST_PHOTO, PHOTO, SENTENCE, STORED_ID, TAGS, TOP_K, URI
from crossmodal.records import Outcome

__all__ = ["FROM_CLIENTS", "IN_FLOW", "MessageLimits", "check_message"]


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """How much a document may bring: bytes of ``tags`` as JSON and of a ``photo``, and ids in ``wanted``."""

    tags: int
    photo: int
    wanted: int


# What anybody may send, over gRPC as over HTTP.
FROM_CLIENTS = MessageLimits(tags=TAGS.most, photo=PHOTO.most, wanted=TOP_K.most)

# What the processes of one Flow send each other: large whole numbers are longer, and shards ask for many ids.
IN_FLOW = MessageLimits(tags=2 * TAGS.most, photo=LARGEST_PHOTO.most, wanted=1_000_000)

# Every byte of a path may be written as three characters.
_MAX_URI_CHARACTERS = 3 * URI.most

_MAX_SENTENCE_CHARACTERS = 100_000
_MAX_MATCHES = 1_000_000

# What photos and captions are stored as. What some programs call image/jpg is image/jpeg; an SVG or a page is
# neither photo nor caption.
_MEDIA_TYPES = (IMAGE_TYPES - {"image/svg+xml"}) | {"image/jpg", "text/plain"}

# What only the answer to a search brings.
_OF_SEARCHES = ("matches", "shard_scores", "shard_states", "wanted")


def check_message(message: Any, limits: MessageLimits, *, indexing: bool = False) -> None:
    """Raises DataError that names the first field of a ``MediaDocument`` with a value that none has.

    ``indexing`` says that it is to be stored, and so brings nothing of a search. Its modalities are checked
    where they are read.
    """
    for name, check in _CHECKS.items():
        value = getattr(message, name)
        if value is not None and (reason := check(value, limits)) is not None:
            raise DataError(f"The field {name} of the document {shown(message.id)} {reason}.")
    for name in _OF_SEARCHES if indexing else ():
        if getattr(message, name) is not None:
            raise DataError(
                f"The document {shown(message.id)} is to be indexed and brings {name}, as only the answer to "
                "a search does."
            )


def _text(value: Any, limits: MessageLimits, *, most: int | None = None) -> str | None:
    if not isinstance(value, str):
        return f"is {shown(value)}, not a text"
    most = SENTENCE.most if most is None else most
    return f"has {len(value):,} characters; the limit is {most:,}" if len(value) > most else None


def _id(value: Any, limits: MessageLimits) -> str | None:
    if not isinstance(value, str) or not value:
        return f"is {shown(value)}; it has to be a text that is not empty"
    size = len(value.encode("utf-8", "surrogatepass"))
    return f"has {size:,} bytes; the limit is {STORED_ID.most}" if size > STORED_ID.most else None


def _one_of(values: tuple[str, ...], value: Any, limits: MessageLimits) -> str | None:
    named = " or ".join(map(repr, values))
    return None if isinstance(value, str) and value in values else f"is {shown(value)}; it has to be {named}"


def _media_type(value: Any, limits: MessageLimits) -> str | None:
    if isinstance(value, str) and value in _MEDIA_TYPES:
        return None
    return f"is {shown(value)}; photos and captions are of {', '.join(sorted(_MEDIA_TYPES))}"


def _bytes(value: Any, limits: MessageLimits) -> str | None:
    if not isinstance(value, bytes):
        return f"is {shown(value)}, not bytes"
    if len(value) > limits.photo:
        return f"has {len(value) / 2**20:,.1f} MiB; the limit is {limits.photo >> 20:,} MiB"
    return None


def _tags(value: Any, limits: MessageLimits) -> str | None:
    if not isinstance(value, Mapping):
        return f"is {shown(value)}, not an object"
    try:
        size = len(orjson.dumps(plain_json(dict(value), "the object")))
    except (RequestError, orjson.JSONEncodeError) as error:
        return f"cannot be stored: {str(error).rstrip('.')}"
    return f"has {size:,} bytes as JSON; the limit is {limits.tags:,}" if size > limits.tags else None


def _embedding(value: Any, limits: MessageLimits) -> str | None:
    vector = np.asarray(value)
    if vector.ndim != 1 or vector.dtype.kind != "f" or not 0 < vector.size <= DIMENSION.most:
        return (
            f"is {vector.dtype} of the shape {vector.shape}; it has to be a vector of floats, at most "
            f"{DIMENSION.most:,}"
        )
    return None if np.isfinite(vector).all() else "has what is not a finite number"


def _pixels(value: Any, limits: MessageLimits) -> str | None:
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return f"is {pixels.dtype} of the shape {pixels.shape}; it has to be uint8 of (height, width, 3)"
    count = pixels.shape[0] * pixels.shape[1]
    return f"has {count:,} pixels; the limit is {MAX_PIXELS:,}" if count > MAX_PIXELS else None


def _frame(value: Any, limits: MessageLimits) -> str | None:
    frame = np.asarray(value)
    if frame.shape != (4,) or frame.dtype.kind != "f" or not np.isfinite(frame).all():
        return f"is {frame.dtype} of the shape {frame.shape}; it has to be four finite floats"
    return None


def _ids(value: Any, limits: MessageLimits) -> str | None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return f"is {shown(value)}, not a list of texts"
    if len(value) > limits.wanted:
        return f"has {len(value):,} entries; the limit is {limits.wanted:,}"
    return None


def _matches(value: Any, limits: MessageLimits) -> str | None:
    return f"has {len(value):,} entries; the limit is {_MAX_MATCHES:,}" if len(value) > _MAX_MATCHES else None


_CHECKS: Mapping[str, Callable[[Any, MessageLimits], str | None]] = {
    "id": _id,
    "stage": partial(_one_of, ("rerank",)),
    "text": _text,
    "uri": partial(_text, most=_MAX_URI_CHARACTERS),
    "mime_type": _media_type,
    "photo_id": _id,
    "tags": _tags,
    "stored": partial(_text, most=TAGS.most + 2 * _MAX_URI_CHARACTERS),
    "content_hash": partial(_text, most=STORED_ID.most),
    "blob": _bytes,
    "pixels": _pixels,
    "frame": _frame,
    "thumbnail": _bytes,
    "original": _bytes,
    "stored_thumbnail": _bytes,
    "embedding": _embedding,
    "warning": partial(_text, most=_MAX_SENTENCE_CHARACTERS),
    "error": partial(_text, most=_MAX_SENTENCE_CHARACTERS),
    "outcome": partial(_one_of, (*get_args(Outcome), "deleted")),
    "visited": _ids,
    "wanted": _ids,
    "matches": _matches,
}
