"""How often a photo of a class finds a sentence of its class first, among those of all classes.

``python -m crossmodal.evaluation.zero_shot MODEL DATA ...`` says so for data sets whose captions name
classes, such as "a photo of a leopard" for each photo of one.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.data_sets import open_data_set
from crossmodal.errors import CrossmodalError, DataError
from crossmodal.evaluation.encoding import encode_records
from crossmodal.records import IMAGE, Failure, Record

__all__ = ["ZeroShot", "zero_shot"]


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Of ``photos``, compared with ``sentences``, the shares right by the ``cosine``, and by it minus hubness
    (``ranked``; None of a model without banks)."""

    photos: int
    sentences: int
    cosine: float
    ranked: float | None


def zero_shot(model: str, records: Iterable[Record | Failure]) -> ZeroShot:
    """The share of photos whose first sentence, of all that ``records`` have, is one of their own captions.

    Each sentence counts once, however many photos it is a caption of. Raises DataError where no photo has a
    caption, ModelError where the model cannot be loaded.
    """
    photos_of: dict[str, set[str]] = defaultdict(set)
    sentence_of: dict[str, str] = {}

    def each_once() -> Iterator[Record | Failure]:
        for record in records:
            if isinstance(record, Failure) or record.modality == IMAGE:
                yield record
            elif record.text and record.photo_id:
                new = record.text not in photos_of
                photos_of[record.text].add(record.photo_id)
                if new:
                    sentence_of[record.id] = record.text
                    yield record

    encoded = encode_records(model, each_once())
    photos, captions = encoded.photos, encoded.captions
    if not photos.ids or not captions.ids:
        raise DataError("There is nothing to measure: no photo has a caption that names its class.")
    cosines = photos.vectors @ captions.vectors.T
    own = [photos_of[sentence_of[caption]] for caption in captions.ids]
    right = np.array([[photo in found for found in own] for photo in photos.ids])

    def share(scores: npt.NDArray[np.float32]) -> float:
        return float(right[np.arange(len(scores)), scores.argmax(axis=1)].mean())

    hubness = captions.hubness
    return ZeroShot(
        photos=len(photos.ids),
        sentences=len(captions.ids),
        cosine=share(cosines),
        ranked=None if hubness is None else share(cosines - hubness),
    )


def _main(model: str, *data: str) -> None:
    for name in data:
        found = zero_shot(model, open_data_set(name, data_root=Path("data")))
        ranked = "" if found.ranked is None else f", {found.ranked:.3f} minus hubness"
        size = f"{found.photos} photos, {found.sentences} sentences"
        print(f"{name}: {found.cosine:.3f} by the cosine{ranked} ({size})")


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except CrossmodalError as error:
        raise SystemExit(str(error)) from error
