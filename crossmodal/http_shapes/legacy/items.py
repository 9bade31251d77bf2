"""One item of a request's ``data``: a string or a jina Document to a query or to documents to index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from crossmodal import limits
from crossmodal.errors import FetchError, RequestError
from crossmodal.http_shapes.documents import (
    captions_of,
    checked_image_type,
    id_of,
    records_of,
    tags_of,
)
from crossmodal.http_shapes.photos import (
    decode_base64,
    decode_data_uri,
    fetched_photo,
    indexed_image_id,
    is_data_uri,
    opened_for_clients,
)
from crossmodal.http_shapes.values import checked_id, checked_text, plain_json, shown
from crossmodal.images import sniff_mime_type
from crossmodal.match import Match
from crossmodal.records import IMAGE, MODALITIES, TEXT, Modality, Record
from crossmodal.url_photos import FetchedPhotos, is_web_url

__all__ = ["DocumentItem", "QueryItem", "parse_documents", "parse_query", "photo_url"]

_ADDRESS = re.compile(r"(?:blob:)?(?:https?|ftps?|s3|gs)://|file:/", re.IGNORECASE)


_NOT_SET = (None, "")
_BESIDE_A_URL = ("text", "caption", "captions", "blob", "buffer")


@dataclass(frozen=True, slots=True)
class QueryItem:
    """One query: a sentence (``text``), a photo (``content``), or a photo of the index (``indexed_id``).

    Once it is answered it has its ``matches``, best first, as the client sees them (``answers.shown_match``);
    ``truncated`` where fewer came than were asked for, because they were too many bytes.
    ``error`` is a sentence where it has no answer; of an item that is no query, only the id is set beside it.
    """

    id: str
    modality: Modality
    text: str | None = None
    content: bytes | None = None
    mime_type: str | None = None
    indexed_id: str | None = None
    matches: tuple[Match, ...] = ()
    truncated: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentItem:
    """One photo or caption to index, and once it is, its ``outcome``: added, replaced or unchanged.

    ``error`` is a sentence where it is not indexed; of an item that is no document, only the id is set.
    """

    record: Record
    outcome: str | None = None
    error: str | None = None


def photo_url(item: object, host: str | None) -> str | None:
    """The URL of the photo to fetch before ``item`` is parsed, if there is one.

    A URL beside a text, a caption or a photo is none. ``host`` is the request's Host header.
    """
    address = item if isinstance(item, str) else None
    if isinstance(item, dict) and all(item.get(key) in _NOT_SET for key in _BESIDE_A_URL):
        address = item.get("url") if item.get("uri") in _NOT_SET else item["uri"]
    if not isinstance(address, str) or not is_web_url(address := address.strip()):
        return None
    return address if indexed_image_id(address, host) is None else None


def parse_query(item: object, name: str, host: str | None, fetched: FetchedPhotos | None = None) -> QueryItem:
    """The query in ``item``, which errors call ``name``; raises RequestError where it cannot be answered.

    ``host`` is the request's Host header. ``fetched`` is what came from its ``photo_url``, None where the
    server fetches nothing.
    """
    if isinstance(item, str):
        found = _query_from_address(item.strip(), name, uuid4().hex, host, fetched)
        if found is not None:
            return found
        text = checked_text(item, f"The query {name}")
        return QueryItem(uuid4().hex, TEXT, text=text)
    if not isinstance(item, dict):
        raise RequestError(f"{name} is {shown(item)}; it has to be a string or a Document object.")
    item_id = id_of(item, name) or uuid4().hex
    modality = _modality_of(item, name)
    content, mime_type = _content_of(item, name)
    uri = _uri_of(item, name)
    sentence: object = item.get("text")
    if content is not None and modality != TEXT:
        return QueryItem(item_id, IMAGE, content=content, mime_type=mime_type)
    if modality != IMAGE and isinstance(sentence, str) and (sentence or not uri):
        text = checked_text(sentence, f"The text of {name}")
        return QueryItem(item_id, TEXT, text=text, mime_type="text/plain")
    if uri:
        query = _query_from_address(uri, name, item_id, host, fetched)
        if query is None:
            raise _never_opened(uri, name, fetched)
        if modality not in (None, query.modality):
            raise RequestError(f"{name} has modality {modality!r}, but its uri holds {query.modality}.")
        return query
    if modality is not None:
        needed = "photo (blob, or uri with a data URI)" if modality == IMAGE else "text"
        raise RequestError(f"{name} has modality {modality!r} but no {needed}.")
    if sentence is not None:
        checked_text(sentence, f"The text of {name}")
    raise RequestError(f"{name} has no text, no blob and no uri: there is nothing to search for.")


def parse_documents(item: object, name: str, fetched: FetchedPhotos | None = None) -> list[Record]:
    """What ``item`` gives to index: a caption, a photo, or a photo followed by its captions.

    Errors call the item ``name``. ``fetched`` is what came from its ``photo_url``, None where the server
    fetches nothing. Raises RequestError where it cannot be indexed.
    """
    if isinstance(item, str):
        item = {"uri": item} if is_data_uri(item) or _ADDRESS.match(item.strip()) else {"text": item}
    if not isinstance(item, dict):
        raise RequestError(f"{name} is {shown(item)}; it has to be a string or a Document object.")
    id = id_of(item, name)
    modality = _modality_of(item, name)
    tags = tags_of(item, name)
    content, mime_type = _content_of(item, name)
    captions = captions_of(item, name)
    uri = _uri_of(item, name)
    if uri and is_data_uri(uri):
        decoded = decode_data_uri(uri)
        if decoded.mime_type.startswith("text/"):
            captions.append(checked_text(decoded.text(), f"The text of {name}"))
        elif content is None:
            content, mime_type = decoded.content, checked_image_type(decoded.mime_type, name)
    elif uri and content is None and not captions:
        content = _fetched(uri, name, fetched)
        if content is None:
            raise _never_opened(uri, name, fetched)
        mime_type = sniff_mime_type(content)
    elif uri:
        # Stored for the client, as a tag: a path or URL in ``uri`` would look like one of the server's.
        tags.setdefault("uri", plain_json(uri, f"The uri of {name}"))
    if content is None and not captions:
        raise RequestError(f"{name} has no text, no blob and no uri: there is nothing to index.")
    if modality == IMAGE and content is None:
        raise RequestError(f"{name} has modality 'image' but no photo (blob, or uri with a data URI).")
    if modality == TEXT and not captions:
        raise RequestError(f"{name} has modality 'text' but no text.")
    photo_id = id_of(item, name, ("photo_id", "photoId"))
    return records_of(id, photo=content, mime_type=mime_type, captions=captions, photo_id=photo_id, tags=tags)


def _query_from_address(
    address: str, name: str, item_id: str, host: str | None, fetched: FetchedPhotos | None
) -> QueryItem | None:
    """The query in a data URI, a URL or an address of an indexed photo; None for any other string."""
    indexed = indexed_image_id(address, host)
    if indexed is not None:
        return QueryItem(
            item_id, IMAGE, indexed_id=checked_id(indexed, f"The photo's id in {name}", limits.STORED_ID)
        )
    if is_data_uri(address):
        decoded = decode_data_uri(address)
        if decoded.mime_type.startswith("text/"):
            text = checked_text(decoded.text(), f"The text of {name}")
            return QueryItem(item_id, TEXT, text=text, mime_type="text/plain")
        mime_type = checked_image_type(decoded.mime_type, name)
        return QueryItem(item_id, IMAGE, content=decoded.content, mime_type=mime_type)
    photo = _fetched(address, name, fetched)
    if photo is not None:
        return QueryItem(item_id, IMAGE, content=photo, mime_type=sniff_mime_type(photo))
    if _ADDRESS.match(address):
        raise _never_opened(address, name, fetched)
    return None


def _fetched(address: str, name: str, fetched: FetchedPhotos | None) -> bytes | None:
    try:
        return fetched_photo(address, fetched)
    except FetchError as error:
        raise RequestError(f"{name}: {error}") from None


def _never_opened(address: str, name: str, fetched: FetchedPhotos | None) -> RequestError:
    return RequestError(
        f"{name} names {shown(address)}, and {opened_for_clients(fetched)}; send the photo itself as a data "
        "URI (data:image/jpeg;base64,...)."
    )


def _modality_of(item: Mapping[str, Any], name: str) -> Modality | None:
    value = item.get("modality")
    if value in (None, ""):
        return None
    lowered = value.strip().lower() if isinstance(value, str) else value
    for modality in MODALITIES:
        if lowered == modality:
            return modality
    raise RequestError(f"The modality of {name} is {shown(value)}; it has to be 'image' or 'text'.")


def _content_of(item: Mapping[str, Any], name: str) -> tuple[bytes | None, str | None]:
    """The photo's bytes and type in ``blob`` (jina 3) or ``buffer`` (jina 1 and 2), base64 in JSON."""
    for key in ("blob", "buffer"):
        value = item.get(key)
        if value in (None, ""):
            continue
        if not isinstance(value, str | bytes):
            raise RequestError(
                f"The {key} of {name} is {shown(value)}; it has to be the photo's file in base64."
            )
        # Bytes come over gRPC.
        content = value if isinstance(value, bytes) else decode_base64(value, f"The {key} of {name}")
        declared = item.get("mime_type") or item.get("mimeType")
        mime_type = declared.strip().lower() if isinstance(declared, str) and declared.strip() else None
        if mime_type in (None, "application/octet-stream"):
            mime_type = sniff_mime_type(content)
        return content, checked_image_type(mime_type, name) if mime_type else None
    return None, None


def _uri_of(item: Mapping[str, Any], name: str) -> str | None:
    # docarray from 0.30 on, which the jina 3 client now comes with, calls it url.
    value = item.get("url") if item.get("uri") in (None, "") else item["uri"]
    if value is None:
        return None
    if not isinstance(value, str):
        raise RequestError(f"The uri of {name} is {shown(value)}; it has to be a string.")
    uri = value.strip()
    if len(uri) > limits.URI.most and not is_data_uri(uri):
        raise RequestError(limits.URI.exceeded(f"The uri of {name}", len(uri)), status=422)
    return uri or None
