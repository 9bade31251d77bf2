"""Photos inside JSON: data URIs (RFC 2397), base64, addresses of indexed photos on this server, and URLs."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from crossmodal import limits
from crossmodal.errors import FetchError, RequestError
from crossmodal.http_shapes.root_path import ROOT_PATH
from crossmodal.http_shapes.values import shown
from crossmodal.images import sniff_mime_type
from crossmodal.url_photos import FetchedPhotos

__all__ = [
    "DataUri",
    "decode_base64",
    "decode_data_uri",
    "fetched_photo",
    "image_url",
    "indexed_image_id",
    "is_data_uri",
    "opened_for_clients",
]

# Types and parameters take a few dozen characters; anything longer before the comma is no data URI.
_MAX_HEADER_CHARACTERS = 512
_HEADER = re.compile(
    r"data:(?P<type>[\w.+*-]+/[\w.+*-]+)?(?P<parameters>(?:;[^;,]*)*)", re.IGNORECASE | re.ASCII
)
_TYPED = re.compile(r"data:(image|text|video|audio|application)/", re.IGNORECASE)
# Only these: Python also knows codecs whose decoding takes quadratic time.
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
}


_IMAGES_PATH = "/images/"
_OWN_PATH = re.compile(
    rf"(?:{re.escape(_IMAGES_PATH)}(?P<image>[^/?#\s]+)"
    r"|/v1/documents/(?P<document>[^/?#\s]+)/(?:content|thumbnail))(?:[?#]\S*)?"
)


@dataclass(frozen=True, slots=True)
class DataUri:
    """A decoded data URI: ``mime_type`` in lower case without parameters, ``charset`` for texts."""

    mime_type: str
    charset: str
    content: bytes

    def text(self) -> str:
        """The content as text; raises RequestError where the charset is not known or does not fit."""
        codec = _CHARSETS.get(self.charset)
        if codec is None:
            known = ", ".join(sorted(set(_CHARSETS)))
            raise RequestError(f"The data URI has charset {shown(self.charset)}; known ones are {known}.")
        try:
            return self.content.decode(codec)
        except UnicodeDecodeError as error:
            raise RequestError(
                f"The data URI's text is not {self.charset}: byte {error.start} is "
                f"{self.content[error.start]:#04x}."
            ) from None


def is_data_uri(value: str) -> bool:
    """Whether a string is meant as a data URI: 'data: a chart' is a sentence, 'data:image/png' is not."""
    head = value[:_MAX_HEADER_CHARACTERS].lstrip()
    header, comma, _ = head.partition(",")
    return bool(_TYPED.match(head)) or bool(comma and _HEADER.fullmatch(header))


def decode_data_uri(value: str) -> DataUri:
    """The type and the bytes of a data URI; raises RequestError (413 for a photo that is too large)."""
    value = value.strip()
    comma = value.find(",", 0, _MAX_HEADER_CHARACTERS)
    header = _HEADER.fullmatch(value, 0, comma) if comma >= 0 else None
    if header is None:
        raise RequestError(f"The data URI {shown(value)} is malformed; expected data:image/jpeg;base64,... .")
    parameters = [part.strip().lower() for part in header["parameters"].split(";") if part.strip()]
    body = value[comma + 1 :]
    # At most four characters hold a byte (base64 takes 4 for 3 bytes, percent-encoding triples them); this is
    # checked before anything is copied.
    if len(body) > 4 * limits.PHOTO.most:
        raise _too_large(len(body) * 3 // 4)
    content = (
        unquote_to_bytes(body.encode("utf-8", "surrogatepass"))
        if "%" in body
        else body.encode("utf-8", "surrogatepass")
    )
    if "base64" in parameters:
        content = decode_base64(content, "The data URI")
    elif len(content) > limits.PHOTO.most:
        raise _too_large(len(content))
    charset = next((part[8:].strip('"') for part in parameters if part.startswith("charset=")), "utf-8")
    mime_type = (header["type"] or ("text/plain" if "base64" not in parameters else "")).lower()
    if mime_type in ("", "application/octet-stream"):
        # Browsers that don't know a file's ending send it so.
        mime_type = sniff_mime_type(content) or mime_type or "text/plain"
    if not content and mime_type.startswith("image/"):
        raise RequestError("The photo in the data URI is empty: it holds no bytes.")
    return DataUri(mime_type, charset, content)


def decode_base64(value: str | bytes, name: str) -> bytes:
    """Bytes from base64 in the standard or the URL-safe alphabet, line breaks and lost padding allowed.

    Raises RequestError where it is not base64 or empty, and with status 413 for a photo that is too large.
    """
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    packed = b"".join(raw.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    if len(packed) * 3 // 4 > limits.PHOTO.most:
        raise _too_large(len(packed) * 3 // 4)
    try:
        content = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error:
        start = shown(raw[:24].decode("ascii", "replace"))
        raise RequestError(f"{name} is not valid base64: it starts with {start}.") from None
    if not content:
        raise RequestError(f"{name} is empty: it holds no bytes.")
    return content


def image_url(photo_id: str, base_url: str = "", key: str | None = None) -> str:
    """Where an indexed photo can be seen, such as ``http://127.0.0.1:45678/images/3f2a``.

    ``base_url`` is the scheme and host that the client used, without a path, as that of a proxy stands in
    ROOT_PATH, and ``key`` the one that its own address held: a picture in a page of another origin has no
    other way to bring it.
    """
    address = base_url.rstrip("/") + ROOT_PATH.get() + _IMAGES_PATH + quote(photo_id, safe="")
    return address if key is None else f"{address}?key={quote(key, safe='')}"


def indexed_image_id(address: str, host: str | None) -> str | None:
    """The photo's id in an address of this server's own images, or None for any other string.

    Those are /images/ID, /v1/documents/ID/content and /v1/documents/ID/thumbnail, below ROOT_PATH too.
    ``host`` is the request's Host header. An address without a host counts as this server's.
    """
    if len(address) > limits.URI.most:
        return None
    path = address.partition("#t=")[0].partition("?key=")[0]
    if address[:8].lower().startswith(("http://", "https://")):
        try:
            parts = urlsplit(address)
        except ValueError:
            return None
        if host is None or parts.netloc.lower() != host.strip().lower():
            return None
        path = parts.path
    root = ROOT_PATH.get()
    own = _OWN_PATH.fullmatch(path.removeprefix(root) if path.startswith(f"{root}/") else path)
    if own is None:
        return None
    try:
        return unquote(own["image"] or own["document"], errors="strict") or None
    except UnicodeDecodeError:
        return None


def fetched_photo(address: str, fetched: FetchedPhotos | None) -> bytes | None:
    """The photo that was fetched from the URL ``address``; None where it is none that was fetched.

    ``fetched`` is None where the server fetches nothing. Raises the FetchError of that URL.
    """
    found = None if fetched is None else fetched.get(address)
    if isinstance(found, FetchError):
        raise FetchError(str(found))
    return found


def opened_for_clients(fetched: FetchedPhotos | None) -> str:
    """The sentence's part that says what this server opens for a client: nothing, or http and https URLs."""
    if fetched is None:
        return (
            "this server never fetches a URL or opens a path for a client (--fetch-urls lets it fetch URLs)"
        )
    return "this server never opens a path for a client and fetches only http and https URLs"


def _too_large(size: int) -> RequestError:
    return RequestError(
        limits.PHOTO.exceeded("The photo", size),
        status=413,
    )
