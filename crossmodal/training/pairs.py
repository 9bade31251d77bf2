"""Photos and captions off a stream of records, decoded once to model inputs on disk; and captions alone."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from crossmodal.errors import DataSetError, ImageError
from crossmodal.home_folder import expanded
from crossmodal.images import decode_image
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.training.content_store import ContentStore

__all__ = [
    "Pairs",
    "collect_pairs",
    "extra_texts",
    "hold_out",
    "input_store",
    "least_share",
    "read_captions",
    "spelling",
]

# Model inputs in memory before they are written: 5 MB at 224 pixels.
_BATCH = 32
_COLUMN = "caption"


@dataclass(frozen=True)
class Pairs:
    """Captions and the photos they describe, both in the order of their ids.

    ``photos`` int64, for each caption the number of its photo; ``digests``, for each photo the SHA-256 of its
    bytes, by which stores of model inputs find it; ``failures``, what could not be read.
    """

    captions: list[str]
    photos: npt.NDArray[np.int64]
    digests: list[bytes]
    failures: list[Failure]

    def groups(self) -> npt.NDArray[np.int64]:
        """For each photo the number of its group, int64 (photos,): photos of the same captions, however they
        are spelled, are in one. Nothing that was written tells them apart."""
        captions: list[set[str]] = [set() for _ in self.digests]
        for caption, photo in zip(self.captions, self.photos, strict=True):
            captions[photo].add(spelling(caption))
        numbers: dict[frozenset[str], int] = {}
        return np.array([numbers.setdefault(frozenset(own), len(numbers)) for own in captions], np.int64)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ where captions, photos or their order do."""
        digest = hashlib.sha256(b"".join(self.digests))
        for caption, photo in zip(self.captions, self.photos, strict=True):
            digest.update(f"{photo} {caption}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def input_store(folder: Path, preprocessing: ImagePreprocessing) -> ContentStore:
    """Model inputs uint8 (size, size, 3) by the SHA-256 of photos' bytes: 150 KB a photo at 224 pixels."""
    size = preprocessing.size
    name = f"{preprocessing.mode}-{size}-{preprocessing.interpolation}"
    return ContentStore(folder / "squares" / name, (size, size, 3), np.uint8)


@dataclass
class _Seen:
    """What a pass over records leaves behind."""

    photos: dict[str, bytes] = field(default_factory=dict)
    captions: list[tuple[str, str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def collect_pairs(
    records: Iterable[Record | Failure],
    stores: Mapping[ImagePreprocessing, ContentStore],
    *,
    progress: Callable[[int], None] = lambda _: None,
    nothing: str = "There is nothing to train on",
) -> Pairs:
    """Run through ``records`` once; every photo gets into each of ``stores``, as its preprocessing crops it.

    Memory holds captions, ids and 32 model inputs a store. Photos without captions and captions without
    photos are left out. ``progress`` gets the number of photos done. Raises DataSetError where nothing is
    left, which begins with ``nothing``.
    """
    seen = _Seen()
    writers = [_Writer(preprocessing, store) for preprocessing, store in stores.items()]
    for record in records:
        if isinstance(record, Failure):
            seen.failures.append(record)
        elif record.modality == IMAGE:
            try:
                digest = _store(record.content or b"", writers)
            except ImageError as error:
                seen.failures.append(Failure(record.uri or record.id, str(error)))
                continue
            seen.photos[record.id] = digest
            progress(len(seen.photos))
        elif record.photo_id is not None and record.text:
            seen.captions.append((record.id, record.photo_id, record.text))
    for writer in writers:
        writer.flush()
    return _pairs(seen, nothing)


def _store(content: bytes, writers: Iterable[_Writer]) -> bytes:
    digest = hashlib.sha256(content).digest()
    missing = [writer for writer in writers if not writer.has(digest)]
    if missing:
        rgb = decode_image(content)
        for writer in missing:
            writer.add(digest, rgb)
    return digest


class _Writer:
    """Model inputs on their way into a store."""

    def __init__(self, preprocessing: ImagePreprocessing, store: ContentStore) -> None:
        self._preprocessing = preprocessing
        self._store = store
        self._waiting: dict[bytes, npt.NDArray[np.uint8]] = {}

    def has(self, digest: bytes) -> bool:
        return digest in self._waiting or digest in self._store

    def add(self, digest: bytes, rgb: npt.NDArray[np.uint8]) -> None:
        self._waiting[digest] = self._preprocessing.crop(rgb)
        if len(self._waiting) == _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._store.add(list(self._waiting), np.stack(list(self._waiting.values())))
            self._waiting.clear()


def _pairs(seen: _Seen, nothing: str) -> Pairs:
    captions = sorted(caption for caption in seen.captions if caption[1] in seen.photos)
    if not captions:
        raise DataSetError(
            f"{nothing}: {len(seen.photos)} photos, {len(seen.captions)} captions, and no caption belongs to "
            "a photo that can be read."
        )
    # By id, as evaluation ranks equal scores.
    captioned = sorted({photo for _, photo, _ in captions})
    numbers = {photo: number for number, photo in enumerate(captioned)}
    return Pairs(
        captions=[text for _, _, text in captions],
        photos=np.array([numbers[photo] for _, photo, _ in captions], np.int64),
        digests=[seen.photos[photo] for photo in captioned],
        failures=seen.failures,
    )


def least_share(records: Iterable[Record | Failure], share: float) -> float:
    """The share nearest to ``share`` with which ``hold_out`` leaves a photo with captions on either side.

    That is ``share`` itself but for a handful of photos, and reading stops where two photos show it. Where
    only one photo has captions no share does.
    """
    places: dict[str, float] = {}
    described: set[str] = set()
    sides: set[bool] = set()
    for record in records:
        if isinstance(record, Failure):
            continue
        photo = record.id if record.modality == IMAGE else record.photo_id or ""
        if record.modality == IMAGE:
            places[photo] = _place(record)
        else:
            described.add(photo)
        if photo in places and photo in described:
            sides.add(places[photo] < share)
            if len(sides) == 2:
                return share
    found = sorted({place for photo, place in places.items() if photo in described})
    if len(found) < 2:
        return share
    # The first one alone is held out, or all but the last one.
    return found[1] if found[0] >= share else found[-1]


def _place(photo: Record) -> float:
    """Where the bytes of a photo put it in [0, 1)."""
    digest = hashlib.sha256(photo.content or b"").digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hold_out(
    records: Iterable[Record | Failure], share: float, *, held_out: bool
) -> Iterator[Record | Failure]:
    """Only the records of photos that are held out, ``share`` of them, or only those that are not.

    A photo's bytes alone decide: photos stay in their part when others are added or the folder is moved, and
    equal photos stay together. Captions go with their photo, before or after which they may come; what
    belongs to no photo is not held out.
    """
    goes: dict[str, bool] = {}
    waiting: dict[str, list[Record]] = {}
    for record in records:
        if isinstance(record, Failure):
            if not held_out:
                yield record
            continue
        photo = record.id if record.modality == IMAGE else record.photo_id or ""
        if record.modality == IMAGE:
            goes[photo] = (_place(record) < share) == held_out
        elif photo not in goes:
            waiting.setdefault(photo, []).append(record)
            continue
        if goes[photo]:
            yield record
            yield from waiting.get(photo, ())
        waiting.pop(photo, None)
    if not held_out:
        for captions in waiting.values():
            yield from captions


def extra_texts(files: Iterable[str], withheld: Iterable[str]) -> list[str]:
    """The captions in ``files``, each once, without those spelled like one of ``withheld``.

    Collections of captions overlap: one that belongs to a dev photo would make the dev results look better
    than they are. Raises DataSetError as ``read_captions`` does, and where nothing is left.
    """
    files = list(files)
    spellings = {spelling(text) for text in withheld}
    found = list(dict.fromkeys(text for path in files for text in read_captions(expanded(path))))
    remaining = [text for text in found if spelling(text) not in spellings]
    if files and not remaining:
        raise DataSetError(f"All {len(found)} captions in {', '.join(files)} belong to dev photos too.")
    return remaining


def spelling(text: str) -> str:
    """``text`` in lower case with everything but letters and digits as single spaces."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def read_captions(path: Path) -> list[str]:
    """The captions in a .txt file, one a line, or in a CSV file's column ``caption``; either may be .gz.

    Raises DataSetError where the file cannot be read or has no captions.
    """
    try:
        with _open(path) as file:
            if path.name.removesuffix(".gz").endswith(".txt"):
                lines = [line.strip() for line in file]
            else:
                table = csv.DictReader(file)
                if _COLUMN not in (table.fieldnames or []):
                    raise DataSetError(f"The caption file {path} has no column {_COLUMN!r}.")
                lines = [(row[_COLUMN] or "").strip() for row in table]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"The caption file {path} cannot be read: {error}.") from error
    captions = list(dict.fromkeys(line for line in lines if line))
    if not captions:
        raise DataSetError(f"The caption file {path} has no captions.")
    return captions


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
        yield text
