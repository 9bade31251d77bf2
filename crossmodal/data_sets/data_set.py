"""A data set: a name, and a stream of photos, captions and failures.

Each layout yields mentions of photos; from them each photo becomes one record, and each caption one with its
number."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossmodal.data_sets.photos import Photo, read_photo, shown_uri
from crossmodal.data_sets.values import json_kind, printable
from crossmodal.errors import DataError
from crossmodal.limits import PHOTO, SENTENCE
from crossmodal.records import IMAGE, TEXT, Failure, Record, record_id

__all__ = ["DataSet", "Limits", "Mention", "normalized", "same_split"]


_DEV = frozenset({"dev", "val", "validation", "valid"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input may measure at most: a photo's file in bytes, a caption in characters."""

    max_file_bytes: int = PHOTO.most
    max_caption_characters: int = SENTENCE.most


class DataSet(ABC):
    """Photos and captions as a stream; iterating again reads them again.

    Each photo comes at its first mention, its captions after it. Memory holds one file's bytes at a
    time and 20 characters for each photo so far; never the captions, never the photos.
    ``name`` is what the user gave, ``description`` the layout that was recognised, ``guess`` a sentence on it
    where it was guessed and is more than a folder of photos, and ``notes`` sentences on what the last
    iteration took for granted and passed over on purpose (files that are not images).

    ``root`` is the folder that its photos lie in, None where they are named one by one, and ``origin`` the
    file that gives the captions, None where there is none. ``walked`` says whether the last iteration looked,
    without an error, into every folder below ``root``.
    """

    root: Path | None = None
    origin: Path | None = None
    guess: str | None = None
    walked: bool = False

    def __init__(self, name: str, description: str, limits: Limits, content: bool) -> None:
        self.name = name
        self.description = description
        self.limits = limits
        self.content = content
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Record | Failure]:
        """Yields hashed records and, for each input that cannot be used, a failure; goes on after it."""
        self.notes = [] if self.guess is None else [self.guess]
        self.walked = False
        for item in _assemble(
            self.mentions(),
            max_file_bytes=self.limits.max_file_bytes,
            max_caption_characters=self.limits.max_caption_characters,
            content=self.content,
        ):
            # Names and cells come from files: a line end or an escape sequence must not reach the terminal.
            yield (
                Failure(printable(item.source), printable(item.reason)) if isinstance(item, Failure) else item
            )

    @abstractmethod
    def mentions(self) -> Iterator[Mention | Failure]:
        """Each place where the data set names a photo, in order."""

    @abstractmethod
    def len_hint(self) -> int | None:
        """About how many photos and captions will come, for a progress bar; None where that is unknown."""

    def expected(self, limit: int | None) -> int | None:
        """``len_hint`` where at most ``limit`` of them are taken (None: all)."""
        hint = self.len_hint()
        return min(hint, limit) if hint is not None and limit is not None else hint or limit


@dataclass(frozen=True, slots=True)
class Mention:
    """One place in a data set that names a photo.

    ``photo`` is an absolute path or a ``data:`` URI, ``where`` the file, or file and line, of that place,
    ``captions`` what it says (not checked yet) and ``tags`` the further columns; None where it cannot say
    anything of tags, as a folder. ``sweep`` marks the
    search for remaining photos of a folder (those that no row named): such a mention of a known photo is
    neither new nor wrong.
    """

    photo: str
    where: str
    captions: tuple[Any, ...] = ()
    tags: Mapping[str, Any] | None = None
    sweep: bool = False


def normalized(path: Path) -> Path:
    """``path`` as an absolute one without ``..``; links stay, so that a photo keeps the path it is given."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def same_split(name: Any, wanted: str) -> bool:
    """Whether two names mean the same split; dev, val and validation do, and letter case doesn't matter."""
    if not isinstance(name, str):
        return False
    left, right = name.strip().lower(), wanted.strip().lower()
    return left == right or (left in _DEV and right in _DEV)


def _assemble(
    mentions: Iterable[Mention | Failure],
    *,
    max_file_bytes: int,
    max_caption_characters: int,
    content: bool,
) -> Iterator[Record | Failure]:
    """The records and failures of ``mentions``, in their order.

    A photo comes at its first mention, with that mention's tags. Its captions are numbered in the order
    in which they are mentioned, unusable ones included, so that repairing one leaves the others' ids
    as they are; equal captions of one photo stay separate captions. The captions of a photo that cannot be
    read are left out: one failure names the photo, the first of them and their number.
    Without ``content`` no photo is read, and photos have no content hash.
    """
    captions_met: dict[str, int] = {}
    unusable: set[str] = set()
    pending: _Unusable | None = None
    for mention in mentions:
        if isinstance(mention, Failure):
            if pending is not None:
                yield pending.failure()
                pending = None
            yield mention
            continue
        photo_id = record_id(mention.photo)
        if pending is not None and pending.photo_id == photo_id:
            pending = replace(pending, captions=pending.captions + len(mention.captions))
            continue
        if pending is not None:
            yield pending.failure()
            pending = None
        if photo_id not in captions_met:
            if mention.sweep and photo_id in unusable:
                continue
            try:
                photo = read_photo(mention.photo, max_bytes=max_file_bytes, content=content)
            except DataError as error:
                unusable.add(photo_id)
                pending = _Unusable(photo_id, mention, str(error), len(mention.captions))
                continue
            captions_met[photo_id] = 0
            yield _photo_record(photo_id, photo, mention.tags or {})
        elif not mention.captions and not mention.sweep:
            yield Failure(mention.where, f"the photo {mention.photo} is listed again, without a caption")
        for caption in mention.captions:
            position = captions_met[photo_id]
            captions_met[photo_id] = position + 1
            try:
                text = _checked_caption(caption, max_caption_characters)
            except DataError as error:
                yield Failure(mention.where, str(error))
                continue
            yield _caption_record(mention, photo_id, position, text)
    if pending is not None:
        yield pending.failure()


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A photo that cannot be read, while its captions pass by."""

    photo_id: str
    mention: Mention
    reason: str
    captions: int

    def failure(self) -> Failure:
        if not self.captions:
            return Failure(self.mention.where, self.reason)
        left_out = (
            "its caption was left out"
            if self.captions == 1
            else f"its {self.captions} captions were left out"
        )
        return Failure(self.mention.where, f"caption without a photo: {self.reason}; {left_out}")


def _photo_record(photo_id: str, photo: Photo, tags: Mapping[str, Any]) -> Record:
    record = Record(
        id=photo_id,
        modality=IMAGE,
        uri=photo.uri,
        mime_type=photo.mime_type,
        tags=tags,
        content=photo.content,
    )
    return record if photo.content is None else record.hashed()


def _caption_record(mention: Mention, photo_id: str, position: int, text: str) -> Record:
    return Record(
        id=record_id(mention.photo, position),
        modality=TEXT,
        text=text,
        uri=shown_uri(mention.photo),
        mime_type="text/plain",
        photo_id=photo_id,
        tags=mention.tags or {},
    ).hashed()


def _checked_caption(caption: Any, max_characters: int) -> str:
    if not isinstance(caption, str):
        raise DataError(f"the caption is not text but {json_kind(caption)}")
    text = caption.strip()
    if not text:
        raise DataError("the caption is empty")
    if len(text) > max_characters:
        raise DataError(f"the caption has {len(text):,} characters, and the limit is {max_characters:,}")
    return text
