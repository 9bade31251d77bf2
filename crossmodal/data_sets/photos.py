"""Where a photo lies (a path, a ``file:`` or a ``data:`` URI, an address that fsspec opens), and its bytes.

Nothing but what a person names to index is read at an address: what a table or a client names never is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from crossmodal.addresses import entry_at, is_address, read_address
from crossmodal.data_sets.values import has_lone_surrogate
from crossmodal.errors import DataError
from crossmodal.images import sniff_mime_type
from crossmodal.images.formats import EXTENSIONS, type_by_name
from crossmodal.limits import LARGEST_PHOTO

__all__ = [
    "Photo",
    "looks_like_an_image",
    "photo_at",
    "photo_of",
    "photo_too_large",
    "plain_path",
    "read_photo",
    "read_photo_file",
    "resolve",
    "shown_uri",
]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that can be read: ``uri`` to show, ``mime_type`` by its first bytes, ``content`` its bytes."""

    uri: str
    mime_type: str | None
    content: bytes


def plain_path(path: Path) -> str:
    """The absolute path without ``.`` and ``..``, and with its links: one name of one file."""
    return os.path.abspath(path)  # noqa: PTH100


def looks_like_an_image(file_name: str) -> bool:
    """Whether the extension of ``file_name`` promises an image; the image loader finds out if it is one."""
    return os.path.splitext(file_name)[1].lower() in EXTENSIONS  # noqa: PTH122  (bare speed in large folders)


def resolve(reference: str, folders: Sequence[Path]) -> str:
    """The absolute path or ``data:`` URI that ``reference`` means.

    A relative path is looked for in each of ``folders``; where it is in none, it is that of the first.
    Raises DataError for any other kind of address: nothing is ever fetched.
    """
    if reference[:5].lower() == "data:":
        return reference
    if reference[:5].lower() == "file:":
        parts = urlsplit(reference)
        if parts.netloc not in ("", "localhost"):
            raise DataError(f"{_shortened(reference)} names a file on another machine, {parts.netloc}")
        reference = unquote(parts.path)
    elif is_address(reference):
        raise DataError(
            f"{_shortened(reference)} is a web address, and nothing is ever fetched: download the photo and "
            "give its path"
        )
    candidates = [os.path.abspath(folder / reference) for folder in folders]  # noqa: PTH100  (keeps symlinks)
    return next((path for path in candidates if os.path.lexists(path)), candidates[0])


def shown_uri(photo: str) -> str:
    """What is shown and stored as the photo's URI: its path, or the digest of a ``data:`` URI's text."""
    if photo[:5].lower() == "data:":
        return f"urn:sha256:{hashlib.sha256(photo.encode()).hexdigest()}"
    return photo


def read_photo(photo: str, *, max_bytes: int) -> Photo:
    """The photo at an absolute path, at an address that fsspec opens, or in a ``data:`` URI.

    Raises DataError with a sentence that names the photo where there is none, where it is empty, is no
    regular file, cannot be read, or has more than ``max_bytes`` bytes.
    """
    if photo[:5].lower() == "data:":
        return _photo_in_uri(photo, max_bytes)
    if has_lone_surrogate(photo):
        raise DataError(f"the name of {photo} is not valid UTF-8: rename it")
    if is_address(photo):
        return photo_at(photo, entry_at(photo).size, max_bytes=max_bytes)
    try:
        size = _checked_size(photo, max_bytes)
        with open(photo, "rb") as file:
            # One byte more than expected, and not the limit: read() takes the memory first.
            blob = file.read(size + 1)
        if len(blob) != size:
            raise DataError(f"{photo} changed while it was read: try again when it is complete")
    except ValueError:
        raise DataError(f"{photo!r} is not a path that a file can have") from None
    except FileNotFoundError:
        problem = "is a link to a file that does not exist" if Path(photo).is_symlink() else "does not exist"
        raise DataError(f"{photo} {problem}") from None
    except OSError as error:
        raise DataError(f"{photo} cannot be read: {error.strerror}") from None
    return photo_of(photo, blob)


def photo_at(address: str, size: int | None, *, max_bytes: int) -> Photo:
    """The photo at an address that fsspec opens, of ``size`` bytes, None where that isn't known.

    Raises DataError as ``read_photo`` does.
    """
    if size is not None:
        _check_size(address, size, max_bytes)
    blob = read_address(address, 0, max_bytes + 1 if size is None else size)
    _check_size(address, len(blob), max_bytes)
    if len(blob) != (size or len(blob)):
        raise DataError(f"{address} changed while it was read: try again when it is complete")
    return photo_of(address, blob)


def photo_of(place: str, content: bytes) -> Photo:
    """The photo with that content, which lies at a path or address."""
    by_name = type_by_name(Path(place).suffix) or mimetypes.guess_type(place)[0]
    return Photo(place, sniff_mime_type(content) or by_name, content)


def read_photo_file(path: Path, *, max_bytes: int = LARGEST_PHOTO.most) -> bytes:
    """The bytes of the photo file at ``path``; raises DataError as ``read_photo`` does.

    Its default is for a question, which the Flow judges by what ``--max-photo-bytes`` allows.
    """
    return read_photo(str(path.absolute()), max_bytes=max_bytes).content


def _checked_size(path: str, max_bytes: int) -> int:
    found = Path(path).stat()
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{path} is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is not a regular file but a device, pipe or socket")
    _check_size(path, found.st_size, max_bytes)
    return found.st_size


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size == 0:
        raise DataError(f"{name} is empty")
    if size > max_bytes:
        raise DataError(photo_too_large(name, size, max_bytes))


def photo_too_large(name: str, size: int, max_bytes: int) -> str:
    """The sentence on a photo that has more than ``max_bytes`` bytes."""
    return (
        f"{name} has {size:,} bytes, and the limit for a photo is {max_bytes:,}; allow more with "
        "--max-photo-bytes"
    )


def _photo_in_uri(uri: str, max_bytes: int) -> Photo:
    header, comma, payload = uri[5:].partition(",")
    if not comma:
        raise DataError(f"{_shortened(uri)} is not a data: URI: it has no comma")
    media_type, *parameters = [part.strip().lower() for part in header.split(";")]
    try:
        if "base64" in parameters:
            blob = base64.b64decode(unquote(payload), validate=True)
        else:
            blob = unquote_to_bytes(payload)
    except (binascii.Error, ValueError):
        raise DataError(f"{_shortened(uri)} is not valid base64") from None
    _check_size(f"the photo in {_shortened(uri)}", len(blob), max_bytes)
    return Photo(shown_uri(uri), sniff_mime_type(blob) or media_type or None, blob)


def _shortened(text: str, characters: int = 80) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."
