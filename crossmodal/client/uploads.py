"""Files and documents on their way to the index: read when their turn comes, and sent a few at a time."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crossmodal.client.answers import DocumentOutcome, UploadProgress, UploadSummary
from crossmodal.client.decoding import read_json
from crossmodal.client.exchange import Call, encode_json
from crossmodal.errors import ApiError, ClientError

__all__ = ["Batch", "NewDocument", "Tally", "Uploadable", "batches", "known_total"]

# Something in the request is wrong; with any other status the server takes no documents at all.
_REFUSED = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A photo (``image``: bytes or a file's path) or a caption (``text``) to index.

    Without an ``id`` it gets one from its content. ``captions`` are a photo's; a caption alone names with
    ``photo_id`` the indexed photo that it describes. ``source`` is what its outcome calls it.
    """

    text: str | None = None
    image: bytes | str | os.PathLike[str] | None = None
    id: str | None = None
    captions: Sequence[str] = ()
    tags: Mapping[str, Any] | None = None
    photo_id: str | None = None
    source: str | None = None


# A file, a folder of photos (searched to any depth), or a document.
Uploadable = str | os.PathLike[str] | NewDocument


@dataclass(frozen=True, slots=True)
class _Item:
    """One file or document that was read: ``sent_name`` is the name of a file in the request."""

    source: str
    content: bytes
    sent_name: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of one request, all files or all documents; ``unread`` is what could not be read before."""

    items: tuple[_Item, ...] = ()
    unread: tuple[DocumentOutcome, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def call(self) -> Call[tuple[DocumentOutcome, ...]]:
        """POST /v1/documents; the outcomes have the sources of this side."""
        # The server calls a file by its name, and a document by its line.
        sources = {
            item.sent_name or f"line {number}": item.source for number, item in enumerate(self.items, 1)
        }

        def read(body: bytes) -> tuple[DocumentOutcome, ...]:
            outcomes = read_json(tuple[DocumentOutcome, ...], "results")(body)
            return tuple(
                replace(outcome, source=sources.get(outcome.source, outcome.source)) for outcome in outcomes
            )

        options: dict[str, Any]
        if self.items[0].sent_name is None:
            lines = b"".join(item.content + b"\n" for item in self.items)
            options = {"content": lines, "headers": {"Content-Type": "application/x-ndjson"}}
        else:
            files: list[Any] = [
                ("file", (item.sent_name, item.content, "application/octet-stream")) for item in self.items
            ]
            described = {name: value for name, value in self.metadata.items() if name in {*sources, "*"}}
            if described:
                files.insert(0, ("metadata", (None, encode_json(described), "application/json")))
            options = {"files": files}
        return Call("POST", "/v1/documents", read, options)

    def refused(self, error: ApiError) -> tuple[tuple[DocumentOutcome, ...], tuple[Batch, ...]]:
        """What follows from a refusal: failures, or smaller batches to send, so that one failure stays one.

        Raises ``error`` again where it isn't about what was sent.
        """
        if error.status not in _REFUSED:
            raise error
        if len(self.items) == 1:
            return (_failure(self.items[0].source, str(error)),), ()
        middle = len(self.items) // 2
        return (), tuple(
            Batch(items, metadata=self.metadata) for items in (self.items[:middle], self.items[middle:])
        )


class Tally:
    """Counts outcomes and reports them to ``on_progress``."""

    def __init__(self, total: int | None, on_progress: Callable[[UploadProgress], None] | None) -> None:
        self._total = total
        self._on_progress = on_progress
        self._outcomes: list[DocumentOutcome] = []
        self._counts = {"added": 0, "replaced": 0, "unchanged": 0, "failed": 0}
        self._done = 0

    def add(self, outcomes: Sequence[DocumentOutcome], done: int) -> None:
        """Counts ``outcomes``, which settle ``done`` more files or documents."""
        self._outcomes += outcomes
        self._done += done
        for outcome in outcomes:
            self._counts[outcome.outcome or "failed"] += 1
        if self._on_progress is not None:
            self._on_progress(UploadProgress(self._done, self._total, latest=tuple(outcomes), **self._counts))

    def summary(self) -> UploadSummary:
        """All that was counted."""
        return UploadSummary(outcomes=tuple(self._outcomes), **self._counts)


def known_total(sources: Any) -> int | None:
    """How many files and documents there will be, where that is known without reading folders."""
    if not isinstance(sources, Sequence) or isinstance(sources, str):
        return None
    if any(isinstance(source, str | os.PathLike) and Path(source).is_dir() for source in sources):
        return None
    return len(sources)


def batches(
    sources: Iterable[Uploadable] | Uploadable,
    metadata: Mapping[str, Any] | None = None,
    *,
    max_documents: int,
    max_bytes: int,
) -> Iterator[Batch]:
    """Reads ``sources`` one after the other into batches of at most so many, and so many bytes.

    A document of more bytes goes alone. What cannot be read is in ``unread`` of a batch.
    """
    items: list[_Item] = []
    unread: list[DocumentOutcome] = []

    def batch() -> Batch:
        full = Batch(tuple(items), tuple(unread), metadata or {})
        items.clear()
        unread.clear()
        return full

    for item in _items(sources):
        if isinstance(item, DocumentOutcome):
            unread.append(item)
        else:
            held = sum(len(one.content) for one in items)
            if items and (not _belong_together(items, item) or held + len(item.content) > max_bytes):
                yield batch()
            items.append(item)
        if len(items) + len(unread) >= max_documents:
            yield batch()
    if items or unread:
        yield batch()


def _belong_together(items: Sequence[_Item], item: _Item) -> bool:
    """Whether ``item`` can go in one request with ``items``: of one kind, with a name and content of its own.

    The server takes the same content twice in one request for a mistake; in the next one it is unchanged.
    """
    if (items[0].sent_name is None) != (item.sent_name is None):
        return False
    return not any(
        one.content == item.content or (item.sent_name is not None and one.sent_name == item.sent_name)
        for one in items
    )


def _items(sources: Iterable[Uploadable] | Uploadable) -> Iterator[_Item | DocumentOutcome]:
    """Every file and document, read, or the outcome that says why it cannot be."""
    for source in [sources] if isinstance(sources, str | os.PathLike | NewDocument) else sources:
        if isinstance(source, NewDocument):
            yield _document(source)
        elif not isinstance(source, str | os.PathLike):
            raise ClientError(
                f"{type(source).__name__} cannot be uploaded; give paths or NewDocument(image=..., text=...)."
            )
        elif Path(source).is_dir():
            yield from _photos_below(Path(source))
        else:
            yield _file(Path(source))


def _photos_below(folder: Path) -> Iterator[_Item | DocumentOutcome]:
    from crossmodal.data_sets.folder import find_images
    from crossmodal.data_sets.passed_over import PassedOver

    for found in find_images(folder, PassedOver()):
        yield _file(Path(found)) if isinstance(found, str) else _failure(found.source, found.reason)


def _file(path: Path) -> _Item | DocumentOutcome:
    try:
        # A name of bytes that aren't UTF-8 can be opened but not sent.
        return _Item(str(path), path.read_bytes(), path.name.encode(errors="replace").decode())
    except (OSError, ValueError) as error:
        return _failure(str(path), f"The file cannot be read: {_reason(error)}.")


def _document(document: NewDocument) -> _Item | DocumentOutcome:
    path = document.image if isinstance(document.image, str | os.PathLike) else None
    source = document.source or str(path or document.id or document.text or "a photo without a name")
    try:
        return _Item(source, _line(document))
    except OSError as error:
        return _failure(source, f"The file cannot be read: {_reason(error)}.")
    except (ClientError, ValueError) as error:
        return _failure(source, str(error))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _line(document: NewDocument) -> bytes:
    """A document as one line of JSON, with its photo as a data URI."""
    image = document.image
    content = Path(image).read_bytes() if isinstance(image, str | os.PathLike) else image
    # The server looks at the bytes, whatever the type says.
    uri = None if content is None else "data:image/*;base64," + base64.b64encode(content).decode("ascii")
    values = {
        "id": document.id,
        "text": document.text,
        "image": uri,
        "captions": list(document.captions) or None,
        "tags": None if document.tags is None else dict(document.tags),
        "photo_id": document.photo_id,
    }
    return encode_json({name: value for name, value in values.items() if value is not None})


def _failure(source: str, reason: str) -> DocumentOutcome:
    return DocumentOutcome(source, None, None, None, reason)
