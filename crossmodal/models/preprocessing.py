"""From upright RGB photos of any size to the square that a model sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError

__all__ = ["ImagePreprocessing"]

# Photos up to this times as long as short are scaled as a whole before the middle is cut out.
_SCALED_WHOLE = 4


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

    def crop(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The square that the model sees: uint8 (H, W, 3) to uint8 (size, size, 3).

        Bit by bit what torchvision's ``Resize`` (with antialiasing, as PIL has it) and ``CenterCrop`` make.
        Of photos that are longer than four times their short side only the middle is ever scaled: by the
        reference's way one of 20,000 x 1 pixels would grow to 4,480,000 x 224. Values then differ by up to 2.
        """
        from PIL import Image

        resample = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        image = Image.fromarray(rgb)
        if self.mode == "squash":
            return np.asarray(image.resize((self.size, self.size), resample))
        short, long = sorted(image.size)
        # Scaled sides are cut to whole pixels and margins rounded, half to even, as torchvision does it.
        scaled = self.short_side or self.size
        width, height = (scaled * side // short for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        square = (left, top, left + self.size, top + self.size)
        if long <= _SCALED_WHOLE * short:
            return np.asarray(image.resize((width, height), resample).crop(square))
        x, y = image.width / width, image.height / height
        box = (square[0] * x, square[1] * y, square[2] * x, square[3] * y)
        return np.asarray(image.resize((self.size, self.size), resample, box=box))

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
