"""The videos of an index in their files: opened as they were indexed, and looked through for their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass

from crossmodal.data_sets.beside import signature_of_status
from crossmodal.errors import OriginalGone
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.metadata.video_locations import are_spans_known, location_spans
from crossmodal.originals import LargeOriginals
from crossmodal.records import IMAGE, LocalFile
from crossmodal.shared_work import SharedWork
from crossmodal.videos.formats import is_video_type

__all__ = ["VideoOriginals"]

# A disk reads few files at a time well.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Video:
    """Where a video lies, the ``digest_of`` its content, and its mime type."""

    files: Sequence[LocalFile]
    digest: str
    mime_type: str


class VideoOriginals:
    """Opens the files of videos. Reading one as a whole is done once for all that ask, in threads of its own.

    Safe across threads; close it to give that up.
    """

    def __init__(self) -> None:
        self._files = LargeOriginals(signature_of_status)
        self._reading = SharedWork("read-videos", _AT_ONCE)

    def close(self) -> None:
        """Gives up what is being read; a later use begins anew."""
        self._reading.close()

    def opened(self, store: EmbeddedStore, id: str) -> tuple[int, str] | None:
        """The open file of the video with the moment ``id``, a descriptor to close, and its mime type.

        None where it is no moment. Raises ``OriginalGone`` where the file is not there any more, or has
        changed since it was indexed; one that had to be read as a whole first, and was not, counts so too.
        """
        if (video := _found(store, id)) is None:
            return None
        if (descriptor := self._files.open(video.files, video.digest)) is None:
            raise OriginalGone(
                f"The file of the video {id!r} is not there any more, or has changed since it was indexed; "
                "only its thumbnails are left. Index its folder again."
            )
        return descriptor, video.mime_type

    def reading(self, store: EmbeddedStore, id: str, *, locations: bool) -> Future[None] | None:
        """What ends once the video with the moment ``id`` was read as a whole, where it has to be.

        It is compared with what was indexed where its file may be another one, and without ``locations`` also
        looked through for what says where it was made, so that ``location_spans`` answers at once. None where
        neither is needed. It raises ServiceError where it was given up.
        """
        if (video := _found(store, id)) is None or self._is_known(video, locations):
            return None

        def read(is_given_up: Callable[[], bool]) -> None:
            self._files.compare(video.files, video.digest, is_given_up)
            if not locations and (descriptor := self._files.open(video.files, video.digest)) is not None:
                with closing(open(descriptor, "rb")):
                    location_spans(descriptor, video.mime_type, is_given_up)

        return self._reading.begin((video.digest, locations), read)

    def _is_known(self, video: _Video, locations: bool) -> bool:
        if self._files.needs_comparing(video.files, video.digest):
            return False
        if locations or (descriptor := self._files.open(video.files, video.digest)) is None:
            return True
        with closing(open(descriptor, "rb")):
            return are_spans_known(descriptor, video.mime_type)


def _found(store: EmbeddedStore, id: str) -> _Video | None:
    """The video with the moment ``id``; None where it is no moment."""
    record = store.get([id], IMAGE)[0]
    if record is None or not is_video_type(record.mime_type):
        return None
    # The digest of the file is that of the first moment.
    first = record if record.photo_id is None else store.get([record.photo_id], IMAGE)[0]
    if first is None or first.digest is None:
        return _Video((), "", str(record.mime_type))
    return _Video(tuple(store.library.files_of(first.id)), first.digest, str(record.mime_type))
