"""Random changes of photos, so that a network doesn't learn the pixels by heart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.training.config import Augmentation

__all__ = ["augmented", "plain", "views_of"]

Pixels = npt.NDArray[np.uint8]

# ITU-R BT.601, as JPEG has it.
_LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
_GREY = 128
_ERASED = Augmentation(scale=(0.05, 0.2), aspect=(0.5, 2.0))


def plain(inputs: Pixels, preprocessing: ImagePreprocessing) -> Tensor:
    """Squares uint8 (N, size, size, 3) as ``preprocessing.scale`` makes them, in channels-last layout."""
    return _scaled(torch.from_numpy(inputs).permute(0, 3, 1, 2), preprocessing)


def augmented(
    inputs: Pixels,
    augmentation: Augmentation,
    preprocessing: ImagePreprocessing,
    rng: np.random.Generator,
    size: int | None = None,
) -> Tensor:
    """Each of the inputs uint8 (N, side, side, 3) changed at random: float32 (N, 3, size, size).

    ``size`` is that of the inputs unless it is given.

    Parts are scaled bilinearly with antialiasing. Brightness and contrast may take values out of [0, 1]: they
    aren't clipped.
    """
    photos = torch.from_numpy(inputs).permute(0, 3, 1, 2)
    shape = (size, size) if size else photos.shape[2:]
    changed = torch.empty((*photos.shape[:2], *shape), dtype=torch.uint8)
    for row, photo in enumerate(photos):
        part = _random_part(photo, augmentation, rng)
        changed[row] = F.interpolate(part[None], shape, mode="bilinear", antialias=True)[0]
        if augmentation.flip and rng.random() < 0.5:
            changed[row] = changed[row].flip(2)
    _change_colours(changed, augmentation, rng)
    contrast = 1 + rng.uniform(-augmentation.contrast, augmentation.contrast, len(photos))
    brightness = rng.uniform(-augmentation.brightness, augmentation.brightness, len(photos))
    return _scaled(changed, preprocessing, contrast, brightness)


def _change_colours(photos: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> None:
    """Weaker or stronger colours, none, or a grey part, in place, for photos uint8 (N, 3, side, side)."""
    if augmentation.colour or augmentation.grey:
        strength = 1 + rng.uniform(-augmentation.colour, augmentation.colour, len(photos))
        strength[rng.random(len(photos)) < augmentation.grey] = 0
        for photo, factor in zip(photos, strength, strict=True):
            grey = (photo.float() * _LUMA).sum(dim=0)
            photo.copy_(torch.lerp(grey, photo.float(), float(factor)).clamp_(0, 255))
    for photo in photos:
        if augmentation.erase and rng.random() < augmentation.erase:
            _random_part(photo, _ERASED, rng).fill_(_GREY)


def views_of(
    model_input: Pixels, count: int, augmentation: Augmentation, preprocessing: ImagePreprocessing, seed: int
) -> Tensor:
    """``count`` views of a model input uint8 (size, size, 3): itself, its mirror image (where photos may be
    mirrored), then augmented ones: float32 (count, 3, size, size)."""
    certain = (
        [model_input, np.ascontiguousarray(model_input[:, ::-1])] if augmentation.flip else [model_input]
    )
    views = plain(np.stack(certain[:count]), preprocessing)
    if count <= len(certain):
        return views
    repeated = np.repeat(model_input[None], count - len(certain), axis=0)
    random = augmented(repeated, augmentation, preprocessing, np.random.default_rng(seed))
    return torch.cat([views, random])


def _random_part(photo: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """A part (3, height, width) of a photo (3, side, side), at least a pixel each way."""
    side = photo.shape[1]
    length = np.sqrt(rng.uniform(*augmentation.scale))
    stretch = np.sqrt(np.exp(rng.uniform(*np.log(augmentation.aspect))))
    height = min(side, max(1, round(side * length / stretch)))
    width = min(side, max(1, round(side * length * stretch)))
    top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
    return photo[:, top : top + height, left : left + width]


def _scaled(
    photos: Tensor,
    preprocessing: ImagePreprocessing,
    contrast: Sequence[float] | npt.NDArray[np.float64] = (1.0,),
    brightness: Sequence[float] | npt.NDArray[np.float64] = (0.0,),
) -> Tensor:
    """(value - mean) / std with value = (x / 255 - 1/2) * contrast + 1/2 + brightness, in one product and
    sum.
    """
    by_photo, shift = (torch.as_tensor(values)[:, None, None, None] for values in (contrast, brightness))
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    factor = by_photo / (255 * std)
    summand = ((1 - by_photo) / 2 + shift - mean) / std
    return photos.float().mul_(factor.float()).add_(summand.float())
