"""A data set: a name, and a stream of photos, captions and failures.

Each layout yields mentions of photos; from them each photo becomes one record, and each caption one with its
number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crossmodal.data_sets.beside import FolderContents
from crossmodal.data_sets.mentions import (
    Limits,
    Mention,
    Reader,
    Work,
    checked_caption,
    prepare,
)
from crossmodal.data_sets.photos import shown_uri
from crossmodal.data_sets.prepared import LeftOut, Prepared, Source
from crossmodal.data_sets.values import has_lone_surrogate, printable
from crossmodal.data_sets.videos import moment_records
from crossmodal.errors import DataError
from crossmodal.records import (
    IMAGE,
    TEXT,
    Failure,
    Layer,
    LocalFile,
    Record,
    below,
    caption_id,
    photo_id,
)
from crossmodal.videos.formats import looks_like_a_video, reads_videos
from crossmodal.videos.reading import read_video

__all__ = ["DataSet", "KnownPhotos"]


class KnownPhotos(Protocol):
    """What an index knows of the photos of a data set, so that they need not be read again."""

    def folder(self, path: str) -> LocalFile | None:
        """The root to which the absolute path of a folder belongs, and the path below it; None: to none."""

    def photo_in(self, file: LocalFile) -> tuple[str, str, str] | None:
        """Of the photo in a file that is as it was when it was read, if it is whole in the index: its id, its
        digest and its content hash."""

    def has_tags(self, video: str, tags: Mapping[str, Any]) -> bool:
        """Whether the video with that id and all its moments have these tags of people, and no others."""

    def photo_with(self, digest: str, file: LocalFile | None) -> str | None:
        """The id of a photo of that content, the one in ``file`` before others; None where there is none."""

    def is_taken(self, id: str) -> bool:
        """Whether a photo has that id."""

    def lies_elsewhere(self, photo: str, file: LocalFile) -> bool:
        """Whether the photo with that id lies, as it was when it was read, in a file before ``file``."""

    def inside(self, shard: LocalFile) -> list[LocalFile] | None:
        """All photos of a shard that is as it was when it was read; None unless all are in the index."""


class DataSet(ABC):
    """Photos and captions as a stream; iterating again reads them again.

    Each photo comes at its first mention, its captions after it. Memory holds one file's bytes at a
    time and 200 bytes for each photo so far; never the captions, never the photos.
    ``name`` is what the user gave, ``description`` the layout that was recognised, ``guess`` a sentence on it
    where it was guessed and is more than a folder of photos, and ``notes`` sentences on what the last
    iteration took for granted and passed over on purpose (files that are not images).

    ``warnings`` name what the last iteration used although something of it could not be read. ``partial``
    says that only a part of it, a split, was asked for. ``unread`` are the hashes of the absolute paths of
    photos that the last iteration could not read, ``broken`` says that it could not use something else.
    ``live`` are the hashes of the absolute paths of videos that it passed over as parts of Live Photos.

    ``root`` is the folder that its photos lie in, None where they are named one by one, and ``origin`` the
    file that gives the captions, None where there is none. ``walks``
    says whether it looks for all photos below ``root``, and ``walked`` whether the last iteration looked,
    without an error, into every folder there. With ``lists_all`` a photo that lies at an address or in a
    shard below ``root``, and that such an iteration didn't meet, is gone. ``known``, where it is given, is
    asked for photos that need not be read. Of several files of one content the first one makes the record,
    and where there is ``known`` each of the others another one of the same id. ``moments`` is how many
    moments of a video are taken at most; with 0 videos are none of its photos. With a ``reader`` other
    processes read what it names.
    """

    root: Path | str | None = None
    origin: str | None = None
    guess: str | None = None
    partial: bool = False
    walks: bool = False
    walked: bool = False
    lists_all: bool = False
    moments: int = 0
    reader: Reader | None = None

    def __init__(self, name: str, description: str, limits: Limits, content: bool) -> None:
        self.name = name
        self.description = description
        self.limits = limits
        self.content = content
        self.notes: list[str] = []
        self.warnings: list[Failure] = []
        self.unread: set[int] = set()
        self.live: set[int] = set()
        self.broken = False
        self.known: KnownPhotos | None = None

    def __iter__(self) -> Iterator[Record | Failure]:
        """Yields hashed records and, for each input that cannot be used, a failure; goes on after it."""
        self.warnings = []
        self.notes = [] if self.guess is None else [self.guess]
        self.walked = self.broken = False
        self.unread, self.live = set(), set()
        for item in _Assembly(self).records():
            # Names and cells come from files: a line end or an escape sequence must not reach the terminal.
            yield (
                Failure(printable(item.source), printable(item.reason)) if isinstance(item, Failure) else item
            )

    @abstractmethod
    def mentions(self) -> Iterator[Mention | Failure]:
        """Each place where the data set names a photo, in order."""

    def sources(self) -> Iterator[Source | Mention | Failure]:
        """The same before anything is read, for a ``reader``."""
        yield from self.mentions()

    def noted(self, items: Iterator[Mention | Failure | LeftOut]) -> Iterator[Mention | Failure]:
        """The items of a ``reader`` without what was left out."""
        return (item for item in items if not isinstance(item, Counter))

    def place_of(self, folder: str) -> LocalFile:
        """The folder of a photo in its root: one that is known, the data set's, or itself."""
        # Of what only names photos, the folder around them may be anything, such as a home folder.
        root = self.root if self.walks else None
        if self.known is not None and (place := self.known.folder(folder)) is not None:
            return place
        if root is not None and (inside := below(str(root), folder)) is not None:
            return LocalFile(str(root), inside)
        return LocalFile(folder, "")

    @abstractmethod
    def len_hint(self) -> int | None:
        """About how many photos and captions will come, for a progress bar; None where that is unknown."""

    def expected(self, limit: int | None) -> int | None:
        """``len_hint`` where at most ``limit`` of them are taken (None: all)."""
        hint = self.len_hint()
        return min(hint, limit) if hint is not None and limit is not None else hint or limit


