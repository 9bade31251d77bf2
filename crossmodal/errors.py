"""Every error that this project raises on purpose.

::

    CrossmodalError
    ├── SettingsError        an option or environment variable has a value that cannot be used
    ├── OutputError          stdout cannot be written, such as to a full disk
    │   └── ReaderGone       what reads stdout has ended, as `head` does after ten lines
    ├── MissingExtra         a package is not installed that only some uses need
    ├── DataError            one input (a file, a row, a caption, a query) cannot be used
    │   ├── FetchError       a photo's URL that is refused or could not be fetched
    │   ├── FilterError      a filter on tags cannot be used; carries where in it
    │   ├── OriginalGone     the file of a photo is not there any more, or has another content
    │   ├── ImageError       bytes that are not an image that can be read safely
    │   ├── QueryError       a query of weighted terms that cannot be read or answered
    │   └── DataSetError     a data set as a whole is missing or has no known layout
    ├── ModelError           a model cannot be found, read or built
    │   └── ModelMismatch    an index was built by another model than the one asked for
    ├── StoreError           the index on disk cannot be used
    │   ├── StoreMissing     there is no index at that path
    │   ├── StoreLocked      another process is writing to it
    │   ├── BackendUnavailable  the vector database that searches it is away, or not filled yet
    │   ├── DocumentsUnavailable  the database with its documents is away
    │   ├── ObjectsUnavailable  the object store with its originals and thumbnails is away
    │   ├── StoreFormat      it has a format version that this code does not know, or it is damaged
    │   │   └── StoreDamaged one value of one document does not match its checksum; carries which
    │   └── StoreUnwritable  the disk is full or read-only
    ├── RequestError         an HTTP request that cannot be answered; carries the HTTP status
    │   └── Overloaded       the server has as much to do as it takes on
    ├── ServiceError         a Flow could not start, lost a process, or its port is taken
    │   ├── FlowFailure      a running Flow failed on one request as a whole
    │   └── DeadlinePassed   nobody waits for the answer any more, or a process of the Flow gave none in time
    └── ClientError          a call of the Python client failed
        ├── ApiError         the server answered that it cannot do that; carries the problem document
        └── ServerUnavailable  the server cannot be reached, or is not ready, after all retries

Each message is one sentence or two: what was wrong, with the actual value, the limit, and the
option or command that helps. The command line prints it alone, without a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ApiError",
    "BackendUnavailable",
    "ClientError",
    "CrossmodalError",
    "DataError",
    "DataSetError",
    "DeadlinePassed",
    "DocumentsUnavailable",
    "FetchError",
    "FilterError",
    "FlowFailure",
    "ImageError",
    "MissingExtra",
    "ModelError",
    "ModelMismatch",
    "ObjectsUnavailable",
    "OriginalGone",
    "OutputError",
    "Overloaded",
    "QueryError",
    "ReaderGone",
    "RequestError",
    "ServerUnavailable",
    "ServiceError",
    "SettingsError",
    "StoreDamaged",
    "StoreError",
    "StoreFormat",
    "StoreLocked",
    "StoreMissing",
    "StoreUnwritable",
    "exit_code_of",
]


class CrossmodalError(Exception):
    """The base of every error raised on purpose; its text is meant for people."""


class SettingsError(CrossmodalError):
    """An option or environment variable has a value that cannot be used."""


class OutputError(CrossmodalError):
    """Stdout cannot be written: the disk is full, or the device failed."""


class ReaderGone(OutputError):
    """What reads stdout has ended; nothing is wrong, but there is nothing left to do."""


class MissingExtra(CrossmodalError):
    """A package is not installed that only some uses need; the message names the extra that brings it."""


class DataError(CrossmodalError):
    """One input (a file, a row, a caption, a query) cannot be used; the rest can go on."""


class FetchError(DataError):
    """A photo's URL that is refused, or from which no photo came."""


