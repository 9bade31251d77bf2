"""A ``model_best.pth.tar`` of the original VSE++: two state dicts and the options it was trained with."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError

__all__ = ["VseppCheckpoint", "read_checkpoint"]


@dataclass(frozen=True)
class VseppCheckpoint:
    """``image`` and ``text`` are the towers' weights, tensors by name.

    ``cnn`` is torchvision's name of the photo's network; the vocabulary file is called after ``data_set``.
    """

    image: Mapping[str, Any]
    text: Mapping[str, Any]
    cnn: str
    data_set: str
    absolute: bool
    words: int
    dimension: int


def read_checkpoint(path: Path) -> VseppCheckpoint:
    """Read a checkpoint without running code from it.

    Raises ModelError where it is damaged or another file, and for models whose similarity is not a cosine
    or whose photos' features come from elsewhere, which cannot be searched here.
    """
    import torch

    try:
        # The options are an argparse.Namespace, which only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
        image, text = found["model"]
        options = vars(found["opt"])
        words, _ = text["embed.weight"].shape
        dimension = int(text["rnn.weight_hh_l0"].shape[1])
        cnn = str(options.get("cnn_type", "vgg19"))
        data_set = str(options.get("data_name", ""))
        absolute = bool(options.get("use_abs", False))
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(f"{path} is not a VSE++ checkpoint that can be read: {reason}.") from error
    _require_searchable(path, options, image)
    return VseppCheckpoint(image, text, cnn, data_set, absolute, int(words), dimension)


def _require_searchable(path: Path, options: Mapping[str, Any], image: Mapping[str, Any]) -> None:
    if not any(name.startswith("cnn.") for name in image):
        raise ModelError(
            f"The checkpoint {path} was trained on precomputed features ({options.get('data_name')}) and "
            "has no CNN to see photos with. Take one that was trained on photos."
        )
    if options.get("measure") == "order":
        raise ModelError(
            f"The checkpoint {path} holds order embeddings, which are not compared by their cosine as an "
            "index does."
        )
    if options.get("no_imgnorm"):
        raise ModelError(
            f"The checkpoint {path} was trained with --no_imgnorm (VSE0): the length of a photo's vector "
            "counts, and an index holds vectors of unit length."
        )
