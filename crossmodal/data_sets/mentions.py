"""What a data set names of its photos, and how much of it is read: mentions, works and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from crossmodal.data_sets.beside import FolderContents
from crossmodal.data_sets.photos import Photo, read_photo
from crossmodal.data_sets.prepared import LeftOut, Prepared, Source
from crossmodal.data_sets.values import json_kind
from crossmodal.errors import DataError
from crossmodal.images.limits import MAX_PIXELS
from crossmodal.limits import PHOTO, SENTENCE, VIDEO
from crossmodal.metadata import Metadata
from crossmodal.records import Failure, LocalFile, Made, digest_of
from crossmodal.settings import Settings

__all__ = ["DEFAULT_LIMITS", "Limits", "Mention", "Reader", "Work", "checked_caption", "prepare"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input may measure at most: a caption in characters, files in bytes, and videos in pixels.

    The pixels of a photo are judged where it is decoded.
    """

    max_file_bytes: int = PHOTO.most
    max_caption_characters: int = SENTENCE.most
    max_video_bytes: int = VIDEO.most
    max_video_pixels: int = MAX_PIXELS

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that options set."""
        return cls(
            settings.max_photo_bytes,
            max_video_bytes=settings.max_video_bytes,
            max_video_pixels=settings.max_pixels,
        )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Mention:
    """One place in a data set that names a photo.

    ``photo`` is an absolute path, an address or a ``data:`` URI, ``where`` the file, or file and line, of
    that place, ``captions`` what it says (not checked yet) and ``tags`` the further columns; None where it
    cannot say anything of tags, as a folder. ``sweep`` marks the search for remaining photos of a folder
    (those that no row named): such a mention of a known photo is neither new nor wrong.

    ``local`` is where the photo lies, where the data set knows that. A photo that was read already comes as
    ``read``, or as ``prepared``, one that could not be read with the sentence ``refused``. ``captions_made``
    is what was made of captions already, by their composed texts.
    """

    photo: str
    where: str
    captions: tuple[Any, ...] = ()
    tags: Mapping[str, Any] | None = None
    sweep: bool = False
    local: LocalFile | None = None
    read: Photo | None = None
    prepared: Prepared | None = None
    captions_made: Mapping[str, Made] = field(default_factory=dict)
    refused: str | None = None


class Work(NamedTuple):
    """A source or a mention to read and encode; of a mention whose photo came before, the captions alone."""

    source: Source | Mention
    captions_only: bool = False


# Reads and encodes each ``Work``, and passes on what else there is, in the order in which all of it comes.
Reader = Callable[[Iterator[Work | Mention | Failure]], Iterator[Mention | Failure | LeftOut]]


def prepare(
    mention: Mention, local: LocalFile | None, limits: Limits, contents: FolderContents | None
) -> Prepared:
    """What is read of the photo of a mention, which lies in ``local``; raises DataError where it cannot be
    read.

    ``contents`` knows the sidecars; without it nothing but the file's name is taken for metadata.
    """
    photo = mention.read or read_photo(mention.photo, max_bytes=limits.max_file_bytes)
    metadata = Metadata() if local is None else Metadata({"file": local.path.rpartition("/")[2]})
    if local is not None and contents is not None:
        metadata = contents.metadata(photo.content, local)
    return Prepared.of(photo, digest_of(photo.content), metadata)


def checked_caption(caption: Any, max_characters: int) -> str:
    """A caption as it is used, without space around it; raises DataError for what is no caption."""
    if not isinstance(caption, str):
        raise DataError(f"the caption is not text but {json_kind(caption)}")
    text = caption.strip()
    if not text:
        raise DataError("the caption is empty")
    if len(text) > max_characters:
        raise DataError(f"the caption has {len(text):,} characters, and the limit is {max_characters:,}")
    return text
