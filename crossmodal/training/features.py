"""Features of a frozen CNN, computed once for every photo and several views of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ImageError
from crossmodal.images import decode_image
from crossmodal.models.preprocessing import ImagePreprocessing

if TYPE_CHECKING:
    from crossmodal.models.native.mobilenet import MobileNetEdgeTPU

__all__ = ["FeatureExtractor", "views_of"]

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float16]

# A random view shows this share of the photo's area, at an aspect ratio at most a tenth off the photo's own.
_AREA = (0.6, 0.95)
_ASPECT = (0.9, 1.1)

_BATCH = 32


def views_of(rgb: Pixels, count: int, seed: int) -> list[Pixels]:
    """``count`` views of a photo: itself, its mirror image, then random parts of it, mirrored or not."""
    rng = np.random.default_rng(seed)
    views = [rgb, rgb[:, ::-1]][:count]
    while len(views) < count:
        part = _random_part(rgb, rng)
        views.append(part[:, ::-1] if rng.random() < 0.5 else part)
    return views


def _random_part(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = rgb.shape[:2]
    side, aspect = np.sqrt(rng.uniform(*_AREA)), np.sqrt(rng.uniform(*_ASPECT))
    part_height = max(1, round(height * min(1.0, side / aspect)))
    part_width = max(1, round(width * min(1.0, side * aspect)))
    top, left = rng.integers(height - part_height + 1), rng.integers(width - part_width + 1)
    return rgb[top : top + part_height, left : left + part_width]


class _Photo(NamedTuple):
    """A photo on its way: what is ``known`` of it already, or the squares that the CNN has yet to see."""

    path: Path | None
    known: Features | ImageError | None
    squares: list[Pixels]


class FeatureExtractor:
    """Photos' bytes to features float16 (views, 1280), through a cache folder if there is one.

    A cached photo is found by its content, the CNN's parameters, the preprocessing and the number of views:
    a run that was ended takes up where it was, and a changed photo or CNN is never mistaken.
    """

    def __init__(
        self, cnn: MobileNetEdgeTPU, preprocessing: ImagePreprocessing, views: int, cache: Path | None
    ) -> None:
        import torch

        self._cnn = cnn.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._preprocessing = preprocessing
        self._views = views
        self._cache = cache
        digest = hashlib.sha256(f"{preprocessing.describe()} {views} {_AREA} {_ASPECT}".encode())
        for name, value in sorted(cnn.state_dict().items()):
            digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
        self._kind = digest.hexdigest()[:16]

    def extract(self, photos: Iterable[bytes]) -> Iterator[Features | ImageError]:
        """The features of each photo, in order, or what is wrong with it."""
        batch: list[_Photo] = []
        waiting = 0
        for blob in photos:
            batch.append(photo := self._prepare(blob))
            waiting += len(photo.squares)
            if waiting >= _BATCH or len(batch) >= _BATCH:
                yield from self._flush(batch)
                batch, waiting = [], 0
        yield from self._flush(batch)

    def _prepare(self, blob: bytes) -> _Photo:
        key = hashlib.sha256(blob).hexdigest()
        path = None if self._cache is None else self._cache / self._kind / key[:2] / f"{key}.npy"
        features = None if path is None else self._read(path)
        if features is not None:
            return _Photo(path, features, [])
        try:
            return _Photo(path, None, self._squares(blob, seed=int(key[:16], 16)))
        except ImageError as error:
            return _Photo(path, error, [])

    def _squares(self, blob: bytes, seed: int) -> list[Pixels]:
        rgb = decode_image(blob)
        return [self._preprocessing.crop(view) for view in views_of(rgb, self._views, seed)]

    def _flush(self, batch: list[_Photo]) -> Iterator[Features | ImageError]:
        squares = [square for photo in batch for square in photo.squares]
        computed = self._compute(np.stack(squares)) if squares else np.empty((0, 0), np.float16)
        start = 0
        for photo in batch:
            if photo.known is not None:
                yield photo.known
                continue
            features = computed[start : start + len(photo.squares)]
            start += len(photo.squares)
            if photo.path is not None:
                _save(photo.path, features)
            yield features

    def _compute(self, squares: Pixels) -> Features:
        import torch

        x = torch.from_numpy(self._preprocessing.scale(squares)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            features: Features = self._cnn(x).numpy().astype(np.float16)
        return features

    def _read(self, path: Path) -> Features | None:
        try:
            features = np.load(path)
        except (OSError, ValueError, EOFError):
            return None
        return features if features.shape[:1] == (self._views,) else None


def _save(path: Path, features: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        np.save(file, features)
    Path(temporary).replace(path)
