"""How well a model retrieves, measured with its encoders and an exact ranking in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataError, DataSetError, ImageError
from crossmodal.evaluation.metrics import TIE_RULE, Ranks, ranks_of_relevant, summarize
from crossmodal.images import decode_image
from crossmodal.models import ImageEncoder, load_image_encoder, load_text_encoder
from crossmodal.records import IMAGE, Failure, Record

__all__ = ["DIRECTIONS", "Direction", "evaluate"]

Direction = Literal["text2image", "image2text", "both"]
DIRECTIONS: tuple[Direction, ...] = ("text2image", "image2text", "both")

_BATCH = 32

Vectors = npt.NDArray[np.float32]


@dataclass(slots=True)
class _Side:
    """One modality of the gallery: ids, the photo each belongs to, and vectors."""

    ids: list[str] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)

    def sorted(self) -> tuple[list[str], Vectors]:
        """Photos and vectors in the order of ids, which is what ties are ranked by."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return [self.photos[row] for row in order], np.concatenate(self.vectors)[order]


def evaluate(
    model: str,
    records: Iterable[Record | Failure],
    *,
    direction: Direction = "both",
    threads: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Retrieve each caption's photo among all photos and each photo's captions among all captions.

    ``records`` holds photos with ``content`` and captions with ``photo_id``; relevance goes by that id.
    Photos and captions without a counterpart stay in the gallery and are no queries. ``progress`` is called
    with the number of records that have been encoded.

    Returns, ready for JSON, the metrics of ``metrics.summarize`` under ``text2image`` and ``image2text``;
    under ``gallery`` and ``queries`` how many there were in each direction; ``model``; ``tie_rule``; and
    ``failures``, the records that could not be used.

    Raises ModelError where the model cannot be loaded, DataSetError where no caption belongs to any photo.
    """
    images = load_image_encoder(model, threads=threads, cache=cache)
    texts = load_text_encoder(model, threads=threads, cache=cache)
    photos, captions, failures = _Side(), _Side(), list[Failure]()
    encoded = 0
    for batch in _batches(records, failures):
        of_photos = [record for record in batch if record.modality == IMAGE]
        of_captions = [record for record in batch if record.modality != IMAGE]
        _add_photos(photos, of_photos, images, failures)
        _add(captions, of_captions, texts.encode([record.text or "" for record in of_captions]))
        encoded += len(batch)
        if progress is not None:
            progress(encoded)
    if not set(photos.photos) & set(captions.photos):
        raise DataSetError(
            f"There is nothing to evaluate: of {len(captions.ids)} captions none belongs to one of the "
            f"{len(photos.ids)} photos."
        )
    return {
        "model": model,
        **_retrieve(photos, captions, direction),
        "tie_rule": TIE_RULE,
        "failures": [{"source": failure.source, "reason": failure.reason} for failure in failures],
    }


def _retrieve(photos: _Side, captions: _Side, direction: Direction) -> dict[str, Any]:
    photo_ids, photo_vectors = photos.sorted()
    caption_photos, caption_vectors = captions.sorted()
    results: dict[str, Any] = {}
    galleries: dict[str, int] = {}
    queries: dict[str, int] = {}
    if direction in ("text2image", "both"):
        ranks = ranks_of_relevant(caption_vectors, photo_vectors, caption_photos, photo_ids)
        results["text2image"] = summarize(ranks)
        galleries["text2image"], queries["text2image"] = len(photo_ids), _answerable(ranks)
    if direction in ("image2text", "both"):
        ranks = ranks_of_relevant(photo_vectors, caption_vectors, photo_ids, caption_photos)
        results["image2text"] = summarize(ranks)
        galleries["image2text"], queries["image2text"] = (
            len(caption_photos),
            sum(len(row) > 0 for row in ranks),
        )
    return {**results, "gallery": galleries, "queries": queries}


def _answerable(ranks: Sequence[Ranks]) -> int:
    return sum(len(row) > 0 for row in ranks)


def _batches(records: Iterable[Record | Failure], failures: list[Failure]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        if isinstance(record, Failure):
            failures.append(record)
            continue
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _add_photos(
    side: _Side, records: Sequence[Record], encoder: ImageEncoder, failures: list[Failure]
) -> None:
    preprocessing = encoder.preprocessing
    usable: list[Record] = []
    squares: list[npt.NDArray[np.uint8]] = []
    for record in records:
        try:
            if record.content is None:
                raise DataError("The photo's bytes are not there.")
            squares.append(preprocessing.crop(decode_image(record.content)))
            usable.append(record)
        except (ImageError, DataError) as error:
            failures.append(Failure(record.uri or record.id, str(error)))
    if usable:
        _add(side, usable, encoder.encode(np.stack(squares)))


def _add(side: _Side, records: Sequence[Record], vectors: Vectors) -> None:
    side.ids.extend(record.id for record in records)
    side.photos.extend(record.photo_id or record.id for record in records)
    side.vectors.append(vectors)
