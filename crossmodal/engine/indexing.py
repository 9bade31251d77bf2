"""Records into the index, whichever way they came: what is new or changed passes the index Flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from crossmodal import limits
from crossmodal.data_sets.photos import read_photo
from crossmodal.documents import Document
from crossmodal.errors import DataError, ObjectsUnavailable, StoreUnwritable
from crossmodal.flow.pipeline import MAX_REQUEST_BYTES, batched, batched_by_modality, run_batches
from crossmodal.flow.runner import Flow
from crossmodal.originals import read_original
from crossmodal.records import IMAGE, Failure, Modality, Record, checked_modality, digest_of
from crossmodal.videos.formats import looks_like_a_video
from crossmodal.workspace import Workspace

__all__ = ["Indexed", "index_batches", "index_records", "raise_aborted"]

# What needs no encoding is answered after so many documents.
_ANSWERED_AFTER = 256

_CHANGED = "the file changed while its folder was indexed: index it again"


@dataclass(frozen=True, slots=True)
class Indexed:
    """What became of one record, which comes without its bytes.

    ``outcome`` is added, replaced or unchanged, or of a file on this machine moved (what was elsewhere lies
    there now), copied (it is there too) or restored (it is back from the trash); it is None where ``error``,
    a sentence, says why not. ``warning`` is a sentence on a damaged photo of which the rest is in the index.
    ``former`` is the id of the photo whose file it has now.
    """

    record: Record
    outcome: str | None = None
    error: str | None = None
    warning: str | None = None
    former: str | None = None

    @property
    def modality(self) -> Modality:
        """Whether it is a photo or a caption."""
        return self.record.modality

    @property
    def source(self) -> str:
        """Where it came from, for people to read: the file, or the caption's beginning."""
        record = self.record
        if record.modality == IMAGE:
            return record.uri or record.id
        return f"{record.uri or record.photo_id or record.id}: the caption {(record.text or '')[:60]!r}"

    @property
    def failure(self) -> Failure | None:
        """That it could not be used, and why; None where it is in the index."""
        return None if self.error is None else Failure(self.source, self.error)


def index_records(
    flow: Flow,
    workspace: Workspace,
    items: Iterable[Record | Failure],
    *,
    size: int = 32,
    originals: bool = True,
    at_once: int | None = None,
) -> Iterator[Indexed | Failure]:
    """Brings records into the index and yields what became of each, after it is on disk.

    A record that the index has with the same content is not encoded again (with ``originals``, only if the
    photo's file is stored); failures among ``items`` come out as they are. ``size`` photos make one request,
    and ``at_once`` requests are under way (``run_batches``). Records of one id are written in their order.
    Raises StoreUnwritable where the disk is full, ObjectsUnavailable, what ``items`` raise, and what the Flow
    raises.
    """
    sorting = _Sorting(flow, workspace, size, originals)
    batches = batched_by_modality(sorting.to_encode(items), size)
    for answered in index_batches(flow, batches, at_once=at_once):
        yield from sorting.take_aside()
        for indexed in answered:
            former = sorting.former.get(indexed.record.id)
            if former is not None and indexed.outcome == "added":
                indexed = replace(indexed, outcome="replaced", former=former)
            yield indexed
    yield from sorting.take_aside()


class _Sorting:
    """Finds what has to be encoded, and does the rest: what needs no Flow is put aside to be answered.

    Threads that read put it there, and it is yielded between the answers. ``former`` has, for the photo of a
    file with another content than before, the one that was there.
    """

    def __init__(self, flow: Flow, workspace: Workspace, size: int, originals: bool) -> None:
        self._flow = flow
        self._workspace = workspace
        self._size = size
        self._originals = originals
        self._aside: SimpleQueue[Indexed | Failure] = SimpleQueue()
        self.former: dict[str, str] = {}

    def to_encode(self, items: Iterable[Record | Failure]) -> Iterator[Record | None]:
        """The records to encode, and None now and then where there are none, so that answers come."""
        batch: list[Record] = []
        held = 0
        for passed, item in enumerate(items, 1):
            if (record := self._hashed(item)) is not None:
                batch.append(record)
                held += record.size
            if len(batch) == self._size or held > MAX_REQUEST_BYTES:
                yield from self._new(batch)
                batch, held = [], 0
            if passed % _ANSWERED_AFTER == 0:
                yield None
        yield from self._new(batch)

    def take_aside(self) -> Iterator[Indexed | Failure]:
        """What was put aside since the last call."""
        while True:
            try:
                yield self._aside.get_nowait()
            except Empty:
                return

    def _hashed(self, item: Record | Failure) -> Record | None:
        if isinstance(item, Failure):
            self._aside.put(item)
            return None
        if item.is_untouched:
            # Whoever says so has asked the index.
            self._aside.put(Indexed(item, "unchanged"))
            return None
        try:
            checked_modality(item.modality, f"The record {item.id!r}")
        except DataError as error:
            self._aside.put(Failure(item.uri or item.id, str(error)))
            return None
        if (refusal := item.beyond_limits()) is not None:
            # Before anything is made of it, its hash included.
            self._aside.put(Indexed(_shortened(item), error=refusal))
            return None
        return item if item.content_hash else item.hashed()

    def _new(self, batch: list[Record]) -> Iterator[Record]:
        known = []
        standings = self._workspace.standings(batch, originals=self._originals)
        for record, standing in zip(batch, standings, strict=True):
            if standing == "same":
                self._aside.put(Indexed(_light(record), "unchanged"))
            elif standing == "known":
                known.append(_light(record))
            elif standing == "without original":
                # Its file is all that is missing: nothing has to be made of it again.
                if isinstance(read := _with_content(record), Failure):
                    self._aside.put(read)
                else:
                    known.append(read)
            elif isinstance(whole := _with_content(record), Failure):
                self._aside.put(whole)
            else:
                if record.local is not None and record.photo_id is None:
                    other = self._workspace.other_photo(record.local, record.id)
                    if other is not None:
                        self.former[record.id] = other
                yield whole
        for indexed in _updated(self._flow, self._workspace, known):
            self._aside.put(indexed)


