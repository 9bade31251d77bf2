"""What the library passes around: one photo or one caption, and what became of it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import orjson

from crossmodal import limits
from crossmodal.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FILE_ORIGIN",
    "IMAGE",
    "MODALITIES",
    "TEXT",
    "Amendment",
    "Failure",
    "Items",
    "Layer",
    "LocalFile",
    "Look",
    "Made",
    "Modality",
    "Outcome",
    "Record",
    "below",
    "caption_id",
    "checked_modality",
    "composed",
    "digest_of",
    "file_name",
    "json_size",
    "photo_id",
    "record_id",
    "tags_beyond_limits",
]

Modality = Literal["image", "text"]
IMAGE: Modality = "image"
TEXT: Modality = "text"
MODALITIES: tuple[Modality, ...] = (IMAGE, TEXT)

Outcome = Literal["added", "replaced", "unchanged"]

# The origin of a caption that the photo's own file gives: its title, or its description.
FILE_ORIGIN = "file"

# Between the files that give one caption: no absolute path has it.
_BETWEEN_ORIGINS = "//"

# The two layers of tags, by the fields of a record.
Layer = Literal["tags", "metadata"]
_LAYERS: tuple[Layer, ...] = get_args(Layer)

# In the signature of what lies inside of a shard, between its position there and the shard's own signature.
_IN_SHARD = " in "

# 80 bits: with ten million documents the chance of any collision is below 1e-10.
_ID_HEX_DIGITS = 20

# Tells the captions of one photo apart, and not those of all.
_CAPTION_HEX_DIGITS = 12


def digest_of(content: bytes) -> str:
    """The SHA-256 of a photo's file, 64 hexadecimal digits: what a photo is known by."""
    return hashlib.sha256(content).hexdigest()


def photo_id(digest: str) -> str:
    """The id that a photo gets from the ``digest_of`` its file: files of one content are one photo."""
    return digest[:_ID_HEX_DIGITS]


def record_id(source: str) -> str:
    """20 hexadecimal digits of the SHA-256 of a text: the same for the same text."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:_ID_HEX_DIGITS]


def caption_id(photo: str, text: str, number: int = 0) -> str:
    """The id of a caption of a photo by its text; ``number`` counts the same text before it."""
    again = f"-{number}" if number else ""
    return f"{photo}-{record_id(text)[:_CAPTION_HEX_DIGITS]}{again}"


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


def below(root: str, path: str) -> str | None:
    """The path of ``path`` below the folder ``root``, "" where they are one; None where it isn't below.

    Both are absolute, and nothing on disk is looked at.
    """
    if path == root:
        return ""
    start = f"{root.rstrip('/')}/"
    return path[len(start) :] if path.startswith(start) else None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Where a photo's file lies: at ``path``, with "/", below the folder ``root``.

    Most lie on this machine by themselves (``is_here``). Others lie below an address,
    ``s3://bucket/photos``, or inside of a shard, a tar or Parquet file: then ``path`` goes on into it, and
    ``signature`` says where in it. ``signature`` says whether it is as it was when it was read; "" where
    that isn't known.
    """

    root: str
    path: str
    signature: str = ""

    @property
    def absolute(self) -> str:
        """The file's absolute path, or its address."""
        return f"{self.root.rstrip('/')}/{self.path}"

    @property
    def is_here(self) -> bool:
        """Whether it is a file of this machine by itself, which the system can be asked for."""
        return "://" not in self.root and _IN_SHARD not in self.signature

    @property
    def in_shard(self) -> tuple[str, str] | None:
        """What it is inside of a shard: its position there, and the signature of the shard; None outside."""
        position, inside, signature = self.signature.partition(_IN_SHARD)
        return (position, signature) if inside else None

    def inside(self, name: str, position: str) -> LocalFile:
        """What is called ``name`` inside of this file, a shard, at ``position``, which has no spaces."""
        signature = f"{position}{_IN_SHARD}{self.signature}"
        return LocalFile(self.root, f"{self.path}/{name}", signature if self.signature else "")


@dataclass(frozen=True, slots=True)
class Look:
    """How a photo looks before it is there: its sides in pixels, upright, and its mean colour, ``#rrggbb``.

    None stands for what is not known.
    """

    width: int | None = None
    height: int | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What was made of a photo or caption before it came here: its vector float32 (dimension,), a thumbnail.

    ``warning`` and ``error`` are sentences, as of a ``Document``; with an error there is nothing else. Of a
    photo that was known nothing was made.
    """

    vector: NDArray[np.float32] | None = None
    thumbnail: bytes | None = None
    warning: str | None = None
    error: str | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether it has still to be encoded, where the index doesn't have it."""
        return self.vector is None and self.error is None


