"""From upright RGB photos of any size to a model's input, a square of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.images import MAX_PIXELS, Frame, decode_reduced
from crossmodal.images.cropping import Square, cut_square

__all__ = ["OPENAI_MEAN", "OPENAI_STD", "ImagePreprocessing"]

# Of the photos that CLIP was trained on (Radford et al., 2021), which most models still use.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

# How many times as long as in the scaled photo a JPEG's short side stays when it is decoded at a fraction of
# its size. Measured on enlarged and tiled COCO photos, as the least cosine to the whole decode's embedding:
# with 2, 3 and 4 times .99998, .99998 and .99999 for a ViT-B/32 with random weights, and .9992, .9997 and
# .9998 for clip-mini, whose CNN reacts to single steps of grey (.9997 where every fifth value differs by
# one).
_DECODING_MARGIN = 3


@dataclass(frozen=True, slots=True)
class ImagePreprocessing:
    """How a model wants its photos.

    ``crop`` scales the short side to ``size`` and keeps the middle square, so the ends of a wide photo are
    lost. ``squash`` scales the whole frame to ``size`` x ``size``: nothing is lost, but a wide photo is
    compressed sideways, which suits models that were trained on photos treated alike.
    ``mean`` and ``std`` are those of the three channels on the scale [0, 1]. ``short_side`` is set for models
    that see less than the largest square: the short side is scaled to that many pixels, more than ``size``,
    before the middle is cut out.
    """

    size: int
    mode: Literal["crop", "squash"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    short_side: int | None = None

    def __post_init__(self) -> None:
        if self.short_side is not None and (self.mode != "crop" or self.short_side <= self.size):
            raise ModelError(
                f"A photo's short side can be scaled to {self.short_side} pixels only where a smaller square "
                f"is cropped; this is {self.mode} to {self.size}."
            )

    def describe(self) -> str:
        """One canonical line; two preprocessings are the same if and only if these lines are."""
        mean, std = (",".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        size = f"{self.size}" if self.short_side is None else f"{self.size} of {self.short_side}"
        return f"{self.mode} {size} {self.interpolation} mean={mean} std={std}"

    @property
    def decoded_side(self) -> int:
        """The number of pixels that a photo's short side needs, if it has them, to be scaled faithfully."""
        return _DECODING_MARGIN * (self.short_side or self.size)

    @property
    def square(self) -> Square:
        """Which pixels of a photo are the model's input."""
        return Square(self.size, self.mode, self.interpolation, self.short_side)

    def model_input(self, blob: bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
        """The model input of a photo's file, as ``crop`` makes it; raises as ``decode_reduced``."""
        photo = decode_reduced(blob, short_side=self.decoded_side, max_pixels=max_pixels)
        return self.crop(photo.pixels, photo.frame)

    def crop(self, rgb: npt.NDArray[np.uint8], frame: Frame | None = None) -> npt.NDArray[np.uint8]:
        """The model input of a photo: uint8 (H, W, 3) to uint8 (size, size, 3), as ``cut_square`` makes it.

        ``frame`` is the rectangle of ``rgb`` that the photo fills, by default all of it.
        """
        from PIL import Image

        return np.asarray(cut_square(Image.fromarray(rgb), self.square, frame))

    def scale(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """What the network takes, (x / 255 - mean) / std.

        uint8 (N, size, size, 3) to float32 (N, 3, size, size).
        """
        values = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        values /= np.float32(255)
        values -= np.array(self.mean, np.float32)[:, None, None]
        values /= np.array(self.std, np.float32)[:, None, None]
        return values

    def to_json(self) -> dict[str, Any]:
        """The preprocessing as a JSON object."""
        described = {
            "size": self.size,
            "mode": self.mode,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
        }
        return described if self.short_side is None else {**described, "short_side": self.short_side}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImagePreprocessing:
        """The reverse of ``to_json``. Raises ModelError where a value is missing or not known."""
        try:
            mode, interpolation = value["mode"], value["interpolation"]
            if mode not in ("crop", "squash") or interpolation not in ("bicubic", "bilinear"):
                raise ValueError(f"mode {mode!r} or interpolation {interpolation!r} is not known")
            first, second, third = (float(part) for part in value["mean"])
            one, two, three = (float(part) for part in value["std"])
            size = int(value["size"])
            short_side = None if value.get("short_side") is None else int(value["short_side"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"This is not a model's preprocessing: {dict(value)!r} ({error}).") from error
        return cls(size, mode, (first, second, third), (one, two, three), interpolation, short_side)
