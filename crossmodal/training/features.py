"""What towers start from: features of a frozen trunk, or pixels and tokens for a trained one."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.training.augmentation import augmented, plain, views_of
from crossmodal.training.config import Augmentation
from crossmodal.training.content_store import ContentStore
from crossmodal.training.trainable.base import Trainable

__all__ = [
    "FeatureInput",
    "ImageInput",
    "PixelInput",
    "TextInput",
    "Tokens",
    "cached_features",
    "text_features",
]

# Photos, and texts, that go through a frozen trunk at once.
_BATCH = 32
_TEXTS = 1024

Tokens = Sequence[Sequence[int]]


class ImageInput(ABC):
    """A source of photos by their number, as a tower's trunk or head takes them."""

    @abstractmethod
    def take(self, photos: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Tensor:
        """One row for each photo, float32; a random view of it with ``rng``, the photo itself without."""

    @abstractmethod
    def encode(self, model: Trainable, rows: Tensor) -> Tensor:
        """Rows as ``take`` gives them, on the model's device, to unit vectors (N, dimension)."""


class FeatureInput(ImageInput):
    """Features of a frozen trunk; only the head has yet to see them."""

    def __init__(self, store: ContentStore, digests: Sequence[bytes]) -> None:
        self._features: npt.NDArray[np.float16] = store.rows()
        self._rows = store.numbers(digests)

    def take(self, photos: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Tensor:
        views = np.zeros(len(photos), np.int64)
        if rng is not None:
            views = rng.integers(self._features.shape[1], size=len(photos))
        return torch.from_numpy(self._features[self._rows[photos], views]).float()

    def encode(self, model: Trainable, rows: Tensor) -> Tensor:
        return model.images(rows)


class PixelInput(ImageInput):
    """Model inputs for a trunk that is being trained, with a new augmentation each time."""

    def __init__(
        self,
        store: ContentStore,
        digests: Sequence[bytes],
        model: Trainable,
        augmentation: Augmentation,
        size: int | None,
    ) -> None:
        self._inputs: npt.NDArray[np.uint8] = store.rows()
        self._rows = store.numbers(digests)
        self._preprocessing = model.preprocessing
        self._augmentation = augmentation
        self._size = size

    def take(self, photos: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Tensor:
        inputs = self._inputs[self._rows[photos]]
        if rng is None:
            return plain(inputs, self._preprocessing)
        return augmented(inputs, self._augmentation, self._preprocessing, rng, self._size)

    def encode(self, model: Trainable, rows: Tensor) -> Tensor:
        return model.images(model.features(rows))


@dataclass(frozen=True)
class TextInput:
    """Texts by their number: ``rows`` are their tokens, or features (texts, length) of a frozen trunk.

    ``encode`` makes unit vectors (N, dimension) of rows as ``take`` gives them.
    """

    rows: Tokens | Tensor
    encode: Callable[[Any], Tensor]

    @classmethod
    def of(
        cls,
        model: Trainable,
        texts: Sequence[str],
        *,
        frozen: bool,
        bfloat16: bool,
        progress: Callable[[int, int], None],
    ) -> TextInput:
        """Texts for a trunk that is ``frozen`` or trained; ``progress`` gets texts done and to be done."""
        parts = model.text_parts() if frozen else None
        if parts is None:
            return cls(model.tokenize(texts), model.texts)
        head, device = parts.head, next(model.parameters()).device
        model.eval()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            features = text_features(model, parts.trunk, texts, progress)
        return cls(features.float().cpu(), lambda rows: head(rows.to(device)))

    def lengths(self) -> npt.NDArray[np.int64]:
        """How long each text's row is: int64 (texts,)."""
        return np.array([len(row) for row in self.rows], np.int64)

    def take(self, texts: npt.NDArray[np.int64]) -> Tokens | Tensor:
        """The rows of the texts with these numbers."""
        if isinstance(self.rows, Tensor):
            return self.rows[torch.from_numpy(texts)]
        return [self.rows[number] for number in texts]


def text_features(
    model: Trainable,
    trunk: Callable[[Tokens], Tensor],
    texts: Sequence[str],
    progress: Callable[[int, int], None],
) -> Tensor:
    """What ``trunk``, the text trunk of ``model`` as it is, makes of ``texts``: (texts, length)."""
    tokens, parts = model.tokenize(texts), []
    for start in range(0, len(tokens), _TEXTS):
        progress(start, len(tokens))
        with torch.no_grad():
            parts.append(trunk(tokens[start : start + _TEXTS]))
    return torch.cat(parts)


def cached_features(
    model: Trainable,
    inputs: ContentStore,
    digests: Sequence[bytes],
    *,
    views: int,
    augmentation: Augmentation,
    folder: Path,
    bfloat16: bool,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ContentStore:
    """The image trunk's features float16 (views, length) of each photo, computed where they aren't known yet.

    The store's name says what they depend on beside the photo (the trunk's layers and parameters, the
    preprocessing, views and precision), so that a run that was ended takes up where it was and a changed
    trunk is never mistaken. ``progress`` gets photos done and to be done.
    """
    device = next(model.parameters()).device
    rows = inputs.rows()
    with torch.inference_mode():
        length = model.features(plain(rows[:1].copy(), model.preprocessing).to(device)).shape[1]
    name = _kind(model, views, augmentation, bfloat16)
    store = ContentStore(folder / "features" / name, (views, length), np.float16)
    missing = [digest for digest in dict.fromkeys(digests) if digest not in store]
    each = max(1, _BATCH // views)
    for start in range(0, len(missing), each):
        batch = missing[start : start + each]
        pixels = torch.cat(
            [
                views_of(rows[number], views, augmentation, model.preprocessing, int.from_bytes(digest[:8]))
                for number, digest in zip(inputs.numbers(batch), batch, strict=True)
            ]
        )
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            features = model.features(pixels.to(device)).float().cpu().numpy()
        store.add(batch, features.reshape(len(batch), views, -1).astype(np.float16))
        progress(start + len(batch), len(missing))
    return store


def _kind(model: Trainable, views: int, augmentation: Augmentation, bfloat16: bool) -> str:
    """A name for all that features depend on beside the photo."""
    # The layers too: the same weights may stand in a network with another activation.
    digest = hashlib.sha256(repr(model.image_trunk()).encode())
    for name, value in sorted(model.image_trunk().state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    described: dict[str, Any] = {
        "preprocessing": model.preprocessing.describe(),
        "views": views,
        "flip": augmentation.flip,
        "bfloat16": bfloat16,
    }
    if views > 2 - (not augmentation.flip):
        described["augmentation"] = asdict(augmentation)
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()[:16]
