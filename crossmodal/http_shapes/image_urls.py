"""The server's own addresses of indexed photos, made and recognised in one place."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

__all__ = ["IMAGES_PATH", "image_url", "indexed_image_id"]

IMAGES_PATH = "/images/"
_MAX_URL_CHARACTERS = 2048
_OWN_PATH = re.compile(
    rf"(?:{re.escape(IMAGES_PATH)}(?P<image>[^/?#\s]+)"
    r"|/v1/documents/(?P<document>[^/?#\s]+)/(?:content|thumbnail))(?:[?#]\S*)?"
)


def image_url(photo_id: str, base_url: str = "") -> str:
    """Where an indexed photo can be seen, such as ``http://127.0.0.1:45678/images/3f2a``.

    ``base_url`` is the scheme and host that the client used, without a path.
    """
    return base_url.rstrip("/") + IMAGES_PATH + quote(photo_id, safe="")


def indexed_image_id(address: str, host: str | None) -> str | None:
    """The photo's id in an address of this server's own images, or None for any other string.

    Those are /images/ID, /v1/documents/ID/content and /v1/documents/ID/thumbnail.
    ``host`` is the request's Host header. An address without a host counts as this server's.
    """
    if len(address) > _MAX_URL_CHARACTERS:
        return None
    path = address
    if address[:8].lower().startswith(("http://", "https://")):
        try:
            parts = urlsplit(address)
        except ValueError:
            return None
        if host is None or parts.netloc.lower() != host.strip().lower():
            return None
        path = parts.path
    own = _OWN_PATH.fullmatch(path)
    if own is None:
        return None
    try:
        return unquote(own["image"] or own["document"], errors="strict") or None
    except UnicodeDecodeError:
        return None
