"""Reads the text in photos that are in the index already: what waits, one photo after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from crossmodal.errors import ImageError, OriginalGone, StoreDamaged
from crossmodal.images.pool import shared_pool
from crossmodal.index.protocols import SeenText, UnreadPhoto
from crossmodal.ocr import TextReader
from crossmodal.records import IMAGE, Failure
from crossmodal.workspace import Workspace

__all__ = ["ReadText", "read_texts"]

# So much is stored together: what ends before that is read again.
_PHOTOS_TOGETHER = 16
_SECONDS_TOGETHER = 10.0

# Those that wait are looked up so many at once.
_LISTED = 256


@dataclass(frozen=True, slots=True)
class ReadText:
    """What was read in one photo, by its id: its lines of text, empty where there are none.

    ``error`` is a sentence that says why it could not be read, with the ``source``, for people to read.
    """

    photo: str
    source: str
    text: str = ""
    error: str | None = None

    @property
    def failure(self) -> Failure | None:
        """That it could not be read, and why; None where it could."""
        return None if self.error is None else Failure(self.source, self.error)


def read_texts(
    workspace: Workspace,
    put: Callable[[Sequence[SeenText]], None],
    *,
    max_pixels: int,
    memory: int = 0,
    background: bool = False,
    skip: Collection[str] = (),
) -> Iterator[ReadText]:
    """Reads the text in each photo of the index in which nobody has looked for any yet.

    ``put`` stores some of them, now and then and at the end, however that comes; what was read is yielded a
    little earlier. A photo of which the file is gone or cannot be read comes with its error and waits on, as
    do those that ``skip`` names by id. ``memory`` as in ``shared_pool``, ``background`` as in ``TextReader``.
    Raises MissingExtra, ServiceError where nothing can be read, and what ``put`` raises.
    """
    waiting = _Waiting(put)
    with shared_pool(memory) as pool, TextReader(pool, background=background) as reader, closing(waiting):
        for photo in _unread(workspace):
            if photo.photo in skip:
                continue
            try:
                content = workspace.content(photo.photo)
                if content is None:
                    # Deleted meanwhile.
                    continue
                text = reader.read(content[0], max_pixels=max_pixels)
            except (ImageError, OriginalGone, StoreDamaged) as error:
                yield ReadText(photo.photo, _source(workspace, photo), error=str(error))
            else:
                waiting.add(SeenText(photo.photo, photo.digest, text))
                yield ReadText(photo.photo, _source(workspace, photo), text)


def _unread(workspace: Workspace) -> Iterator[UnreadPhoto]:
    row = -1
    while photos := workspace.unread_photos(_LISTED, after=row):
        yield from photos
        row = photos[-1].row


def _source(workspace: Workspace, photo: UnreadPhoto) -> str:
    record = workspace.get(photo.photo, IMAGE)
    return photo.photo if record is None else record.uri or record.id


class _Waiting:
    """Texts that are read and not stored yet."""

    def __init__(self, put: Callable[[Sequence[SeenText]], None]) -> None:
        self._put = put
        self._texts: list[SeenText] = []
        self._since = time.monotonic()

    def add(self, text: SeenText) -> None:
        self._texts.append(text)
        if len(self._texts) >= _PHOTOS_TOGETHER or time.monotonic() - self._since > _SECONDS_TOGETHER:
            self.close()

    def close(self) -> None:
        """Stores them."""
        texts, self._texts = self._texts, []
        self._since = time.monotonic()
        if texts:
            self._put(texts)
