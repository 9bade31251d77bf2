"""Documents to index: files with what a form says about them, and lines of JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from crossmodal.errors import FetchError, RequestError
from crossmodal.http_shapes.documents import (
    captions_of,
    checked_image_type,
    id_of,
    records_of,
    tags_of,
)
from crossmodal.http_shapes.photos import (
    decode_data_uri,
    fetched_photo,
    is_data_uri,
    opened_for_clients,
)
from crossmodal.http_shapes.values import plain_json, read_json, shown
from crossmodal.images import sniff_mime_type
from crossmodal.records import Record
from crossmodal.url_photos import FetchedPhotos, is_web_url

__all__ = ["UploadMetadata", "check_keys", "parse_line", "parse_metadata", "parse_upload", "photo_url"]

# Stands for every file in a form's metadata.
_ALL_FILES = "*"

_LINE_KEYS = ("id", "text", "image", "captions", "tags", "photo_id")
_FILE_KEYS = ("id", "tags", "captions")
_ALL_FILES_KEYS = ("tags",)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class UploadMetadata:
    """What a form says about its files: ``files`` by the file's name, and ``tags`` that all of them get."""

    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)


def parse_metadata(raw: bytes) -> UploadMetadata:
    """The metadata in a form's text: ``{"beach.jpg": {"captions": [...]}, "*": {"tags": {...}}}``.

    Raises RequestError, 400 where it isn't JSON and 422 where it is of another shape.
    """
    body = read_json(raw, "The part 'metadata'")
    if not isinstance(body, dict):
        raise RequestError(
            f"The metadata is {shown(body)}; it has to be an object with one object a file, such as "
            '{"beach.jpg": {"captions": ["a beach"]}}.',
            status=422,
        )
    for name, described in body.items():
        place = f"The metadata of {shown(name)}"
        if not isinstance(described, dict):
            raise RequestError(f"{place} is {shown(described)}; it has to be an object.", status=422)
        check_keys(described, _ALL_FILES_KEYS if name == _ALL_FILES else _FILE_KEYS, place)
        tags = described.get("tags")
        if tags is not None and not isinstance(tags, dict):
            raise RequestError(f"{place} has tags that are {shown(tags)}, not an object.", status=422)
    everywhere = body.pop(_ALL_FILES, {})
    return UploadMetadata(body, everywhere.get("tags") or {})


def parse_upload(name: str, content: bytes, source: str, metadata: UploadMetadata) -> list[Record]:
    """The photo in an uploaded file called ``name``, followed by its captions.

    Its name, without folders, becomes the tag ``file`` unless there is one. ``source`` is what errors call
    the file. Raises RequestError where it cannot be indexed; whether it is a photo is for the Flow to say.
    """
    if not content:
        raise RequestError(f"{source} is empty: it holds no bytes.", status=422)
    described = dict(metadata.files.get(name, {}))
    tags = {**metadata.tags, **(described.get("tags") or {})}
    if file_name := _base_name(name):
        tags.setdefault("file", file_name)
    return _documents({**described, "tags": tags}, source, photo=content)


def photo_url(raw: bytes) -> str | None:
    """The URL of the photo to fetch before a line of JSON is parsed, if it has one."""
    try:
        item = read_json(raw)
    except RequestError:
        return None
    image = item.get("image") if isinstance(item, dict) else None
    return image.strip() if isinstance(image, str) and is_web_url(image.strip()) else None


def parse_line(raw: bytes, number: int, fetched: FetchedPhotos | None = None) -> list[Record]:
    """The photo with its captions, or the caption, in line ``number`` of JSON lines.

    ``fetched`` is what came from its ``photo_url``, None where the server fetches nothing. Raises
    RequestError where it cannot be indexed.
    """
    name = f"line {number}"
    item = read_json(raw, f"Line {number}")
    if not isinstance(item, dict):
        raise RequestError(
            f'Line {number} is {shown(item)}; it has to be an object such as {{"text": "a dog"}}.', status=422
        )
    check_keys(item, _LINE_KEYS, f"Line {number}")
    image = item.pop("image", None)
    return _documents(item, name, photo=None if image is None else _photo(image, name, fetched))


def _documents(item: dict[str, Any], name: str, *, photo: bytes | None) -> list[Record]:
    captions = item.get("captions")
    if photo is None and not captions and item.get("text") in (None, ""):
        raise RequestError(f"There is no text and no image in {name}: nothing to index.", status=422)
    mime_type = None if photo is None else sniff_mime_type(photo)
    return records_of(
        id_of(item, name),
        tags=tags_of(item, name),
        photo=photo,
        mime_type=checked_image_type(mime_type, name) if mime_type else None,
        captions=captions_of(item, name),
        photo_id=id_of(item, name, ("photo_id",)),
    )


def _photo(image: object, name: str, fetched: FetchedPhotos | None) -> bytes:
    if not isinstance(image, str):
        raise RequestError(f"The image of {name} is {shown(image)}; it has to be a data URI.", status=422)
    address = image.strip()
    if not is_data_uri(address):
        try:
            photo = fetched_photo(address, fetched)
        except FetchError as error:
            raise RequestError(f"The image of {name}: {error}", status=422) from None
        if photo is not None:
            return photo
        raise RequestError(
            f"The image of {name} is {shown(address)}, and {opened_for_clients(fetched)}; send the photo "
            "itself as a data URI (data:image/jpeg;base64,...).",
            status=422,
        )
    decoded = decode_data_uri(address)
    if not decoded.mime_type.startswith("image/"):
        raise RequestError(
            f"The image of {name} holds {shown(decoded.mime_type)}; only images can be used.", status=415
        )
    return decoded.content


def check_keys(item: Mapping[str, Any], known: Collection[str], place: str) -> None:
    """Raises RequestError, 422, where an object has a key that is not known there."""
    for key in item:
        if key not in known:
            raise RequestError(f"{place} has {shown(key)}; there are {', '.join(known)}.", status=422)


def _base_name(name: str) -> str:
    """The name without folders and control characters, as it can be stored."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = _CONTROL.sub(" ", last).strip()[:255]
    return str(plain_json(cleaned, "The file's name"))