def _with_content(record: Record) -> Record | Failure:
    """A photo with the content of its file, which was not read where it looked as it did."""
    made = record.content is not None or (record.made is not None and not record.made.is_nothing)
    if record.modality != IMAGE or made or record.local is None:
        return record
    if looks_like_a_video(record.local.path):
        # Its moments come with it, and not by themselves.
        return Failure(record.local.absolute, _CHANGED)
    if not record.local.is_here:
        content = read_original([record.local], record.digest or "")
        return (
            Failure(record.local.absolute, _CHANGED) if content is None else replace(record, content=content)
        )
    try:
        photo = read_photo(record.local.absolute, max_bytes=limits.LARGEST_PHOTO.most)
    except DataError as error:
        return Failure(record.local.absolute, str(error))
    if digest_of(photo.content) != record.digest:
        return Failure(record.local.absolute, _CHANGED)
    return replace(record, content=photo.content, mime_type=photo.mime_type)


def _updated(flow: Flow, workspace: Workspace, records: list[Record]) -> Iterator[Indexed]:
    """Stores what is new of records of which the index has the content."""
    # In a request an id stands once; a photo in several files is not changed by each of them.
    for batch in batched(records, max(1, len(records))):
        moves = [workspace.move_of(record) for record in batch]
        docs = flow.run("update", _documents(batch))
        for record, move, doc in zip(batch, moves, docs, strict=True):
            raise_aborted(doc)
            yield Indexed(_light(record), None if doc.error else move or doc.outcome, doc.error)
        # Where a photo was that has moved, also in a root that nobody walks any more.
        left = [
            file
            for record, move in zip(batch, moves, strict=True)
            if move == "moved"
            for file in workspace.left_files(record)
        ]
        if left:
            flow.run(
                "forget",
                [
                    Document(str(number), IMAGE, record=Record(str(number), IMAGE, local=file))
                    for number, file in enumerate(left)
                ],
            )


def index_batches(
    flow: Flow, batches: Iterator[list[Record]], *, at_once: int | None = None
) -> Iterator[list[Indexed]]:
    """Sends each batch of hashed records through the index Flow; yields what became of each batch.

    Raises StoreUnwritable after a batch for which the disk was full, ObjectsUnavailable after one whose bytes
    could not be stored, and what the Flow raises.
    """
    for docs in run_batches(flow, "index", map(_documents, batches), at_once=at_once):
        yield [_indexed(doc) for doc in docs]
        for doc in docs:
            raise_aborted(doc)


def raise_aborted(doc: Document) -> None:
    """Raises the error of ``doc`` where every other document would fail for the same reason."""
    if doc.aborted:
        raise (ObjectsUnavailable if doc.aborted == ObjectsUnavailable.__name__ else StoreUnwritable)(
            doc.error
        )


def _documents(records: list[Record]) -> list[Document]:
    return [Document.of_record(record) for record in records]


def _indexed(doc: Document) -> Indexed:
    assert doc.record is not None, "what went in with its record comes out with it"
    return Indexed(_light(doc.record), None if doc.error else doc.outcome, doc.error, doc.warning)


def _light(record: Record) -> Record:
    """Without the bytes of a photo and what was made of them, which are not needed any more."""
    light = record.content is None and record.made is None
    return record if light else replace(record, content=None, made=None)


def _shortened(record: Record) -> Record:
    """``record`` as far as a message names it, without what is too large."""
    uri, text = (value and value[: limits.FILE_NAME.most] for value in (record.uri, record.text))
    return replace(record, content=None, made=None, uri=uri, text=text, tags={})
