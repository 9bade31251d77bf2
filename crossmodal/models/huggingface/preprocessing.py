"""``preprocessor_config.json`` to how a model wants its photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from crossmodal.errors import ModelError
from crossmodal.models.preprocessing import OPENAI_MEAN, OPENAI_STD, ImagePreprocessing

__all__ = ["read_preprocessing"]

# PIL's numbers, which these files hold.
_RESAMPLING: dict[Any, Literal["bilinear", "bicubic"]] = {
    2: "bilinear",
    3: "bicubic",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
_RESCALE = 1 / 255
_HALF = (0.5, 0.5, 0.5)


def read_preprocessing(path: Path) -> ImagePreprocessing:
    """The preprocessing that the file at ``path`` describes; code that it names is never executed.

    Supported are the processors of transformers for CLIP and SigLIP, and jina-clip's. Raises ModelError
    where the file cannot be read or describes another one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it is not an object")
        return _from_open_clip(values) if "resize_mode" in values else _from_transformers(values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"The model's preprocessing {path} cannot be used: {error}.") from error


def _from_open_clip(values: dict[str, Any]) -> ImagePreprocessing:
    """The words of open_clip, which jina-clip uses."""
    modes: dict[str, Literal["crop", "squash"]] = {"shortest": "crop", "squash": "squash"}
    if values["resize_mode"] not in modes:
        raise ValueError(f"resize_mode {values['resize_mode']!r} is not supported")
    return ImagePreprocessing(
        size=_side(values["size"]),
        mode=modes[values["resize_mode"]],
        mean=_triple(values.get("mean", OPENAI_MEAN)),
        std=_triple(values.get("std", OPENAI_STD)),
        interpolation=_interpolation(values.get("interpolation", "bicubic")),
    )


def _from_transformers(values: dict[str, Any]) -> ImagePreprocessing:
    """The words of ``CLIPImageProcessor`` and ``SiglipImageProcessor``."""
    kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    siglip = kind.lower().startswith("siglip")
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if values.get(step, True) is False:
            raise ValueError(f"{step} is false, and a photo has to be resized, rescaled and normalised")
    if values.get("do_pad") is True:
        raise ValueError("do_pad is true, and padded photos are not supported")
    if abs(float(values.get("rescale_factor", _RESCALE)) - _RESCALE) > 1e-6:
        raise ValueError(f"rescale_factor is {values['rescale_factor']}, not 1/255")
    size = values.get("size", 224)
    crops = bool(values.get("do_center_crop", not siglip))
    shortest = size.get("shortest_edge") if isinstance(size, dict) else (None if siglip else size)
    mean, std = (_HALF, _HALF) if siglip else (OPENAI_MEAN, OPENAI_STD)
    mode: Literal["crop", "squash"] = "squash"
    side, short_side = 0, None
    if shortest is not None:
        if not crops:
            raise ValueError("do_center_crop is false, and photos that stay oblong are not supported")
        mode, side = "crop", _side(values.get("crop_size", shortest))
        short_side = None if int(shortest) == side else int(shortest)
    else:
        side = _side(size)
        if crops and _side(values.get("crop_size", side)) != side:
            raise ValueError(f"a square of {side} pixels is cropped to {values['crop_size']}")
    return ImagePreprocessing(
        size=side,
        mode=mode,
        mean=_triple(values.get("image_mean", mean)),
        std=_triple(values.get("image_std", std)),
        interpolation=_interpolation(values.get("resample", 3)),
        short_side=short_side,
    )


def _side(size: Any) -> int:
    if isinstance(size, dict):
        height, width = size["height"], size["width"]
        if height != width:
            raise ValueError(f"a photo of {width} x {height} pixels is wanted; only squares are supported")
        return int(height)
    if isinstance(size, list):
        if len(set(size)) != 1:
            raise ValueError(f"a photo of {size} pixels is wanted; only squares are supported")
        return int(size[0])
    return int(size)


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _interpolation(value: Any) -> Literal["bilinear", "bicubic"]:
    if value not in _RESAMPLING:
        raise ValueError(f"photos are resampled by {value!r}; bilinear (2) and bicubic (3) are supported")
    return _RESAMPLING[value]
