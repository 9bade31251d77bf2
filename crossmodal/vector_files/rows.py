"""What a row beside a vector says: the photo or the caption that it is of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmodal.data_sets.described import CAPTIONS, PLACES, cell_text, further_tags
from crossmodal.errors import DataError
from crossmodal.records import IMAGE, TEXT, Failure, Record, caption_id, photo_id, record_id

__all__ = ["Batch", "Embedded", "embedded", "embedded_rows"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Batch(NamedTuple):
    """Rows of one file from number ``first`` on, and their vectors of photos and of captions."""

    where: str
    first: int
    rows: Sequence[Mapping[str, Any]]
    image: Sequence[NDArray[Any] | None]
    text: Sequence[NDArray[Any] | None]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A hashed photo or caption and its vector as the file has it; a caption may have none.

    The content hash goes by the vector too, so that another one is a change.
    """

    record: Record
    vector: NDArray[Any] | None


def embedded_rows(batch: Batch) -> Iterator[Embedded | Failure]:
    """The photo and the caption of each row, and a failure for one that says neither."""
    for number, (row, image, text) in enumerate(
        zip(batch.rows, batch.image, batch.text, strict=True), batch.first
    ):
        try:
            yield from _of_row(row, image, text)
        except DataError as error:
            yield Failure(f"{batch.where}, row {number:,}", str(error))


def _of_row(
    row: Mapping[str, Any], image: NDArray[Any] | None, text: NDArray[Any] | None
) -> Iterator[Embedded]:
    caption = next((said for name in CAPTIONS if (said := cell_text(row, name))), None)
    if image is None and text is None:
        status = cell_text(row, "status")
        raise DataError("it has no vector" + (f" (its status is {status})" if status else ""))
    if image is not None:
        photo = _photo(row)
        yield embedded(photo, image)
        if caption is not None:
            yield embedded(_caption(row, caption, photo.id, photo.uri), text)
        return
    if caption is None:
        raise DataError("it has the vector of a caption and no caption")
    described = cell_text(row, "photo_id") or (_photo(row).id if _place(row) else None)
    yield embedded(_caption(row, caption, described, None), text)


def _photo(row: Mapping[str, Any]) -> Record:
    digest, place = cell_text(row, "sha256"), _place(row)
    if digest is not None and not _SHA256.fullmatch(digest):
        digest = None
    id = cell_text(row, "id")
    if id is None:
        if place is None and digest is None:
            raise DataError(f"it says nothing of its photo: none of the columns id, {', '.join(PLACES)}")
        id = record_id(place) if place is not None else photo_id(digest or "")
    return Record(
        id=id,
        modality=IMAGE,
        uri=_shown(place),
        mime_type=cell_text(row, "mime_type"),
        tags={**further_tags(row), **_object(row, "tags")},
        metadata=_object(row, "metadata"),
        digest=digest,
        photo_id=cell_text(row, "photo_id"),
    )


def _caption(row: Mapping[str, Any], caption: str, photo: str | None, uri: str | None) -> Record:
    is_row = row.get("modality") == TEXT
    id = cell_text(row, "id") if is_row or photo is None else None
    if id is None:
        id = record_id(caption) if photo is None else caption_id(photo, caption)
    tags = _object(row, "tags") if is_row else {}
    return Record(id=id, modality=TEXT, text=caption, photo_id=photo, uri=uri, tags=tags)


def embedded(record: Record, vector: NDArray[Any] | None) -> Embedded:
    """A record with its vector, hashed with both."""
    hashed = record.hashed()
    if vector is not None:
        said = hashed.content_hash.encode() + np.ascontiguousarray(vector).tobytes()
        hashed = replace(hashed, content_hash=hashlib.sha256(said).hexdigest()[:32])
    return Embedded(hashed, vector)


def _place(row: Mapping[str, Any]) -> str | None:
    return next((place for name in PLACES if (place := cell_text(row, name))), None)


def _shown(place: str | None) -> str | None:
    """A URL as it is, and of a path on whichever machine no folders."""
    return place if place is None or "://" in place else place.rpartition("/")[2]


def _object(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    said = cell_text(row, name)
    if said is None:
        return {}
    try:
        value = json.loads(said)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DataError(f"its {name} are no JSON object: {said[:60]!r}")
    return value