@dataclass(frozen=True, slots=True)
class Record:
    """One photo or one caption with all that is kept of it except its vector.

    ``content`` holds the untouched bytes of a photo's file, ``digest`` their SHA-256 (``digest_of``);
    ``thumbnail`` a small JPEG of it. ``photo_id`` is, for a caption, the id of the photo that it describes,
    and for a moment that of the video that it is part of.
    ``tags`` are JSON values that people gave, ``metadata`` those that were found in the file; ``keeps``
    names those of the two that stay as the index has them, because nothing was said of them. ``local`` is the
    file, where indexing found it on this machine, ``origin`` the file that gave a caption, or all of them
    as ``origins`` tells them apart. ``content_hash`` is filled in by ``hashed`` and tells whether a document
    has changed. ``made`` is what was made of it elsewhere, which is neither stored with it nor hashed.
    """

    id: str
    modality: Modality
    text: str | None = None
    uri: str | None = None
    mime_type: str | None = None
    photo_id: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    thumbnail: bytes | None = None
    digest: str | None = None
    local: LocalFile | None = None
    origin: str | None = None
    keeps: tuple[Layer, ...] = ()
    content_hash: str = ""
    made: Made | None = field(default=None, compare=False, repr=False)

    def hashed(self) -> Record:
        """A copy whose ``content_hash`` is the SHA-256 (32 hex digits) of all that can change.

        Where a file lies is no part of it: a photo that moves stays what it is. Its text and tags are
        ``composed``, so that letters with marks are equal however they were written.
        """
        digest = self.digest or (None if self.content is None else digest_of(self.content))
        record = replace(self, digest=digest)
        described = record._described()
        # How JSON writes what is not ASCII; there is nothing to compose without it.
        if "\\u" in described:
            record = replace(
                record,
                text=composed(self.text),
                tags=composed(self.tags),
                metadata=composed(self.metadata),
            )
            described = record._described()
        return replace(record, content_hash=hashlib.sha256(described.encode()).hexdigest()[:32])

    def _described(self) -> str:
        return json.dumps(
            [
                self.modality,
                self.text,
                self.own_uri,
                self.photo_id,
                dict(self.tags),
                dict(self.metadata),
                self.digest,
            ],
            sort_keys=True,
            ensure_ascii=True,
            default=str,
        )

    @property
    def is_untouched(self) -> bool:
        """Whether all of it stays as the index has it."""
        read = self.content is not None or self.made is not None
        return len(self.keeps) == len(_LAYERS) and not read and self.content_hash != ""

    def keeping(self, known: Record) -> Record:
        """A hashed copy with what it ``keeps`` from ``known``; itself where it keeps nothing."""
        if not self.keeps:
            return self
        kept: dict[str, Any] = {layer: getattr(known, layer) for layer in self.keeps}
        return replace(self, **kept, keeps=()).hashed()

    @property
    def origins(self) -> tuple[str, ...]:
        """The files that give the caption; none where a client gave it."""
        return () if self.origin is None else tuple(self.origin.split(_BETWEEN_ORIGINS))

    def from_files(self, origins: Iterable[str]) -> Record:
        """The caption as these files give it, at least one."""
        return replace(self, origin=_BETWEEN_ORIGINS.join(dict.fromkeys(origins)))

    def has_more_origins(self, known: Record) -> bool:
        """Whether the caption comes from a file that gave none of ``known``, which a file gave as well."""
        return known.origin is not None and not set(self.origins) <= set(known.origins)

    @property
    def own_uri(self) -> str | None:
        """The URI that is stored: none of a photo on this machine, which is where its file is."""
        return self.uri if self.local is None and self.origin is None else None

    @property
    def all_tags(self) -> Mapping[str, Any]:
        """The tags by which it is found: those of people, and of the file those that they didn't give.

        A null that people gave takes away what the file says.
        """
        tags = {**self.metadata, **self.tags} if self.metadata else self.tags
        if None not in self.tags.values():
            return tags
        return {name: value for name, value in tags.items() if value is not None}

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
            (limits.LARGEST_PHOTO, "The photo", self.content),
        ):
            if value is not None and (found := _measured(value, limit)) > limit.most:
                named = what if isinstance(value, bytes) else f"{what} {limits.quoted(value)}"
                return limit.exceeded(named, found)
        tags = self.all_tags
        return tags_beyond_limits(tags, "The tags") if tags else None

    @property
    def file(self) -> str | None:
        """What the photo's file was called, where that is known."""
        return file_name(self.uri, self.all_tags)

    @property
    def size(self) -> int:
        """The bytes that this record occupies in flight, roughly: its content and its text."""
        return len(self.content or b"") + len(self.text or "")


@dataclass(frozen=True, slots=True)
class Items:
    """Values of tags, by the tag, and captions: texts of those to add, ids of those to remove."""

    tags: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    captions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Amendment:
    """What is to be different of a document; None leaves a thing as it is.

    ``tags`` are a merge patch (RFC 7396): null takes one away. ``text`` is that of a caption, ``captions``
    are all that a photo is to have. What ``remove`` and ``add`` don't name stays, whoever gave it meanwhile.
    """

    tags: Mapping[str, Any] | None = None
    text: str | None = None
    captions: Sequence[str] | None = None
    add: Items = field(default_factory=Items)
    remove: Items = field(default_factory=Items)


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
