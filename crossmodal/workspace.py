"""The index in a workspace folder, open for reading: what it holds, and which model built it."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crossmodal.data_sets.beside import is_as_it_was
from crossmodal.errors import (
    DataError,
    ModelMismatch,
    OriginalGone,
    StoreError,
    StoreFormat,
    StoreMissing,
    StoreUnwritable,
)
from crossmodal.filters.sorting import Place
from crossmodal.index.embedded.conversion import OLD_STORES, old_stores
from crossmodal.index.embedded.derived_file import stored_tier
from crossmodal.index.embedded.opening import documents_address
from crossmodal.index.embedded.reserve import RESERVE_FILE, Reserve
from crossmodal.index.embedded.schema import FORMAT, INDEX_FILE
from crossmodal.index.embedded.store import EmbeddedStore, mismatch_message
from crossmodal.index.protocols import Facet, FacetRequest, TextCounts
from crossmodal.models.identity import ModelIdentity
from crossmodal.originals import read_original, why_not_read
from crossmodal.private_files import make_private_folder
from crossmodal.records import IMAGE, MODALITIES, TEXT, LocalFile, Look, Modality, Record, checked_modality
from crossmodal.video_originals import VideoOriginals
from crossmodal.videos.formats import is_video_type

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from crossmodal.filters import Filter
    from crossmodal.filters.sorting import Order
    from crossmodal.index.embedded.library import Library
    from crossmodal.index.protocols import Standing, TagField, TextHit, UnreadPhoto, WordHit

__all__ = ["Workspace"]

# What a new index needs before its first document.
_LEAST_SPACE_BYTES = 1 << 19

# Counts of values that are remembered of one state of the index: a page asks again and again for the same.
_MOST_FACETS = 256


class Workspace:
    """The index in the folder ``path``, which need not exist yet.

    It is opened when it is first needed and stays open; each call sees what has been committed by then, also
    by other processes, and an index that replaced this one. Close it, or use it in a ``with`` statement.
    Raises ``StoreFormat`` where the index has a format that has to be converted.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._opened: EmbeddedStore | None = None
        self._opening = threading.Lock()
        self._tag_fields: dict[int, tuple[tuple[str, int], list[TagField]]] = {}
        self._facets: tuple[object, dict[tuple[Modality, FacetRequest], Facet]] = None, {}
        self._text_counts: tuple[tuple[str, int, int], TextCounts] | None = None
        self._videos = VideoOriginals()

    def close(self) -> None:
        """Close the index; it is opened again when it is needed."""
        self._videos.close()
        with self._opening:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def store(self) -> EmbeddedStore | None:
        """The index, open for reading; None where there is none."""
        with self._opening:
            if self._opened is not None and self._opened.superseded:
                self._opened.close()
                self._opened = None
            if self._opened is None:
                try:
                    old = [] if (self.path / INDEX_FILE).exists() else old_stores(self.path)
                except OSError as error:
                    raise StoreError(
                        f"The workspace {self.path} cannot be read ({error.strerror}). Give permission for "
                        "it, or choose another folder with --workspace."
                    ) from error
                if old:
                    raise StoreFormat(
                        f"The index in {self.path} has the format of an earlier version. Convert it with: "
                        f"crossmodal convert --workspace {shlex.quote(str(self.path))}"
                    )
                try:
                    self._opened = EmbeddedStore.open_reader(self.path)
                except StoreMissing:
                    return None
            return self._opened

    def state(self) -> tuple[str, int] | None:
        """The id of the index and the number of commits that changed it; None where there is no index."""
        store = self.store()
        return None if store is None else (store.id, store.sequence)

    def exists(self) -> bool:
        """Whether there is an index."""
        return self.store() is not None

    def require(self) -> EmbeddedStore:
        """The index; raises ``StoreMissing`` if there is none."""
        store = self.store()
        if store is None:
            raise StoreMissing(
                f"There is no index in {self.path}. Make one with: crossmodal index --workspace "
                f"{shlex.quote(str(self.path))}"
            )
        return store

    def require_writable(self) -> None:
        """Make the folder if it isn't there; raise ``StoreUnwritable`` if nothing can be written into it.

        From an index that is there something can be deleted on a full disk, too.
        """
        try:
            make_private_folder(self.path)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(bytes(_LEAST_SPACE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            deletable = (self.path / INDEX_FILE).exists() and Reserve(self.path).exists
            if error.errno == errno.ENOSPC and deletable:
                return
            raise StoreUnwritable(
                f"The workspace {self.path} cannot be written ({error.strerror}). Free some space or give "
                "write permission for it, or choose another folder with --workspace."
            ) from error

    def identity(self) -> ModelIdentity | None:
        """The model that built the index, None if there is no index."""
        store = self.store()
        return None if store is None else store.identity

    def check_model(self, identity: ModelIdentity) -> None:
        """Raise ``ModelMismatch`` if another model built the index."""
        built_by = self.identity()
        if built_by is not None and built_by != identity:
            raise ModelMismatch(mismatch_message(self.path, built_by, identity))

    def standings(self, records: Sequence[Record], *, originals: bool = False) -> list[Standing]:
        """How each of the ``records`` stands to what the index has; see ``EmbeddedStore.standings``."""
        store = self.store()
        if store is None:
            return ["new"] * len(records)
        hashed = [record if record.content_hash else record.hashed() for record in records]
        return store.standings(hashed, originals=originals)

    @property
    def library(self) -> Library | None:
        """Where the photos lie, and the trash; None where there is no index."""
        return None if (store := self.store()) is None else store.library

    def other_photo(self, file: LocalFile, photo: str) -> str | None:
        """The id of the photo that was in ``file`` when it was indexed, if that isn't ``photo``."""
        known = None if self.library is None else self.library.file(file)
        return None if known is None or known.photo == photo else known.photo

    def left_files(self, record: Record) -> list[LocalFile]:
        """The files in which a photo lay that is in ``record.local`` now, as far as they are gone."""
        files = [] if self.library is None or record.local is None else self.library.files_of(record.id)
        return [
            file
            for file in files
            if record.local is not None
            and (file.root, file.path) != (record.local.root, record.local.path)
            and file.is_here
            and Path(file.root).is_dir()
            and not os.path.lexists(file.absolute)
        ]

    def move_of(self, record: Record) -> str | None:
        """What became of a photo that the index has, by where its file is now.

        moved: it was elsewhere; copied: it is there as well; restored: it was in the trash; None: none of it.
        """
        store = self.store()
        if store is None or record.local is None:
            return None
        # A moment lies where its video does.
        photo = record.photo_id or record.id
        files = store.library.files_of(photo)
        if any((file.root, file.path) == (record.local.root, record.local.path) for file in files):
            return None
        if files:
            return "copied" if any(is_as_it_was(file) for file in files) else "moved"
        if not store.known_ids([photo], IMAGE):
            return "restored"
        if store.library.is_restored(photo):
            return "restored"
        # Without a file it is an upload, or another content took its file.
        return "copied" if store.library.is_uploaded(photo) else "moved"

    def get(self, id: str, modality: Modality) -> Record | None:
        """The photo or caption ``id``, without its bytes; None if it isn't there."""
        store = self.store()
        return None if store is None else store.get([id], modality)[0]

    def find(self, id: str) -> Record | None:
        """The photo with that id, else the caption, without its bytes; None if there is neither."""
        return self.get(id, IMAGE) or self.get(id, TEXT)

    def records(self, ids: Iterable[str], modality: Modality) -> dict[str, Record]:
        """The photos or captions among ``ids`` by id, without their bytes; what is not stored is left out."""
        store = self.store()
        wanted = list(dict.fromkeys(ids))
        found = [] if store is None else zip(wanted, store.get(wanted, modality), strict=True)
        return {id: record for id, record in found if record is not None}

    def looks(self, photo_ids: Iterable[str]) -> dict[str, Look]:
        """How the photos look, by id; what is not stored is left out."""
        store = self.store()
        return {} if store is None else store.looks(dict.fromkeys(photo_ids))

    def known_ids(self, ids: Iterable[str], modality: Modality) -> list[str]:
        """Those among ``ids`` that are stored, also where what is stored of them is damaged."""
        store = self.store()
        return [] if store is None else store.known_ids(dict.fromkeys(ids), modality)

    def caption_ids(self, photo_id: str) -> list[str]:
        """The ids of the captions of one photo, in the order they came; of damaged ones too."""
        store = self.store()
        return [] if store is None else store.caption_ids(photo_id)

    def vectors(self, ids: Iterable[str], modality: Modality) -> dict[str, NDArray[np.float32]]:
        """The vectors, float32 (dimension,), of the photos or captions among ``ids``, those stored, by id."""
        store = self.store()
        return {} if store is None else store.vectors(dict.fromkeys(ids), modality)

    @property
    def banks_fingerprint(self) -> str | None:
        """The fingerprint of the banks that the index ranks with, empty for none; None without an index."""
        store = self.store()
        return None if store is None else store.banks_fingerprint

    def hubness(self, ids: Iterable[str], modality: Modality) -> dict[str, float]:
        """The hubness of the photos or captions among ``ids``, those with a vector, by id."""
        store = self.store()
        return {} if store is None else store.hubness(dict.fromkeys(ids), modality)

    def ids(self, modality: Modality) -> Iterator[str]:
        """The ids of all photos or captions, in the order of their bytes."""
        store = self.store()
        if store is not None:
            yield from store.ids(modality)

    def vector_count(self, modality: Modality) -> int:
        """How many photos or captions can be searched for."""
        store = self.store()
        return 0 if store is None else store.counts(modality).vectors

    def captions_of(self, photo_ids: Sequence[str]) -> dict[str, list[Record]]:
        """For each of ``photo_ids`` the captions that describe it, in the order they came."""
        store = self.store()
        wanted = list(dict.fromkeys(photo_ids))
        found = [[] for _ in wanted] if store is None else store.captions_of(wanted)
        return dict(zip(wanted, found, strict=True))

    def list_records(
        self,
        modality: Modality,
        limit: int,
        after: str | None = None,
        *,
        filter: Filter | None = None,
        order: Order | None = None,
    ) -> list[Record]:
        """The first ``limit`` photos or captions that match ``filter``, without bytes, in order of id.

        Those behind the id ``after``; with an ``order`` in that one, behind the place that ``after`` names
        (``Order.place_of`` a record). Raises DataError for what is no place.
        """
        checked_modality(modality, "What is asked for")
        place = None
        if after:
            place = Place(None, after) if order is None else Place.from_text(after)
        store = self.store()
        return [] if store is None else store.listed(modality, limit, filter=filter, order=order, after=place)

    def matching_ids(self, modality: Modality, filter: Filter, limit: int | None = None) -> list[str]:
        """The ids of the first ``limit`` photos or captions that match, or of all, as ``ids`` has them."""
        store = self.store()
        return [] if store is None else store.matching_ids(modality, filter, limit)

    def coordinates(self, filter: Filter | None = None) -> list[tuple[str, float, float]]:
        """Id, latitude and longitude in degrees of the photos that have them and match ``filter``."""
        store = self.store()
        return [] if store is None else store.coordinates(filter)

    def tag_fields(self, limit_values: int = 50) -> list[TagField]:
        """The tags that the index has, in order of their names, each with its most frequent values.

        A tag that photos have is counted over the photos, any other over the captions.
        """
        store = self.store()
        if store is None:
            return []
        commit = store.id, store.sequence
        known = self._tag_fields.get(limit_values)
        if known is None or known[0] != commit:
            fields = {field.name: field for field in store.tag_fields(TEXT, limit_values)}
            fields |= {field.name: field for field in store.tag_fields(IMAGE, limit_values)}
            # Only the last answer is cached: a page asks again and again for the same.
            known = commit, [fields[name] for name in sorted(fields)]
            self._tag_fields = {limit_values: known}
        return list(known[1])

    def facet(self, modality: Modality, request: FacetRequest, filter: Filter | None = None) -> Facet:
        """How many photos or captions, of those that match ``filter``, have which value of a tag."""
        store = self.store()
        if store is None:
            return Facet(request.tag, 0, (), False)
        if filter is not None:
            return store.facet(modality, request, filter)
        commit = store.id, store.sequence
        if self._facets[0] != commit or len(self._facets[1]) >= _MOST_FACETS:
            self._facets = commit, {}
        known = self._facets[1]
        if (modality, request) not in known:
            known[modality, request] = store.facet(modality, request)
        return known[modality, request]

    def tag_values(
        self, modality: Modality, *, without: Sequence[str], longest: int
    ) -> list[tuple[str, str, int]]:
        """Names of tags, their texts of at most ``longest`` characters, and how many documents have each."""
        store = self.store()
        return [] if store is None else store.tag_values(modality, without=without, longest=longest)

    def tag_texts(self, modality: Modality, tag: str) -> list[str]:
        """The different texts that the photos or captions have under the name ``tag``."""
        store = self.store()
        return [] if store is None else store.tag_texts(modality, tag)

    def search_words(self, text: str, limit: int) -> list[WordHit]:
        """The ``limit`` captions, and photos by their files, that fit the words of ``text`` best."""
        store = self.store()
        return [] if store is None else store.search_words(text, limit)

    def unread_photos(self, limit: int, *, after: int = -1) -> list[UnreadPhoto]:
        """The first ``limit`` photos behind the row ``after`` in which nobody has looked for text yet."""
        store = self.store()
        return [] if store is None else store.unread_photos(limit, after=after)

    def matching_texts(self, text: str, limit: int) -> list[TextHit]:
        """The ``limit`` photos whose text fits the words of ``text`` best."""
        store = self.store()
        return [] if store is None else store.matching_texts(text, limit)

    def text_of(self, photo: str) -> str | None:
        """What was read in a photo: empty where it has no text, None where nobody has looked yet."""
        store = self.store()
        return None if store is None else store.text_of(photo)

    def has_texts(self) -> bool:
        """Whether there is text in any photo, so that searching words finds more than captions."""
        store = self.store()
        return store is not None and store.has_texts()

    def text_counts(self) -> TextCounts:
        """In how many photos text was looked for, how many of them have some, and how many wait."""
        store = self.store()
        if store is None:
            return TextCounts(0, 0, 0)
        commit = store.id, store.sequence, store.last_text
        if self._text_counts is None or self._text_counts[0] != commit:
            self._text_counts = commit, store.count_texts()
        return self._text_counts[1]

    def content(self, id: str) -> tuple[bytes, str] | None:
        """The untouched file of the photo ``id`` and its mime type; None if there is no such photo.

        It is what is stored of it, or else what lies in its file. Raises ``OriginalGone`` where the file is
        not there any more, or is not what was indexed, ``ObjectsUnavailable`` where it lies in an object
        store that is away, DataError for a video.
        """
        store = self.store()
        record = None if store is None else store.get([id], IMAGE)[0]
        if store is None or record is None:
            return None
        if is_video_type(record.mime_type):
            raise DataError(f"{id!r} is a moment of a video, which is not read as a whole: use its file.")
        content = store.content(id)
        if content is None and record.digest is not None:
            content = read_original(store.library.files_of(id), record.digest)
        if content is None:
            why = why_not_read(store.library.files_of(id))
            raise OriginalGone(f"The file of the photo {id!r} {why}; only its thumbnail is left.")
        return content, record.mime_type or "application/octet-stream"

    def reading_video(self, id: str, *, locations: bool = True) -> Future[None] | None:
        """What ends once ``video`` needs not read the file as a whole first; None where it needs not now.

        See ``VideoOriginals.reading``.
        """
        store = self.store()
        return None if store is None else self._videos.reading(store, id, locations=locations)

    def video(self, id: str) -> tuple[int, str] | None:
        """The open file of the video with the moment ``id``, a descriptor to close, and its mime type.

        None where it is no moment. Raises as ``VideoOriginals.opened``.
        """
        store = self.store()
        return None if store is None else self._videos.opened(store, id)

    def thumbnail(self, id: str) -> tuple[bytes, str] | None:
        """The small JPEG of the photo ``id`` and its mime type; None if it is not stored.

        Raises ``ObjectsUnavailable`` where it lies in an object store that is away.
        """
        store = self.store()
        thumbnail = None if store is None else store.thumbnail(id)
        return None if thumbnail is None else (thumbnail, "image/jpeg")

    def status(self, *, parts: bool = False) -> dict[str, Any]:
        """What is indexed, as JSON values; needs no model.

        Keys: ``path``, ``format``, ``model`` (None or name, weights, preprocessing, dimension),
        ``bytes_on_disk``, ``last_change`` (ISO 8601, UTC) and, under ``modalities``, for ``image`` and
        ``text`` the numbers of ``documents`` and ``vectors``, ``bytes_on_disk`` (of originals, thumbnails and
        vectors), ``model``, ``last_change`` and ``search``, as ``stored_tier`` says; and ``damaged``: ``id``,
        ``modality``, ``part`` and a sentence, ``what``, of all that was found damaged when it was read and
        still is; ``texts``: in how many photos text was looked for (``read``), how many of them have some
        (``with_text``) and how many wait (``waiting``); ``database``, the address of ``--documents`` or None;
        and ``objects``, as ``objects_state``. With ``parts``, which reads everything once: ``bytes_of`` (as
        ``EmbeddedStore.bytes_of_parts``), ``roots`` (``path`` and ``files``) and ``trash`` (how many photos).
        Raises ``StoreMissing``.
        """
        store = self.require()
        identity = store.identity
        modalities: dict[str, dict[str, Any]] = {}
        for modality in MODALITIES:
            counts = store.counts(modality)
            modalities[str(modality)] = {
                "documents": counts.documents,
                "vectors": counts.vectors,
                "bytes_on_disk": counts.bytes,
                "model": None if identity is None else identity.name,
                "last_change": counts.last_change.isoformat() if counts.last_change else None,
                "search": stored_tier(store.path, modality, store.id),
            }
        changes = [part["last_change"] for part in modalities.values() if part["last_change"]]
        return {
            "path": str(self.path.absolute()),
            "format": FORMAT,
            "model": None if identity is None else identity.to_json(),
            "bytes_on_disk": store.bytes_on_disk,
            **(_parts_of(store) if parts else {}),
            "last_change": max(changes, default=None),
            "modalities": modalities,
            "texts": self.text_counts()._asdict(),
            "database": documents_address(self.path),
            "objects": store.objects_state(),
            "damaged": [
                {"id": error.id, "modality": error.modality, "part": error.part, "what": error.what}
                for error in store.damaged()
            ],
        }

    def objects_state(self) -> dict[str, Any] | None:
        """How the object store of originals and thumbnails is; None where there is none.

        See ``EmbeddedStore.objects_state``.
        """
        store = self.store()
        return None if store is None else store.objects_state()

    @property
    def unwritable_reason(self) -> str | None:
        """The sentence that says why nothing can be written into the folder; None where something can."""
        if not self.path.is_dir() or os.access(self.path, os.W_OK):
            return None
        return (
            "The index cannot be written: its disk is read-only, or the server has no permission to write "
            "into its folder."
        )

    def delete(self) -> None:
        """Delete the index from disk; other files in the folder stay."""
        self.close()
        for name in (INDEX_FILE, f"{INDEX_FILE}-wal", f"{INDEX_FILE}-shm", RESERVE_FILE):
            (self.path / name).unlink(missing_ok=True)
        for name in ("derived", *OLD_STORES):
            shutil.rmtree(self.path / name, ignore_errors=True)


def _parts_of(store: EmbeddedStore) -> dict[str, Any]:
    return {
        "bytes_of": store.bytes_of_parts(),
        "roots": [{"path": root.path, "files": root.files} for root in store.library.roots()],
        "trash": len(store.library.trash()),
    }
