"""Photos' features and their captions, as the training loop takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataSetError, ImageError
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.training.features import FeatureExtractor

__all__ = ["Pairs", "collect_pairs", "hold_out"]


@dataclass(frozen=True)
class Pairs:
    """Captions and the photos they describe.

    ``features`` float16 (photos, views, 1280); ``captions``; ``photos`` int64, for each caption the row of
    its photo; ``failures``, photos that could not be read.
    """

    features: npt.NDArray[np.float16]
    captions: list[str]
    photos: npt.NDArray[np.int64]
    failures: list[Failure]


@dataclass
class _Seen:
    """What a pass over records leaves behind."""

    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    captions: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def contents(self, records: Iterable[Record | Failure]) -> Iterator[bytes]:
        """The bytes of the photos; ids and captions are noted in passing."""
        for record in records:
            if isinstance(record, Failure):
                self.failures.append(record)
            elif record.modality == IMAGE:
                self.ids.append(record.id)
                self.sources.append(record.uri or record.id)
                yield record.content or b""
            elif record.photo_id is not None and record.text:
                self.captions.append((record.photo_id, record.text))


def collect_pairs(
    records: Iterable[Record | Failure], extractor: FeatureExtractor, *, progress: Callable[[int], None]
) -> Pairs:
    """Run through ``records`` once, keeping features and captions and never the photos themselves.

    Photos without captions and captions without photos are left out. ``progress`` gets the number of photos
    done. Raises DataSetError where nothing is left.
    """
    seen = _Seen()
    rows: dict[str, int] = {}
    features: list[npt.NDArray[np.float16]] = []
    for number, result in enumerate(extractor.extract(seen.contents(records))):
        if isinstance(result, ImageError):
            seen.failures.append(Failure(seen.sources[number], str(result)))
        else:
            rows[seen.ids[number]] = len(features)
            features.append(result)
        progress(number + 1)
    captions = [(rows[photo], text) for photo, text in seen.captions if photo in rows]
    if not captions:
        raise DataSetError(
            f"There is nothing to train on: {len(seen.ids)} photos, {len(seen.captions)} captions, and no "
            "caption belongs to a photo that can be read."
        )
    captioned = sorted({row for row, _ in captions})
    renumbered = {row: number for number, row in enumerate(captioned)}
    return Pairs(
        features=np.stack([features[row] for row in captioned]),
        captions=[text for _, text in captions],
        photos=np.array([renumbered[row] for row, _ in captions], np.int64),
        failures=seen.failures,
    )


def hold_out(
    records: Iterable[Record | Failure], share: float, *, held_out: bool
) -> Iterator[Record | Failure]:
    """Only the records of photos that are held out, ``share`` of them, or only those that are not.

    A photo's id alone decides, so that photos stay where they are when others are added.
    """
    for record in records:
        if isinstance(record, Failure):
            if not held_out:
                yield record
            continue
        photo = record.id if record.modality == IMAGE else record.photo_id or record.id
        position = int.from_bytes(hashlib.sha256(photo.encode()).digest()[:8], "big") / 2**64
        if (position < share) == held_out:
            yield record
