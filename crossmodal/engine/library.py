"""A data set on this machine and the index: after a run, the index says what is on disk."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.data_sets.beside import is_as_it_was
from crossmodal.data_sets.collection import LAST
from crossmodal.data_sets.listed import NamedPhotos
from crossmodal.data_sets.values import has_lone_surrogate
from crossmodal.engine.indexing import Indexed
from crossmodal.index.embedded.upgrade import OLD_ORIGIN
from crossmodal.records import FILE_ORIGIN, IMAGE, TEXT, Failure, LocalFile, Record, below, composed
from crossmodal.videos.formats import is_video_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossmodal.data_sets.data_set import DataSet
    from crossmodal.engine.engine import Engine
    from crossmodal.index.embedded.library import Library
    from crossmodal.workspace import Workspace

__all__ = ["FEW_PHOTOS", "KnownLibrary", "LibraryRun", "Settled"]

# More photos than this, and more than this share of a root, only go where that is asked for.
FEW_PHOTOS = 10
LARGEST_SHARE = 0.2

# Captions that are deleted in one transaction.
_DELETED_AT_ONCE = 4096


class KnownLibrary:
    """What an index knows of files, for a data set that is read again.

    ``originals`` are to be stored as well; ``reread`` trusts no signature.
    """

    def __init__(self, workspace: Workspace, *, originals: bool = False, reread: bool = False) -> None:
        self._workspace = workspace
        self._originals = originals
        self._reread = reread
        store = workspace.store()
        self._damaged = frozenset(() if store is None else (error.row for error in store.damaged()))

    def folder(self, path: str) -> LocalFile | None:
        """The root to which the absolute path of a folder belongs, and the path below it; None: to none."""
        return None if (library := self._library) is None else library.folder(path)

    def photo_in(self, file: LocalFile) -> tuple[str, str, str] | None:
        """Of the photo in a file that is as it was when it was read, if it is whole in the index: its id, its
        digest and its content hash."""
        if self._reread or not file.signature or (library := self._library) is None:
            return None
        known = library.file(file)
        if known is None or known.signature != file.signature or known.digest is None:
            return None
        # Of a video the file is never stored.
        originals = self._originals and not is_video_type(known.mime_type)
        if not known.has_vector or (originals and not known.has_content) or known.row in self._damaged:
            return None
        if not known.is_whole:
            return None
        return known.photo, known.digest, known.content_hash

    def has_tags(self, video: str, tags: Mapping[str, Any]) -> bool:
        """Whether the video with that id and all its moments have these tags of people, and no others."""
        if (library := self._library) is None:
            return False
        ids = [video, *library.moments_of(video)]
        records = self._workspace.records(ids, IMAGE)
        wanted = composed(tags)
        return len(records) == len(ids) and all(record.tags == wanted for record in records.values())

    def photo_with(self, digest: str, file: LocalFile | None) -> str | None:
        """The id of a photo of that content, the one in ``file`` before others; None where there is none."""
        if (library := self._library) is None:
            return None
        known = None if file is None else library.file(file)
        return known.photo if known is not None and known.digest == digest else library.photo_with(digest)

    def is_taken(self, id: str) -> bool:
        """Whether a photo has that id."""
        return bool(self._workspace.known_ids([id], IMAGE))

    def lies_elsewhere(self, photo: str, file: LocalFile) -> bool:
        """Whether the photo with that id lies, as it was when it was read, in a file before ``file``."""
        files = [] if (library := self._library) is None else library.files_of(photo)
        return any(is_as_it_was(each) for each in files if (each.root, each.path) < (file.root, file.path))

    def inside(self, shard: LocalFile) -> list[LocalFile] | None:
        """All photos of a shard that is as it was when it was read; None unless all are in the index."""
        if not shard.signature or (library := self._library) is None:
            return None
        files = [file for file, _ in library.files_below(shard)]
        places = [file.in_shard for file in files]
        if any(place is None or place[1] != shard.signature for place in places):
            return None
        # The last of them says how many there are; one that failed is missing among them.
        counted = any(place is not None and place[0].endswith(f"{LAST}{len(files)}") for place in places)
        return files if counted and all(map(self.photo_in, files)) else None

    @property
    def _library(self) -> Library | None:
        return None if (store := self._workspace.store()) is None else store.library


@dataclass(slots=True)
class Settled:
    """What left the index at the end of a run.

    ``photos`` are those whose files are gone, which went to the trash; ``captions`` those that their file
    doesn't give any more. ``kept`` are sentences on what stayed although it is gone.
    """

    photos: int = 0
    captions: int = 0
    kept: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LibraryRun:
    """One run of indexing a data set: what it met, and what of the index it did not meet.

    ``verify`` reads also the files that look as they did. Memory holds 8 bytes for each file and caption,
    and the ids of videos that were read.
    """

    engine: Engine
    data_set: DataSet
    delete_missing: bool = False
    verify: bool = False
    _files: array[int] = field(default_factory=lambda: array("q"))
    _photos: array[int] = field(default_factory=lambda: array("q"))
    _captions: array[int] = field(default_factory=lambda: array("q"))
    _read: array[int] = field(default_factory=lambda: array("q"))
    _captioned: array[int] = field(default_factory=lambda: array("q"))
    _videos: list[str] = field(default_factory=list)
    _heirs: dict[str, str] = field(default_factory=dict)
    _broken_off: bool = False

    def index(
        self,
        *,
        size: int = 32,
        take: Callable[[Iterable[Record | Failure]], Iterator[Record | Failure]] = iter,
    ) -> Generator[Indexed | Failure, None, None]:
        """Indexes the data set, or of its items what ``take`` lets through; yields as ``Engine.index``."""
        self.data_set.known = KnownLibrary(
            self.engine.workspace, originals=self.engine.keeps_originals, reread=self.verify
        )
        self.data_set.moments = self.engine.moments
        self._unite_roots()
        for item in self.engine.index(self._watched(take(self.data_set)), size=size):
            if isinstance(item, Indexed) and item.former is not None:
                self._heirs[item.former] = item.record.id
            yield item

    def _unite_roots(self) -> None:
        """Makes the data set's folder a root before it is walked, where there are roots inside of it."""
        library = self.engine.workspace.library
        if library is not None and self.data_set.walks and self.data_set.root is not None:
            folder = str(self.data_set.root)
            if has_lone_surrogate(folder):
                # Its photos are failures that say so.
                return
            if any(below(folder, path) for path in library.root_paths()):
                self.engine.add_root(folder)

    def _watched(self, items: Iterable[Record | Failure]) -> Iterator[Record | Failure]:
        for item in items:
            if isinstance(item, Failure):
                # What is wrong with the file of captions as a whole ends it.
                self._broken_off = self._broken_off or item.source == self.data_set.origin
            elif item.modality == IMAGE:
                self._photos.append(hash(item.id))
                if "metadata" not in item.keeps:
                    self._read.append(hash(item.id))
                    if is_video_type(item.mime_type) and item.photo_id is None:
                        self._videos.append(item.id)
                if item.local is not None and item.photo_id is None:
                    self._files.append(hash((item.local.root, item.local.path)))
            else:
                self._captions.append(hash(item.id))
                if item.origin != FILE_ORIGIN:
                    self._captioned.append(hash(item.photo_id))
            yield item

    def settle(self) -> Settled:
        """Takes out of the index what the data set has no more; only after ``index`` took all of it.

        Raises as ``Engine.delete``.
        """
        settled = Settled()
        if self.engine.workspace.store() is None or self.data_set.partial:
            return settled
        self._forget_superseded()
        self._forget_moments()
        self._forget_captions(settled)
        if self.data_set.walked and self.data_set.root is not None:
            self._forget_files(str(self.data_set.root), settled)
        return settled

    @property
    def _library(self) -> Library:
        return self.engine.workspace.require().library

    def _forget_moments(self) -> None:
        """Deletes the moments that a video which was read again doesn't give any more."""
        met = np.unique(self._photos)
        for video in self._videos:
            unmet = [id for id in self._library.moments_of(video) if not _has(met, hash(id))]
            if unmet:
                self.engine.delete(unmet, captions=False, modality=IMAGE)

    def _forget_captions(self, settled: Settled) -> None:
        """Deletes captions that their file doesn't give any more: the photo's own file, or the data set's."""
        met, photos, read = (np.unique(each) for each in (self._captions, self._photos, self._read))
        unmet = [
            caption
            for caption in self._library.captions_from(FILE_ORIGIN)
            if _has(read, hash(caption.photo_id)) and not _has(met, hash(caption.id))
        ]
        settled.captions = self._withdraw(FILE_ORIGIN, unmet)
        origin = self.data_set.origin
        if origin is not None and not self._broken_off:
            given = list(self._library.captions_from(origin))
            # Those beside photos are read with them, and others all together.
            beside = self.data_set.lists_all
            lost = [
                caption
                for caption in given
                if not _has(met, hash(caption.id))
                and (
                    _has(read if beside else photos, hash(caption.photo_id))
                    or (not beside and self._is_left_out(caption.photo_id or ""))
                )
            ]
            if len(lost) > FEW_PHOTOS and len(lost) > LARGEST_SHARE * len(given) and not self.delete_missing:
                settled.kept.append(
                    f"{origin} doesn't give {len(lost):,} of its {len(given):,} captions any more; as that "
                    "is more than a fifth of them, they stay in the index. If that is meant, say so with "
                    "--delete-missing."
                )
            else:
                settled.captions += self._withdraw(origin, lost)
            settled.captions += self._withdraw(OLD_ORIGIN, self._given_again(origin, photos))

    def _is_left_out(self, photo: str) -> bool:
        """Whether the data set names a photo nowhere, as far as it could be read."""
        if self.data_set.broken:
            return False
        files = self._library.files_of(photo) if self.data_set.unread else []
        return not any(hash(file.absolute) in self.data_set.unread for file in files)

    def _withdraw(self, origin: str, captions: Sequence[Record]) -> int:
        """Takes captions away that ``origin`` doesn't give any more, where no other file does; how many."""
        alone = [caption.id for caption in captions if len(caption.origins) == 1]
        self.engine.withdraw_captions(
            origin, [caption.id for caption in captions if len(caption.origins) > 1]
        )
        for start in range(0, len(alone), _DELETED_AT_ONCE):
            self.engine.delete(alone[start : start + _DELETED_AT_ONCE], captions=False, modality=TEXT)
        return len(alone)

    def _given_again(self, origin: str, photos: NDArray[np.int64]) -> list[Record]:
        """The captions of converted photos, of which the file wasn't noted, where this is that file.

        It is where it says the same of at least half of the photos that it has captions of. ``photos`` are
        those that were met.
        """
        captioned = np.unique(self._captioned)
        old: dict[str, list[Record]] = {}
        for caption in self._library.captions_from(OLD_ORIGIN):
            if caption.photo_id is not None and _has(photos, hash(caption.photo_id)):
                old.setdefault(caption.photo_id, []).append(caption)
        compared = [photo for photo in old if _has(captioned, hash(photo))]
        same = 0
        for captions in self.engine.workspace.captions_of(compared).values():
            said = {caption.text for caption in captions if origin in caption.origins}
            same += any(caption.text in said for caption in captions if OLD_ORIGIN in caption.origins)
        return (
            [caption for captions in old.values() for caption in captions]
            if 0 < len(compared) <= 2 * same
            else []
        )

    def _forget_superseded(self) -> None:
        """Takes photos to the trash in whose files another content is; what people said went over to it.

        Until all files were looked at, such a photo may lie in another one.
        """
        superseded = self._library.without_file()
        if superseded and self.data_set.walked:
            self.engine.forget_superseded({photo: self._heirs.get(photo) for photo in superseded})

    def _forget_files(self, root: str, settled: Settled) -> None:
        folder = self._library.folder(root)
        if folder is None:
            return
        met = np.unique(self._files)
        gone: dict[str, list[LocalFile]] = {}
        met_photos: set[str] = set()
        for file, photo in self._library.files_below(folder):
            met_here = _has(met, hash((file.root, file.path)))
            # A video of which the photo came later is one with it now.
            if not met_here and (hash(file.absolute) in self.data_set.live or self._is_gone(file)):
                gone.setdefault(photo, []).append(file)
            else:
                met_photos.add(photo)
        elsewhere = {
            photo for photo in gone if photo in met_photos or self._lies_elsewhere(photo, gone[photo])
        }
        going = gone.keys() - elsewhere
        live = {
            photo for photo in going if all(hash(file.absolute) in self.data_set.live for file in gone[photo])
        }
        going -= live
        if going and not len(met) and not self.delete_missing:
            settled.kept.append(
                f"{root} has no photo at all, as when a disk isn't there, so its {len(going):,} photos stay "
                "in the index. If they are gone for good, say so with --delete-missing."
            )
            going = set()
        photos = self._library.photos_below(LocalFile(folder.root, ""))
        if len(going) > FEW_PHOTOS and len(going) > LARGEST_SHARE * photos and not self.delete_missing:
            settled.kept.append(
                f"{len(going):,} of the {photos:,} photos of {root} are not there any more; as that is more "
                "than a fifth of them, they stay in the index. If they are gone for good, say so with "
                "--delete-missing."
            )
            going = set()
        going |= live
        settled.photos = len(going)
        self.engine.forget([file for photo in sorted(going | elsewhere) for file in gone[photo]])
        self._read_again(elsewhere)

    def _is_gone(self, file: LocalFile) -> bool:
        """Whether a file that wasn't met is certainly not there."""
        if file.is_here:
            return _is_gone(file.absolute)
        return self.data_set.lists_all and hash(file.absolute) not in self.data_set.unread

    def _read_again(self, photos: Iterable[str]) -> None:
        """Reads photos from another of their files: what is known of one that is gone doesn't hold."""
        left = [files[0].absolute for photo in sorted(photos) if (files := self._library.files_of(photo))]
        again = NamedPhotos(left, limits=self.data_set.limits)
        again.known, again.moments = self.data_set.known, self.data_set.moments
        for _ in self.engine.index(again):
            pass

    def _lies_elsewhere(self, photo: str, gone: list[LocalFile]) -> bool:
        """Whether the photo stays without these files: it was uploaded, or has others."""
        files = {(file.root, file.path) for file in self._library.files_of(photo)}
        return bool(files - {(file.root, file.path) for file in gone}) or self._library.is_uploaded(photo)


def _has(values: np.ndarray, value: int) -> bool:
    """Whether the ascending ``values`` have ``value``."""
    place = int(np.searchsorted(values, value))
    return place < len(values) and int(values[place]) == value


def _is_gone(path: str) -> bool:
    """Whether there is certainly no file, which is another thing than not being able to look.

    Behind a link to a folder that isn't there may be one when that is back, as on a disk. A link to a file is
    gone with it where the file's folder is there and not empty, as one is where disks are mounted.
    """
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        folder = os.path.dirname(path)  # noqa: PTH120
        while folder != "/" and not os.path.lexists(folder):
            folder = os.path.dirname(folder)  # noqa: PTH120
        return os.path.exists(folder)  # noqa: PTH110
    except OSError:
        return False
    target = os.path.realpath(path) if is_link else path
    try:
        os.lstat(target)
    except FileNotFoundError:
        with suppress(OSError), os.scandir(os.path.dirname(target)) as entries:  # noqa: PTH120
            return any(True for _ in entries)
    except OSError:
        return False
    return False