class FilterError(DataError):
    """A filter on tags or modality cannot be used.

    ``pointer`` is the JSON pointer (RFC 6901) of the part inside the filter, such as ``/place/$gte``; empty
    for the filter as a whole.
    """

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer

    def located(self, name: str) -> str:
        """The sentence behind the ``name`` of the filter and the place inside it."""
        at = f" at {self.pointer}" if self.pointer else ""
        return f"{name}{at}: {self}"


class ImageError(DataError):
    """Bytes that are not an image that can be read safely."""


class OriginalGone(DataError):
    """The file of an indexed photo is not where it was any more, or has another content."""


class QueryError(DataError):
    """A query of weighted terms that cannot be read or answered.

    ``pointer`` is the JSON pointer (RFC 6901) of the value in question, None where it isn't known.
    """

    def __init__(self, message: str, pointer: str | None = None) -> None:
        super().__init__(message)
        self.pointer = pointer


class DataSetError(DataError):
    """A data set as a whole is missing or has no known layout."""


class ModelError(CrossmodalError):
    """A model cannot be found, read or built."""


class ModelMismatch(ModelError):
    """An index was built by another model, other weights or other preprocessing."""


class StoreError(CrossmodalError):
    """The index on disk cannot be used."""


class StoreMissing(StoreError):
    """There is no index at that path."""


class StoreLocked(StoreError):
    """Another process is writing to the index."""


class BackendUnavailable(StoreError):
    """The vector database that searches the index doesn't answer, or doesn't have all vectors yet."""


class DocumentsUnavailable(StoreError):
    """The database with the documents of the index is away."""


class ObjectsUnavailable(StoreError):
    """The object store that holds the originals and thumbnails of the index doesn't answer, or refuses."""


class StoreFormat(StoreError):
    """The index has a format version that this code does not know, or it is damaged."""


class StoreDamaged(StoreFormat):
    """One value of one document in the index does not match its checksum.

    ``part`` is document, vector, original or thumbnail; ``id``, ``modality`` (None: not known) and ``row``
    say of which document, ``what`` all of that in words. Indexing it again repairs it.
    """

    def __init__(self, part: str, id: str, row: int, *, modality: str | None = None) -> None:
        # What is damaged may be the id itself.
        self.what = f"the {part} of {id!r}, row {row}, is missing or does not match its checksum"
        super().__init__(
            f"The index is damaged: {self.what}. Index it again to repair it; crossmodal verify names all "
            "that is damaged."
        )
        self.part = part
        self.id = id
        self.row = row
        self.modality = modality


class StoreUnwritable(StoreError):
    """The index cannot be written: the disk is full or read-only, or permission is missing."""


class RequestError(CrossmodalError):
    """An HTTP request that cannot be answered.

    ``status`` is the HTTP status code, 400 to 499 for a client's mistake, 503 for a server not ready.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Overloaded(RequestError):
    """The server has as much to do as it takes on; the same request may be answered a moment later."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=429)


class ServiceError(CrossmodalError):
    """A Flow could not start, lost one of its processes, or its port is taken."""


class FlowFailure(ServiceError):
    """A running Flow failed on one request as a whole, and would fail on it again."""


class DeadlinePassed(ServiceError):
    """Nobody waits any more: the deadline passed, the client hung up, or a process is stuck."""


class ClientError(CrossmodalError):
    """A call of the Python client failed."""


class ApiError(ClientError):
    """The server answered that it cannot do what was asked.

    ``status`` is the HTTP status, ``title`` and ``detail`` are the problem's, and ``problem`` is the whole
    problem document (RFC 9457), empty where the server sent none.
    """

    def __init__(
        self, status: int, title: str, detail: str, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{title} ({status}): {detail}" if detail else f"{title} ({status}).")
        self.status = status
        self.title = title
        self.detail = detail
        self.problem = dict(problem or {})


class ServerUnavailable(ClientError):
    """The server cannot be reached, or says that it is not ready, and that stayed so over all retries."""


def exit_code_of(error: CrossmodalError) -> int:
    """What a program ends with after ``error``: 2 for an option that cannot be used, else 1."""
    return 2 if isinstance(error, SettingsError) else 1
