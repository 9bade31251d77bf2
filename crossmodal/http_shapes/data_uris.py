"""Bytes that travel inside JSON: data URIs (RFC 2397) and base64."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from crossmodal.errors import RequestError
from crossmodal.http_shapes.values import shown
from crossmodal.images import sniff_mime_type

__all__ = ["DataUri", "decode_base64", "decode_data_uri", "is_data_uri"]

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


def decode_data_uri(value: str, *, max_bytes: int) -> DataUri:
    """The type and the bytes of a data URI; raises RequestError (413 above ``max_bytes``)."""
    value = value.strip()
    comma = value.find(",", 0, _MAX_HEADER_CHARACTERS)
    header = _HEADER.fullmatch(value, 0, comma) if comma >= 0 else None
    if header is None:
        raise RequestError(f"The data URI {shown(value)} is malformed; expected data:image/jpeg;base64,... .")
    parameters = [part.strip().lower() for part in header["parameters"].split(";") if part.strip()]
    body = value[comma + 1 :]
    # At most four characters hold a byte (base64 takes 4 for 3 bytes, percent-encoding triples them); this is
    # checked before anything is copied.
    if len(body) > 4 * max_bytes:
        raise _too_large(len(body) * 3 // 4, max_bytes)
    content = (
        unquote_to_bytes(body.encode("utf-8", "surrogatepass"))
        if "%" in body
        else body.encode("utf-8", "surrogatepass")
    )
    if "base64" in parameters:
        content = decode_base64(content, "The data URI", max_bytes=max_bytes)
    elif len(content) > max_bytes:
        raise _too_large(len(content), max_bytes)
    charset = next((part[8:].strip('"') for part in parameters if part.startswith("charset=")), "utf-8")
    mime_type = (header["type"] or ("text/plain" if "base64" not in parameters else "")).lower()
    if mime_type in ("", "application/octet-stream"):
        # Browsers that don't know a file's ending send it so.
        mime_type = sniff_mime_type(content) or mime_type or "text/plain"
    if not content and mime_type.startswith("image/"):
        raise RequestError("The photo in the data URI is empty: it holds no bytes.")
    return DataUri(mime_type, charset, content)


def decode_base64(value: str | bytes, name: str, *, max_bytes: int) -> bytes:
    """Bytes from base64 in the standard or the URL-safe alphabet, line breaks and lost padding allowed.

    Raises RequestError where it is not base64 or empty, and with status 413 above ``max_bytes``.
    """
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    packed = b"".join(raw.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    if len(packed) * 3 // 4 > max_bytes:
        raise _too_large(len(packed) * 3 // 4, max_bytes)
    try:
        content = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error:
        start = shown(raw[:24].decode("ascii", "replace"))
        raise RequestError(f"{name} is not valid base64: it starts with {start}.") from None
    if not content:
        raise RequestError(f"{name} is empty: it holds no bytes.")
    return content


def _too_large(size: int, limit: int) -> RequestError:
    return RequestError(
        f"The photo has about {size / 2**20:,.1f} MiB; the limit is {limit / 2**20:,.0f} MiB. "
        "Send a smaller copy.",
        status=413,
    )
