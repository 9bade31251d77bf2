"""A data set's photos and captions as vectors, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataError
from crossmodal.images import MAX_PIXELS
from crossmodal.models import ImageEncoder, load_image_encoder, load_text_encoder
from crossmodal.models.hubness import Banks
from crossmodal.models.registry import banks_of
from crossmodal.records import IMAGE, TEXT, Failure, Modality, Record, checked_modality

__all__ = ["EncodedSet", "EncodedSide", "encode_batches", "encode_records", "with_hubness"]

# What the encoders take at once; see crossmodal.models.encoders.
_BATCH = 32

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedSide:
    """One modality: ``ids`` ascending, the id of the photo that each belongs to, ``vectors`` (n, dimension).

    The vectors are float32 of unit length, (0, 0) where there are none. ``seconds`` were spent in the
    encoder, decoding and resizing of photos included. ``hubness`` is float32 (n,), None of a model without
    banks.
    """

    ids: tuple[str, ...]
    photos: tuple[str, ...]
    vectors: Vectors
    seconds: float
    hubness: Vectors | None = None

    def rows(self, rows: Sequence[int]) -> EncodedSide:
        """Those in ``rows``, ascending."""
        if len(rows) == len(self.ids):
            return self
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            photos=tuple(self.photos[row] for row in rows),
            vectors=self.vectors[rows],
            hubness=None if self.hubness is None else self.hubness[rows],
        )


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """What ``model`` made of a data set, the records that could not be used, and the model's ``banks``."""

    model: str
    photos: EncodedSide
    captions: EncodedSide
    failures: tuple[Failure, ...]
    banks: Banks | None = None

    def counts(self) -> dict[str, int]:
        """How many ``photos`` and ``captions`` it holds."""
        return {"photos": len(self.photos.ids), "captions": len(self.captions.ids)}


def encode_records(
    model: str,
    records: Iterable[Record | Failure],
    *,
    threads: int | None = None,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int], None] | None = None,
) -> EncodedSet:
    """Encodes photos with ``content`` and captions with ``photo_id``, each modality in batches of 32.

    ``progress`` is called with the number of records that have gone through. Memory holds vectors, not
    photos. ``threads``, ``cache``, ``trust_remote_code`` and ``runtime`` are those of ``load_image_encoder``;
    a photo of more than ``max_pixels`` is a failure.
    Raises ModelError where the model cannot be loaded.
    """
    failures: list[Failure] = []
    encoded = encode_batches(
        model,
        _by_modality(records, failures),
        threads=threads,
        cache=cache,
        trust_remote_code=trust_remote_code,
        runtime=runtime,
        max_pixels=max_pixels,
        progress=progress,
    )
    return replace(encoded, failures=(*failures, *encoded.failures))


def encode_batches(
    model: str,
    batches: Iterable[Sequence[Record]],
    *,
    threads: int | None = None,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int], None] | None = None,
) -> EncodedSet:
    """The same for batches of one modality each, which go through the encoder as they are.

    A vector depends, in its last bits, on what it is encoded together with: equal batches give equal vectors.
    """
    loading: dict[str, Any] = {
        "threads": threads,
        "cache": cache,
        "trust_remote_code": trust_remote_code,
        "runtime": runtime,
    }
    images = load_image_encoder(model, **loading)
    photos = _photo_side(images, max_pixels)
    captions = _Side(_caption, load_text_encoder(model, **loading).encode)
    done = 0
    for batch in batches:
        (photos if batch[0].modality == IMAGE else captions).add(batch)
        done += len(batch)
        if progress is not None:
            progress(done)
    banks = banks_of(images.identity)
    return EncodedSet(
        model,
        with_hubness(photos.encoded(), banks, IMAGE),
        with_hubness(captions.encoded(), banks, TEXT),
        (*photos.failures, *captions.failures),
        banks,
    )


def with_hubness(side: EncodedSide, banks: Banks | None, modality: Modality) -> EncodedSide:
    """The same side with the hubness of its vectors."""
    if banks is None or not side.ids:
        return replace(side, hubness=None)
    return replace(side, hubness=banks.hubness(side.vectors, modality))


@dataclass(slots=True)
class _Side:
    """One modality while it is being encoded."""

    prepare: Callable[[Record], Any]
    encode: Callable[[list[Any]], Vectors]
    ids: list[str] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, records: Sequence[Record]) -> None:
        """Encodes those of one batch that can be used, together."""
        started = time.perf_counter()
        inputs: list[Any] = []
        for record in records:
            try:
                inputs.append(self.prepare(record))
            except DataError as error:
                self.failures.append(Failure(record.uri or record.id, str(error)))
                continue
            self.ids.append(record.id)
            self.photos.append(record.photo_id or record.id)
        if inputs:
            self.vectors.append(self.encode(inputs))
        self.seconds += time.perf_counter() - started

    def encoded(self) -> EncodedSide:
        """All of it, in the order of ids, which is what ties are ranked by."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return EncodedSide(
            tuple(self.ids[row] for row in order),
            tuple(self.photos[row] for row in order),
            np.concatenate(self.vectors)[order] if order else np.empty((0, 0), np.float32),
            self.seconds,
        )


def _photo_side(encoder: ImageEncoder, max_pixels: int) -> _Side:
    def square(record: Record) -> npt.NDArray[np.uint8]:
        if record.content is None:
            raise DataError("The photo's bytes are not there.")
        return encoder.preprocessing.model_input(record.content, max_pixels=max_pixels)

    return _Side(square, lambda inputs: encoder.encode(np.stack(inputs)))


def _caption(record: Record) -> str:
    text = record.text or ""
    if not text.strip():
        raise DataError("The caption is empty.")
    return text


def _by_modality(records: Iterable[Record | Failure], failures: list[Failure]) -> Iterator[list[Record]]:
    waiting: dict[str, list[Record]] = {}
    for record in records:
        if isinstance(record, Failure):
            failures.append(record)
            continue
        modality = checked_modality(record.modality, f"The record {record.id}")
        batch = waiting.setdefault(modality, [])
        batch.append(record)
        if len(batch) == _BATCH:
            yield waiting.pop(modality)
    yield from waiting.values()
