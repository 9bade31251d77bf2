"""What every data set is: a name, and a stream of photos, captions and failures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from crossmodal.data_sets.assembly import Mention, assemble
from crossmodal.data_sets.values import printable
from crossmodal.records import Failure, Record

__all__ = ["DataSet", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input may measure at most: a photo's file in bytes, a caption in characters."""

    max_file_bytes: int = 64 * 1024 * 1024
    max_caption_characters: int = 2_000


class DataSet(ABC):
    """Photos and captions as a stream; iterating again reads them again.

    Each photo comes when it is first met, its captions after it. Memory holds one file's bytes at a
    time and 20 characters for each photo met so far; never the captions, never the photos.
    ``name`` is what the user asked for, ``description`` the layout that was recognised, and
    ``notes`` sentences on what the last iteration passed over on purpose (files that are not images).
    """

    def __init__(self, name: str, description: str, limits: Limits, content: bool) -> None:
        self.name = name
        self.description = description
        self.limits = limits
        self.content = content
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Record | Failure]:
        """Yields hashed records and, for each input that cannot be used, a failure; goes on after it."""
        self.notes = []
        for item in assemble(
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
        """Each place where the data set speaks of a photo, in order."""

    @abstractmethod
    def len_hint(self) -> int | None:
        """About how many photos and captions will come, for a progress bar; None where that is unknown."""

    def expected(self, limit: int | None) -> int | None:
        """``len_hint`` where at most ``limit`` of them are taken (None: all)."""
        hint = self.len_hint()
        return min(hint, limit) if hint is not None and limit is not None else hint or limit
