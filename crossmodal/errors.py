"""Every error that this project raises on purpose.

::

    CrossmodalError
    ├── SettingsError        an option or environment variable has a value that cannot be used
    ├── DataError            one input (a file, a row, a caption, a query) cannot be used
    │   ├── ImageError       bytes that are not an image that can be read safely
    │   └── DataSetError     a data set as a whole is missing or has no known layout
    ├── ModelError           a model cannot be found, read or built
    │   └── ModelMismatch    an index was built by another model than the one asked for
    ├── StoreError           the index on disk cannot be used
    │   ├── StoreMissing     there is no index at that path
    │   ├── StoreLocked      another process is writing to it
    │   ├── StoreFormat      it has a format version that this code does not know, or it is damaged
    │   └── StoreUnwritable  the disk is full or read-only
    ├── RequestError         an HTTP request that cannot be answered; carries the HTTP status
    └── ServiceError         a Flow could not start, lost a process, or its port is taken

Each message is one sentence or two: what was wrong, with the actual value, the limit, and the
option or command that helps. The command line prints it alone, without a traceback.
"""

from __future__ import annotations

__all__ = [
    "CrossmodalError",
    "DataError",
    "DataSetError",
    "ImageError",
    "ModelError",
    "ModelMismatch",
    "RequestError",
    "ServiceError",
    "SettingsError",
    "StoreError",
    "StoreFormat",
    "StoreLocked",
    "StoreMissing",
    "StoreUnwritable",
]


class CrossmodalError(Exception):
    """The base of every error raised on purpose; its text is meant for the person at the keyboard."""


class SettingsError(CrossmodalError):
    """An option or environment variable has a value that cannot be used."""


class DataError(CrossmodalError):
    """One input (a file, a row, a caption, a query) cannot be used; the rest can go on."""


class ImageError(DataError):
    """Bytes that are not an image that can be read safely."""


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


class StoreFormat(StoreError):
    """The index has a format version that this code does not know, or it is damaged."""


class StoreUnwritable(StoreError):
    """The index cannot be written: the disk is full or read-only, or permission is missing."""


class RequestError(CrossmodalError):
    """An HTTP request that cannot be answered.

    ``status`` is the HTTP status code, 400 to 499 for a client's mistake, 503 for a server not ready.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ServiceError(CrossmodalError):
    """A Flow could not start, lost one of its processes, or its port is taken."""
