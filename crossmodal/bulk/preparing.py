"""What a worker does: sources in, photos and captions with their vectors out, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from types import TracebackType
from typing import NamedTuple, Self

from crossmodal.data_sets.beside import FolderContents
from crossmodal.data_sets.collection import read_source
from crossmodal.data_sets.mentions import Limits, Mention, Work, checked_caption, prepare
from crossmodal.data_sets.prepared import LeftOut, Prepared, Source
from crossmodal.documents import Document
from crossmodal.engine.vectors import encoding_steps
from crossmodal.errors import DataError
from crossmodal.flow.pipeline import run_batches
from crossmodal.flow.runner import LocalFlow
from crossmodal.records import IMAGE, TEXT, Failure, Made, composed
from crossmodal.settings import Settings

__all__ = ["Answer", "Done", "Preparer"]


class Done(NamedTuple):
    """Says that all of one ``Work`` has come."""

    number: int


Answer = Mention | Failure | LeftOut | Done


class Preparer(AbstractContextManager["Preparer"]):
    """Reads, decodes and encodes, with a model of its own.

    ``is_known`` says of a photo's digest that it needs no encoding. With ``originals`` photos keep their
    bytes. Close it. ``settings`` name the model as it was resolved.
    """

    def __init__(
        self, settings: Settings, *, is_known: Callable[[str], bool], originals: bool = False
    ) -> None:
        self._limits = Limits.of(settings)
        self._size = settings.request_size
        self._is_known = is_known
        self._originals = originals
        self._flow = LocalFlow(encoding_steps(settings))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flow.close()

    def __enter__(self) -> Self:
        return self

    def prepared(self, works: Sequence[Work]) -> Iterator[Answer]:
        """The photos of all sources, in their order, and what was passed over; after each work ``Done``.

        What cannot be used is told, and ends nothing.
        """
        groups: dict[int, _Group] = {}

        def batches() -> Iterator[list[Document]]:
            items = self._read(works)
            for number, group in enumerate(iter(lambda: list(islice(items, self._size)), [])):
                made = groups[number] = _Group(number, group, self._originals)
                # Also where there is nothing to encode, so that an answer comes.
                yield made.photos
                yield made.captions

        following = 0
        for docs in run_batches(self._flow, "index", batches()):
            for doc in docs:
                groups[int(doc.id.partition(":")[0])].take(doc)
            while following in groups and groups[following].is_whole:
                yield from groups.pop(following).answers()
                following += 1

    def _read(self, works: Iterable[Work]) -> Iterator[_Item]:
        contents = FolderContents()
        for number, work in enumerate(works):
            items: Iterable[Mention | Failure | LeftOut] = (
                read_source(work.source, self._limits) if isinstance(work.source, Source) else (work.source,)
            )
            for item in items:
                if not isinstance(item, Mention) or item.refused is not None:
                    yield _Item(item)
                elif work.captions_only:
                    yield _Item(item, texts=_texts(item, None, self._limits))
                else:
                    yield self._photo(item, contents)
            yield _Item(Done(number))

    def _photo(self, mention: Mention, contents: FolderContents) -> _Item:
        try:
            read = prepare(mention, mention.local, self._limits, contents)
        except DataError as error:
            return _Item(replace(mention, read=None, refused=str(error)))
        texts = _texts(mention, read, self._limits)
        mention = replace(mention, read=None)
        return _Item(mention, read, encode=not self._is_known(read.digest), texts=texts)


@dataclass(slots=True)
class _Item:
    """What is to be answered; of a photo, what was read of it, and what has to be encoded."""

    answer: Answer
    read: Prepared | None = None
    encode: bool = False
    texts: tuple[str, ...] = ()
    made: Made | None = None
    captions: dict[str, Made] = field(default_factory=dict)


class _Group:
    """Some items that are encoded together, photos in one request and captions in another."""

    def __init__(self, number: int, items: Sequence[_Item], originals: bool) -> None:
        self.number = number
        self._items = items
        self._originals = originals
        self.photos, self.captions = list[Document](), list[Document]()
        for place, item in enumerate(items):
            if item.encode and item.read is not None:
                doc = Document(f"{number}:{place}", IMAGE, content=item.read.content)
                self.photos.append(doc.checked())
            self.captions += [
                Document(f"{number}:{place}:{which}", TEXT, text=text).checked()
                for which, text in enumerate(item.texts)
            ]
        self._wanted = len(self.photos) + len(self.captions)

    @property
    def is_whole(self) -> bool:
        """Whether everything has its answer."""
        return not self._wanted

    def take(self, doc: Document) -> None:
        """Takes in what came of one document."""
        self._wanted -= 1
        place, _, which = doc.id.partition(":")[2].partition(":")
        item = self._items[int(place)]
        error = doc.error or (None if doc.embedding is not None else "It could not be encoded.")
        vector = None if error else doc.embedding
        made = Made(vector, doc.thumbnail, doc.warning, error)
        if which:
            item.captions[item.texts[int(which)]] = made
        else:
            item.made = made

    def answers(self) -> Iterator[Answer]:
        """The items with what came of them."""
        for item in self._items:
            mention, read = item.answer, item.read
            if not isinstance(mention, Mention) or (read is None and not item.captions):
                yield mention
            elif read is None:
                yield replace(mention, captions_made=item.captions)
            else:
                content = read.content if self._originals else None
                prepared = replace(read, content=content, made=item.made or Made())
                yield replace(mention, prepared=prepared, captions_made=item.captions)


def _texts(mention: Mention, read: Prepared | None, limits: Limits) -> tuple[str, ...]:
    """The captions of a photo as records will have them, each once; unusable ones are told when it is one."""
    found: list[str] = []
    for caption in mention.captions:
        try:
            found.append(composed(checked_caption(caption, limits.max_caption_characters)))
        except DataError:
            continue
    found += [composed(caption.text) for caption in (read.metadata.captions if read is not None else ())]
    return tuple(dict.fromkeys(found))