class _Assembly:
    """The records and failures of a data set's mentions, in their order.

    A photo comes at its first mention, with that mention's tags. A caption's id goes by its text; equal
    captions of one photo stay separate captions where they come together. The captions of a photo that cannot
    be read are left out: one failure names the photo, the first of them and their number.
    """

    def __init__(self, data_set: DataSet) -> None:
        self._data_set = data_set
        # The id of the photo in each file, by the hash of its path; None where it cannot be read.
        self._ids: dict[int, str | None] = {}
        self._photos: set[str] = set()
        # How often each caption came of the photo whose captions are coming.
        self._captions: Counter[str] = Counter()
        self._captions_of_photo = ""
        self._folders: dict[str, LocalFile] = {}
        self._contents = FolderContents()
        # What the files of the photos say, and the moments of a video but the first, until the photo itself
        # has been passed on.
        self._said: list[Record] = []

    def records(self) -> Iterator[Record | Failure]:
        pending: _Unusable | None = None
        for mention in self._mentions():
            if isinstance(mention, Failure):
                self._data_set.broken = True
                if pending is not None:
                    yield pending.failure()
                    pending = None
                yield mention
                continue
            if pending is not None and pending.mention.photo == mention.photo:
                pending = replace(pending, captions=pending.captions + len(mention.captions))
                continue
            if pending is not None:
                yield pending.failure()
                pending = None
            key = hash(mention.photo)
            first = key not in self._ids
            if first or (self._ids[key] is None and not mention.sweep):
                try:
                    record = self._photo(mention)
                except DataError as error:
                    self._ids[key] = None
                    self._data_set.unread.add(key)
                    pending = _Unusable(mention, str(error), len(mention.captions))
                    continue
                self._ids[key] = record.id
                if record.id not in self._photos or self._data_set.known is not None:
                    yield record
                self._photos.add(record.id)
                yield from self._said
            elif not mention.captions and not mention.sweep:
                yield Failure(mention.where, f"the photo {mention.photo} is listed again, without a caption")
            photo = self._ids[key]
            if photo is not None:
                yield from self._captions_of(mention, photo)
        if pending is not None:
            yield pending.failure()

    def _mentions(self) -> Iterator[Mention | Failure]:
        data_set = self._data_set
        if data_set.reader is None:
            return data_set.mentions()
        return data_set.noted(data_set.reader(self._works()))

    def _works(self) -> Iterator[Work | Mention | Failure]:
        """What another process is to read; what is known, and what isn't read by path, passes by."""
        known = self._data_set.known
        # Of each photo, by the hash of its place, whether it is sent.
        sent: dict[int, bool] = {}
        for item in self._data_set.sources():
            if isinstance(item, Source):
                yield Work(item)
                continue
            local = None if isinstance(item, Failure) else item.local or self._local_file(item.photo)
            if isinstance(item, Failure) or local is None or looks_like_a_video(item.photo):
                yield item
                continue
            key = hash(item.photo)
            if key not in sent:
                sent[key] = known is None or known.photo_in(local) is None
                yield Work(replace(item, local=local)) if sent[key] else item
            else:
                yield Work(item, captions_only=True) if sent[key] and item.captions else item

    def _photo(self, mention: Mention) -> Record:
        data_set = self._data_set
        self._said = []
        local = mention.local or self._local_file(mention.photo)
        is_video = local is not None and looks_like_a_video(mention.photo)
        known = None if local is None or data_set.known is None else data_set.known.photo_in(local)
        if (
            is_video
            and known is not None
            and mention.tags is not None
            and data_set.known is not None
            and not data_set.known.has_tags(known[0], mention.tags)
        ):
            # They are those of its moments too, which are made again.
            known = None
        if known is not None:
            id, digest, content_hash = known
            untouched = Record(
                id,
                IMAGE,
                uri=mention.photo,
                digest=digest,
                local=local,
                keeps=("tags", "metadata"),
                content_hash=content_hash,
            )
            if mention.tags is None or is_video:
                return untouched
            return replace(untouched, tags=mention.tags, keeps=("metadata",)).hashed()
        if local is not None and is_video:
            return self._video(mention, local)
        if mention.refused is not None:
            raise DataError(mention.refused)
        read = mention.prepared or self._read(mention, local)
        data_set.warnings += [Failure(mention.photo, warning) for warning in read.metadata.warnings]
        id, kept = self._id_of(read.digest, mention, local)
        if "metadata" not in kept:
            self._said = [
                replace(caption, made=mention.captions_made.get(caption.text or ""))
                for caption in read.metadata.caption_records(id, read.uri)
            ]
        return Record(
            id=id,
            modality=IMAGE,
            uri=read.uri,
            mime_type=read.mime_type,
            tags=mention.tags or {},
            metadata=read.metadata.tags,
            content=read.content if data_set.content else None,
            digest=read.digest,
            local=local,
            keeps=kept,
            made=read.made,
        ).hashed()

    def _read(self, mention: Mention, local: LocalFile | None) -> Prepared:
        # Who only measures, as evaluations do, wants the captions that the data set gives.
        whole = self._data_set.known is not None
        return prepare(mention, local, self._data_set.limits, self._contents if whole else None)

    def _video(self, mention: Mention, local: LocalFile) -> Record:
        """The first moment of a video; the others, and what its file says, are put aside."""
        data_set = self._data_set
        if reads_videos() and not data_set.moments:
            raise DataError(f"{mention.photo} is a video, and only photos are read here")
        limits = data_set.limits
        video = read_video(
            mention.photo,
            most=data_set.moments,
            max_bytes=limits.max_video_bytes,
            max_pixels=limits.max_video_pixels,
        )
        if video.warning is not None:
            data_set.warnings.append(Failure(mention.photo, video.warning))
        metadata = self._contents.video_metadata(video, local)
        data_set.warnings += [Failure(mention.photo, warning) for warning in metadata.warnings]
        id, kept = self._id_of(video.digest, mention, local)
        first = Record(
            id,
            IMAGE,
            uri=mention.photo,
            tags=mention.tags or {},
            metadata=metadata.tags,
            local=local,
            keeps=kept,
        )
        whole, *further = moment_records(video, first)
        if "metadata" not in kept:
            self._said = [*further, *metadata.caption_records(id, mention.photo)]
        return whole

    def _id_of(self, digest: str, mention: Mention, local: LocalFile | None) -> tuple[str, tuple[Layer, ...]]:
        """The id of a photo of that content, and what of it stays as the index has it."""
        known = self._data_set.known
        again = None if known is None else known.photo_with(digest, local)
        id = again or photo_id(digest)
        if again is None and known is not None and known.is_taken(id):
            # By a document that somebody gave that id.
            id = digest
        kept: tuple[Layer, ...] = () if mention.tags is not None else ("tags",)
        known_elsewhere = (
            again is not None
            and local is not None
            and known is not None
            and known.lies_elsewhere(again, local)
        )
        if id in self._photos or known_elsewhere:
            # The first file of a content says what is known of the photo.
            kept += ("metadata",)
        return id, kept

    def _local_file(self, photo: str) -> LocalFile | None:
        """Where the photo lies; None for one in a ``data:`` URI, and where its name is not valid UTF-8."""
        if shown_uri(photo) != photo or has_lone_surrogate(photo):
            return None
        signature = self._contents.signature(photo)
        folder, _, name = photo.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._data_set.place_of(folder or "/")
        place = self._folders[folder]
        return LocalFile(place.root, f"{place.path}/{name}".lstrip("/"), signature)

    def _captions_of(self, mention: Mention, photo: str) -> Iterator[Record | Failure]:
        origin = self._data_set.origin
        if photo != self._captions_of_photo:
            self._captions_of_photo = photo
            self._captions.clear()
        for caption in mention.captions:
            try:
                text = checked_caption(caption, self._data_set.limits.max_caption_characters)
            except DataError as error:
                yield Failure(mention.where, str(error))
                continue
            number = self._captions[text]
            self._captions[text] += 1
            record = Record(
                id=caption_id(photo, text, number),
                modality=TEXT,
                text=text,
                uri=shown_uri(mention.photo),
                mime_type="text/plain",
                photo_id=photo,
                tags=mention.tags or {},
                origin=origin,
            ).hashed()
            made = mention.captions_made.get(record.text or "")
            yield record if made is None else replace(record, made=made)


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A photo that cannot be read, while its captions pass by."""

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
