"""One item of a request's ``data``: a string or a jina Document to a query or to documents to index.

No URL is fetched and no path is opened anywhere below: bytes come with the request or not at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from crossmodal.errors import RequestError
from crossmodal.http_shapes.data_uris import decode_base64, decode_data_uri, is_data_uri
from crossmodal.http_shapes.image_urls import indexed_image_id
from crossmodal.http_shapes.shapes import Limits, ParsedDocument, QueryItem
from crossmodal.http_shapes.values import checked_id, checked_text, plain_json, shown
from crossmodal.images import sniff_mime_type
from crossmodal.records import IMAGE, TEXT, Modality, record_id

__all__ = ["parse_documents", "parse_query"]

_ADDRESS = re.compile(r"(?:blob:)?(?:https?|ftps?|s3|gs)://|file:/", re.IGNORECASE)


def parse_query(item: object, position: int, *, limits: Limits, host: str | None) -> QueryItem:
    """The query at ``data[position]``; raises RequestError where it cannot be answered."""
    name = f"data[{position}]"
    if isinstance(item, str):
        found = _query_from_address(item.strip(), name, uuid4().hex, limits=limits, host=host)
        if found is not None:
            return found
        text = checked_text(item, f"The query {name}", limit=limits.max_characters)
        return QueryItem(uuid4().hex, TEXT, text=text)
    if not isinstance(item, dict):
        raise RequestError(f"{name} is {shown(item)}; it has to be a string or a Document object.")
    item_id = _id_of(item, name) or uuid4().hex
    modality = _modality_of(item, name)
    content, mime_type = _content_of(item, name, limits)
    uri = _uri_of(item, name)
    sentence: object = item.get("text")
    if content is not None and modality != TEXT:
        return QueryItem(item_id, IMAGE, content=content, mime_type=mime_type)
    if modality != IMAGE and isinstance(sentence, str) and (sentence or not uri):
        text = checked_text(sentence, f"The text of {name}", limit=limits.max_characters)
        return QueryItem(item_id, TEXT, text=text, mime_type="text/plain")
    if uri:
        query = _query_from_address(uri, name, item_id, limits=limits, host=host)
        if query is None:
            raise _never_opened(uri, name)
        if modality not in (None, query.modality):
            raise RequestError(f"{name} has modality {modality!r}, but its uri holds {query.modality}.")
        return query
    if modality is not None:
        needed = "photo (blob, or uri with a data URI)" if modality == IMAGE else "text"
        raise RequestError(f"{name} has modality {modality!r} but no {needed}.")
    if sentence is not None:
        checked_text(sentence, f"The text of {name}", limit=limits.max_characters)
    raise RequestError(f"{name} has no text, no blob and no uri: there is nothing to search for.")


def parse_documents(
    item: object, position: int, *, limits: Limits, name: str | None = None, photo: bytes | None = None
) -> list[ParsedDocument]:
    """What ``data[position]`` gives to index: a caption, a photo, or a photo followed by its captions.

    Without an id, a photo gets one from its bytes and a caption one from its text, so that sending
    them again replaces and never duplicates. ``name`` is what errors call the item instead, and ``photo`` its
    bytes where they came beside it. Raises RequestError where the item cannot be indexed.
    """
    name = name or f"data[{position}]"
    if isinstance(item, str):
        item = {"uri": item} if is_data_uri(item) or _ADDRESS.match(item.strip()) else {"text": item}
    if not isinstance(item, dict):
        raise RequestError(f"{name} is {shown(item)}; it has to be a string or a Document object.")
    given_id = _id_of(item, name)
    modality = _modality_of(item, name)
    tags = item.get("tags")
    if tags is not None and not isinstance(tags, dict):
        raise RequestError(f"The tags of {name} are {shown(tags)}; they have to be an object.")
    tags = plain_json(tags or {}, f"The tags of {name}", exact=True)
    content, mime_type = _content_of(item, name, limits) if photo is None else (photo, _sniffed(photo, name))
    captions = list(_captions_of(item, name, limits))
    uri = _uri_of(item, name)
    if uri and is_data_uri(uri):
        decoded = decode_data_uri(uri, max_bytes=limits.max_image_bytes)
        if decoded.mime_type.startswith("text/"):
            captions.append(checked_text(decoded.text(), f"The text of {name}", limit=limits.max_characters))
        elif content is None:
            content, mime_type = decoded.content, _image_type(decoded.mime_type, name)
    elif uri and content is None and not captions:
        raise _never_opened(uri, name)
    elif uri:
        # Kept for the person who sent it, as a tag: a stored path or URL must never look like ours to open.
        tags.setdefault("uri", plain_json(uri, f"The uri of {name}"))
    if content is None and not captions:
        raise RequestError(f"{name} has no text, no blob and no uri: there is nothing to index.")
    if modality == IMAGE and content is None:
        raise RequestError(f"{name} has modality 'image' but no photo (blob, or uri with a data URI).")
    if modality == TEXT and not captions:
        raise RequestError(f"{name} has modality 'text' but no text.")
    photo_id = _optional_id(item, ("photo_id", "photoId"), name)
    if content is None:
        return _captions(captions, given_id, photo_id, tags)
    photo_id = given_id or hashlib.sha256(content).hexdigest()[:20]
    parsed = ParsedDocument(photo_id, IMAGE, content=content, mime_type=mime_type, tags=tags)
    described = [
        ParsedDocument(f"{photo_id}-{number}", TEXT, caption, None, "text/plain", tags, photo_id)
        for number, caption in enumerate(captions)
    ]
    return [parsed, *described]


def _captions(
    captions: list[str], given_id: str | None, photo_id: str | None, tags: Mapping[str, Any]
) -> list[ParsedDocument]:
    documents = []
    for number, caption in enumerate(captions):
        # The photo is part of the derived id: two photos may well have the same caption.
        caption_id = given_id or record_id(f"caption:{photo_id or ''}:{caption}")
        if given_id and len(captions) > 1:
            caption_id = f"{given_id}-{number}"
        documents.append(ParsedDocument(caption_id, TEXT, caption, None, "text/plain", tags, photo_id))
    return documents


def _query_from_address(
    address: str, name: str, item_id: str, *, limits: Limits, host: str | None
) -> QueryItem | None:
    """The query in a data URI or an address of an indexed photo; None for what is neither nor a URL."""
    indexed = indexed_image_id(address, host)
    if indexed is not None:
        return QueryItem(item_id, IMAGE, indexed_id=checked_id(indexed, f"The photo's id in {name}"))
    if is_data_uri(address):
        decoded = decode_data_uri(address, max_bytes=limits.max_image_bytes)
        if decoded.mime_type.startswith("text/"):
            text = checked_text(decoded.text(), f"The text of {name}", limit=limits.max_characters)
            return QueryItem(item_id, TEXT, text=text, mime_type="text/plain")
        mime_type = _image_type(decoded.mime_type, name)
        return QueryItem(item_id, IMAGE, content=decoded.content, mime_type=mime_type)
    if _ADDRESS.match(address):
        raise _never_opened(address, name)
    return None


def _never_opened(address: str, name: str) -> RequestError:
    return RequestError(
        f"{name} names {shown(address)}, and this server never fetches a URL or opens a path for a client; "
        "send the photo itself as a data URI (data:image/jpeg;base64,...)."
    )


def _image_type(mime_type: str, name: str) -> str:
    if not mime_type.startswith("image/"):
        raise RequestError(f"{name} holds {shown(mime_type)}; only images and text can be used.", status=415)
    return mime_type


def _sniffed(photo: bytes, name: str) -> str | None:
    mime_type = sniff_mime_type(photo)
    return _image_type(mime_type, name) if mime_type else None


def _id_of(item: Mapping[str, Any], name: str) -> str | None:
    return _optional_id(item, ("id",), name)


def _optional_id(item: Mapping[str, Any], keys: Iterable[str], name: str) -> str | None:
    for key in keys:
        if item.get(key) not in (None, ""):
            return checked_id(item[key], f"The {key} of {name}")
    return None


def _modality_of(item: Mapping[str, Any], name: str) -> Modality | None:
    value = item.get("modality")
    if value in (None, ""):
        return None
    lowered = value.strip().lower() if isinstance(value, str) else value
    if lowered == "image":
        return IMAGE
    if lowered == "text":
        return TEXT
    raise RequestError(f"The modality of {name} is {shown(value)}; it has to be 'image' or 'text'.")


def _content_of(item: Mapping[str, Any], name: str, limits: Limits) -> tuple[bytes | None, str | None]:
    """The photo's bytes and type in ``blob`` (jina 3) or ``buffer`` (jina 1 and 2), base64 in both."""
    for key in ("blob", "buffer"):
        value = item.get(key)
        if value in (None, ""):
            continue
        if not isinstance(value, str):
            raise RequestError(
                f"The {key} of {name} is {shown(value)}; it has to be the photo's file in base64."
            )
        content = decode_base64(value, f"The {key} of {name}", max_bytes=limits.max_image_bytes)
        declared = item.get("mime_type") or item.get("mimeType")
        mime_type = declared.strip().lower() if isinstance(declared, str) and declared.strip() else None
        if mime_type in (None, "application/octet-stream"):
            mime_type = sniff_mime_type(content)
        return content, _image_type(mime_type, name) if mime_type else None
    return None, None


def _uri_of(item: Mapping[str, Any], name: str) -> str | None:
    # docarray from 0.30 on, which the jina 3 client now comes with, calls it url.
    value = item.get("url") if item.get("uri") in (None, "") else item["uri"]
    if value is None:
        return None
    if not isinstance(value, str):
        raise RequestError(f"The uri of {name} is {shown(value)}; it has to be a string.")
    return value.strip() or None


def _captions_of(item: Mapping[str, Any], name: str, limits: Limits) -> Iterable[str]:
    listed = item.get("captions")
    if listed is not None and not isinstance(listed, list):
        raise RequestError(f"The captions of {name} are {shown(listed)}; they have to be a list of strings.")
    for key, value in [("text", item.get("text")), ("caption", item.get("caption"))]:
        # jina's clients send "" for a field that is not set.
        if value not in (None, ""):
            yield checked_text(value, f"The {key} of {name}", limit=limits.max_characters)
    for number, value in enumerate(listed or ()):
        yield checked_text(value, f"captions[{number}] of {name}", limit=limits.max_characters)
