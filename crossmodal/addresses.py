"""Files at addresses that fsspec opens, such as ``s3://bucket/photos/a.jpg``, and at paths on this machine.

What an address needs beside itself, keys above all, is fsspec's business: its configuration files, the
variables ``FSSPEC_...``, and those of the service, such as ``AWS_PROFILE``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crossmodal.errors import CrossmodalError, DataError, DataSetError, MissingExtra
from crossmodal.extras import EXTRAS, how_to_install

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = [
    "Entry",
    "check_address",
    "entries_of",
    "entry_at",
    "is_address",
    "missing_package",
    "open_address",
    "read_address",
]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

# What is read at once from where each request takes its time.
_BLOCK_BYTES = 8 << 20

# By the names that file systems give to them; each means that the content is another one.
_TAGS = ("ETag", "etag", "checksum", "md5", "md5Hash", "blob_id", "content_md5")
_TIMES = ("LastModified", "mtime", "last_modified", "updated", "modified", "created")

# What s3fs and gcsfs call the class of what is no object, but the beginning of the names of some.
_COMMON_PREFIX = "DIRECTORY"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder has: its name there, its address, its size in bytes.

    ``signature`` changes when the content does; "" where the file system doesn't tell.
    """

    name: str
    address: str
    size: int | None
    signature: str
    is_folder: bool


def is_address(text: str) -> bool:
    """Whether ``text`` is an address, with ``://``, and not a path."""
    return _SCHEME.match(text) is not None


def check_address(address: str) -> str:
    """``address`` without a slash at its end; raises DataSetError for one that may not be stored or shown."""
    if "::" in address:
        raise DataSetError(f"{address} is a chain of addresses (::), which is not read; give the last one.")
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise DataSetError(f"{address} is no address: {error}.") from None
    if parts.password is not None:
        shown = address.replace(f"{parts.username}:{parts.password}@", "")
        raise DataSetError(
            f"The address {shown} has a password in it, which the index would keep and show. Leave it "
            "out, and put it into fsspec's configuration."
        )
    if parts.scheme in ("http", "https") and (parts.query or parts.fragment):
        raise DataSetError(f"{address.partition('?')[0]}: an address with ? or # is not read.")
    if not address.split("://", 1)[1].strip("/"):
        raise DataSetError(f"{address} names nothing yet: a bucket or a folder belongs behind it.")
    return address.rstrip("/")


def entry_at(address: str) -> Entry:
    """What is at an address; raises DataError where that is nothing, or where it cannot be looked at."""
    with _explained(address):
        fs, path = _opened(address)
        return _entry(address, fs.info(path))


def entries_of(folder: str) -> list[Entry]:
    """What is in the folder at an address, by name; raises DataError where that cannot be listed.

    In an object store there may be a folder without a name, as in ``s3://bucket/a//b.jpg``; its address ends
    in two slashes, and what it has cannot be listed.
    """
    with _explained(folder):
        fs, path = _opened(folder)
        # As it is now, and not as this process saw it before.
        fs.invalidate_cache(path)
        listed = fs.ls(path, detail=True)
        found = []
        for info in listed:
            if info["name"].strip("/") != path.strip("/"):
                if name := info["name"].rstrip("/").rpartition("/")[2]:
                    found.append(_entry(f"{folder}/{name}", info))
            # Some list the folder itself, as an object that is called like it.
            elif _COMMON_PREFIX in (info.get("StorageClass"), info.get("storageClass")):
                found.append(_entry(f"{folder}//", info))
    return sorted(found, key=lambda entry: entry.name)


@contextmanager
def open_address(address: str) -> Iterator[IO[bytes]]:
    """The file at an address or path, open for reading; raises DataError, also where reading it fails."""
    with _explained(address):
        fs, path = _opened(address)
        with fs.open(path, "rb", block_size=_BLOCK_BYTES) as opened:
            yield opened


def read_address(address: str, first: int, length: int) -> bytes:
    """``length`` bytes of the file at an address from the byte ``first`` on, or what there is of them.

    Raises DataError.
    """
    if not length:
        # A request for no bytes at all is refused by some.
        return b""
    with _explained(address):
        fs, path = _opened(address)
        content: bytes = fs.cat_file(path, start=first, end=first + length)
    return content


def _opened(address: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(address)
    return fs, path


def _entry(address: str, info: Mapping[str, Any]) -> Entry:
    return Entry(
        address.rpartition("/")[2],
        address,
        info.get("size"),
        _signature(info),
        info.get("type") == "directory",
    )


def _signature(info: Mapping[str, Any]) -> str:
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    time = next((info[name] for name in _TIMES if info.get(name)), "")
    if not tag and not time:
        return ""
    said = time.isoformat() if isinstance(time, datetime) else str(time)
    # Unlike that of a file on this machine, of which the second word is a time to go by.
    return f"{info.get('size')} as {said} {tag}".rstrip().replace(" in ", " ")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Makes a sentence of whatever a file system raises, each of which has errors of its own."""
    try:
        yield
    except CrossmodalError:
        raise
    except ImportError as error:
        raise missing_package(address, error) from error
    except FileNotFoundError:
        raise DataError(f"there is nothing at {address}") from None
    except PermissionError as error:
        raise DataError(f"{address} may not be read: {_reason(error)}") from None
    except Exception as error:  # noqa: BLE001  a service's own errors, such as botocore's
        raise DataError(f"{address} cannot be read: {_reason(error)}") from None


def missing_package(address: str, error: ImportError) -> MissingExtra:
    """What to say where fsspec has not found the package that it needs for ``address``."""
    missing = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    package = (missing.name or "").partition(".")[0]
    how = how_to_install(package) if package in EXTRAS else f"pip install {package}"
    return MissingExtra(f"Reading {address} needs {package}: {how}." if package else str(error))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
