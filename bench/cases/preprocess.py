"""``preprocess``: the bytes of a file to the floats that a network takes, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench import inputs
from bench.harness import Options, Result, at_least, compared, in_turns, measured, repeated
from bench.models import PlainClip, open_clip_transform, plain_default_images, vit_name
from crossmodal.models import DEFAULT_MODEL, ImagePreprocessing, load_preprocessing

__all__ = ["run"]

_COSINE = 0.9999

# How many times as quick as open_clip's transform, by kind of photo.
_GOALS = {"640x480": 1.15, "12 megapixels": 3.5}


def run(options: Options) -> list[Result]:
    """Images/s on photos of two sizes, and how near the vectors of both ways come to each other."""
    photos = {
        "640x480": [path.read_bytes() for path in inputs.photo_files(options)[: 16 if options.quick else 64]],
        "12 megapixels": inputs.large_photos(options, 2 if options.quick else 8),
    }
    vit = load_preprocessing(vit_name(options))
    towers = {
        "ViT-B/32": (vit, PlainClip.load(options).encode_photos),
        DEFAULT_MODEL: (load_preprocessing(DEFAULT_MODEL), plain_default_images()),
    }
    theirs = open_clip_transform(vit)
    results = []
    for size, files in photos.items():
        cosines = {model: _cosine(*tower, files) for model, tower in towers.items()}
        rounds = in_turns(
            {
                "ours": repeated(partial(_each, partial(_scaled, vit), files), len(files)),
                "open_clip": repeated(partial(_each, theirs, files), len(files)),
            },
            until=options.until(0.5),
        )
        results.append(
            compared(
                f"preprocess, {size}",
                "images/s",
                rounds["ours"].rate(),
                "open_clip's transform",
                rounds["open_clip"].rate(),
                goal=at_least(_GOALS[size]),
                also=min(cosines.values()) >= _COSINE,
                note=f"at a cosine of at least {_COSINE}",
            )
        )
        results += [
            measured(f"preprocess, {size}, {model}, least cosine", "cosine", cosine)
            for model, cosine in cosines.items()
        ]
    return results


def _scaled(preprocessing: ImagePreprocessing, blob: bytes) -> NDArray[np.float32]:
    (scaled,) = preprocessing.scale(preprocessing.model_input(blob)[None])
    return np.asarray(scaled)


def _each(call: Callable[[bytes], object], files: Sequence[bytes]) -> None:
    for blob in files:
        call(blob)


def _cosine(
    preprocessing: ImagePreprocessing,
    encode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    files: Sequence[bytes],
) -> float:
    """The least cosine between a photo's vectors after our preprocessing and after open_clip's."""
    theirs = open_clip_transform(preprocessing)
    ours = encode(np.stack([_scaled(preprocessing, blob) for blob in files]))
    return float((ours * encode(np.stack([theirs(blob) for blob in files]))).sum(axis=1).min())
