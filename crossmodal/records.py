"""What the library passes around: one photo or one caption, and what became of it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from crossmodal import limits
from crossmodal.errors import DataError

__all__ = [
    "IMAGE",
    "MODALITIES",
    "TEXT",
    "Failure",
    "Modality",
    "Outcome",
    "Record",
    "checked_modality",
    "composed",
    "file_name",
    "json_size",
    "record_id",
    "tags_beyond_limits",
]

Modality = Literal["image", "text"]
IMAGE: Modality = "image"
TEXT: Modality = "text"
MODALITIES: tuple[Modality, ...] = (IMAGE, TEXT)

Outcome = Literal["added", "replaced", "unchanged"]

# 80 bits: with ten million documents the chance of any collision is below 1e-10.
_ID_HEX_DIGITS = 20


def record_id(source: str, position: int | None = None) -> str:
    """The stable id of a photo (by its absolute path or URI) or of its caption number ``position``.

    Returns 20 hexadecimal digits of SHA-256, for a caption followed by ``-`` and the position.
    The same source always gets the same id, so that indexing again replaces and never duplicates.
    """
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:_ID_HEX_DIGITS]
    return digest if position is None else f"{digest}-{position}"


def checked_modality(value: object, of: str) -> Modality:
    """``value`` where it is a modality; raises DataError, which names it and ``of`` (what has it), else."""
    if value == IMAGE:
        return IMAGE
    if value == TEXT:
        return TEXT
    raise DataError(f"{of} has the modality {value!r}; it must be {' or '.join(map(repr, MODALITIES))}.")


def file_name(uri: str | None, tags: Mapping[str, Any] | None) -> str | None:
    """What a photo's file was called: never its path, which is nobody's business."""
    named = (tags or {}).get("file")
    if isinstance(named, str):
        return named
    return uri.rstrip("/").rpartition("/")[2] or None if uri else None


@dataclass(frozen=True, slots=True)
class Record:
    """One photo or one caption with all that is kept of it except its vector.

    ``content`` holds the untouched bytes of a photo's file; ``thumbnail`` a small JPEG of it.
    ``photo_id`` is, for a caption, the id of the photo that it describes. ``tags`` are JSON values.
    ``content_hash`` is filled in by ``hashed`` and tells whether a document has changed.
    """

    id: str
    modality: Modality
    text: str | None = None
    uri: str | None = None
    mime_type: str | None = None
    photo_id: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    thumbnail: bytes | None = None
    content_hash: str = ""

    def hashed(self) -> Record:
        """A copy whose ``content_hash`` is the SHA-256 (32 hex digits) of all that a user can change.

        Its text and tags are ``composed``, so that letters with marks are equal however they were written.
        """
        record, described = self, self._described()
        # How JSON writes what is not ASCII; there is nothing to compose without it.
        if "\\u" in described:
            record = replace(self, text=composed(self.text), tags=composed(self.tags))
            described = record._described()
        digest = hashlib.sha256(described.encode())
        digest.update(self.content or b"")
        return replace(record, content_hash=digest.hexdigest()[:32])

    def _described(self) -> str:
        return json.dumps(
            [self.modality, self.text, self.uri, self.photo_id, dict(self.tags)],
            sort_keys=True,
            ensure_ascii=True,
            default=str,
        )

    def beyond_limits(self) -> str | None:
        """A sentence on the first of its values that is larger than the limits allow; None if none is.

        Measures sizes only, so that it costs little for the largest record.
        """
        for limit, what, value in (
            (limits.ID if self.modality == IMAGE else limits.STORED_ID, "The id", self.id),
            (limits.SENTENCE, "The caption", self.text),
            (limits.URI, "The uri", self.uri),
            (limits.MIME_TYPE, "The media type", self.mime_type),
            (limits.STORED_ID, "The id of the photo", self.photo_id),
            (limits.PHOTO, "The photo", self.content),
        ):
            if value is not None and (found := _measured(value, limit)) > limit.most:
                named = what if isinstance(value, bytes) else f"{what} {limits.quoted(value)}"
                return limit.exceeded(named, found)
        return tags_beyond_limits(self.tags, "The tags") if self.tags else None

    @property
    def file(self) -> str | None:
        """What the photo's file was called, where that is known."""
        return file_name(self.uri, self.tags)

    @property
    def size(self) -> int:
        """The bytes that this record occupies in flight, roughly: its content and its text."""
        return len(self.content or b"") + len(self.text or "")


def composed(value: Any) -> Any:
    """A JSON value with every text in it, names too, in Unicode's composed form (NFC)."""
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {composed(key): composed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [composed(inner) for inner in value]
    return value


def tags_beyond_limits(tags: Mapping[str, Any], name: str) -> str | None:
    """A sentence that says why ``tags``, which it calls ``name``, are too large; None where they aren't."""
    names = 0
    waiting: list[tuple[Any, int]] = [(tags, 1)]
    while waiting:
        value, level = waiting.pop()
        if not isinstance(value, Mapping | list | tuple):
            continue
        if level > limits.DEPTH.most:
            return limits.DEPTH.exceeded(name, level, verb="have")
        if isinstance(value, Mapping):
            names += len(value)
            if names > limits.TAG_KEYS.most:
                return limits.TAG_KEYS.exceeded(name, names, verb="have")
            for key in value:
                if (found := _measured(str(key), limits.TAG_KEY)) > limits.TAG_KEY.most:
                    return limits.TAG_KEY.exceeded(f"The tag {limits.quoted(str(key))}", found)
            value = value.values()
        waiting += [(inner, level + 1) for inner in value]
    if (size := json_size(tags)) > limits.TAGS.most:
        return limits.TAGS.exceeded(name, size, verb="have")
    return None


def json_size(tags: Mapping[str, Any]) -> int:
    """The bytes of ``tags`` as JSON, as answers carry them."""
    try:
        return len(orjson.dumps(tags, option=orjson.OPT_NON_STR_KEYS, default=str))
    except TypeError:
        # Whole numbers of more than 64 bits, and halves of characters.
        return len(json.dumps(dict(tags), ensure_ascii=True, default=str))


def _measured(value: str | bytes, limit: limits.Limit) -> int:
    """How many of the limit's unit a value has; an estimate where it is many times too long."""
    if isinstance(value, bytes) or limit.unit == "characters" or len(value) > limit.most:
        return len(value)
    return len(value.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that could not be used: ``source`` (file, or file and line) and ``reason`` (a sentence)."""

    source: str
    reason: str
