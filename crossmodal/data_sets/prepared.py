"""What there is to read, and what is read of a photo before it is a record; other processes may do it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from crossmodal.data_sets.photos import Photo
from crossmodal.metadata import Metadata
from crossmodal.records import LocalFile, Made

__all__ = ["LeftOut", "Prepared", "Source"]

# What reading a shard tells beside photos: how many members by their endings were no photos.
LeftOut = Counter[str]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read: a photo and what is said beside it, or a shard; it can be sent to another process.

    ``size`` is that of the file in bytes, ``beside`` are the files that say something of the photo.
    """

    address: str
    local: LocalFile
    size: int | None
    is_shard: bool = False
    beside: tuple[tuple[str, int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A photo that was read, its digest, and what its file says.

    Where it was encoded as well, ``made`` is what came of that, and it may come without its bytes.
    """

    uri: str
    mime_type: str | None
    content: bytes | None
    digest: str
    metadata: Metadata
    made: Made | None = None

    @classmethod
    def of(cls, photo: Photo, digest: str, metadata: Metadata) -> Prepared:
        """One that was read and not encoded."""
        return cls(photo.uri, photo.mime_type, photo.content, digest, metadata)
