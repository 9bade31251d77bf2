"""``preprocess``: the bytes of a file to the floats that a network takes, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import inputs
from bench.harness import in_turns, repeated
from bench.models import PlainClip, plain_default_images, vit_name
from bench.options import Options
from bench.results import Result, at_least, compared, measured
from crossmodal.images import decode_image
from crossmodal.models import DEFAULT_MODEL, ImagePreprocessing, load_preprocessing

__all__ = ["run"]

_COSINE = 0.9999

# How many times as quick as open_clip's transform, by kind of photo.
_GOALS = {"640x480": 1.15, "12 megapixels": 3.5}


def run(options: Options) -> list[Result]:
    """Images/s on photos of two sizes, and how near the final embeddings are to those of full decoding."""
    plain = PlainClip.load(options)
    vit, mini = load_preprocessing(vit_name(options)), load_preprocessing(DEFAULT_MODEL)
    photos = {
        "640x480": [path.read_bytes() for path in inputs.photo_files(options)[: 16 if options.quick else 64]],
        "12 megapixels": inputs.large_photos(options, 2 if options.quick else 8),
    }
    results = []
    for size, files in photos.items():
        rounds = in_turns(
            until=options.until(0.4),
            contenders={
                "ours": repeated(lambda files=files: [_ours(vit, blob) for blob in files], len(files)),
                "open_clip": repeated(
                    lambda files=files: [_theirs(plain, blob) for blob in files], len(files)
                ),
            },
        )
        cosines = {
            "ViT-B/32": _cosine(
                plain.encode_squares,
                [_square(vit, blob) for blob in files],
                [_full(vit, blob) for blob in files],
            ),
            DEFAULT_MODEL: _cosine(
                plain_default_images(),
                [_square(mini, blob) for blob in files],
                [_full(mini, blob) for blob in files],
            ),
        }
        results.append(
            compared(
                f"preprocess, {size}",
                "images/s",
                rounds["ours"].rate(),
                "open_clip's transform",
                rounds["open_clip"].rate(),
                goal=at_least(_GOALS[size]),
                also=min(cosines.values()) >= _COSINE,
                note=f"the goal holds at a cosine of at least {_COSINE}",
            )
        )
        results += [
            measured(f"preprocess, {size}, {model}, least cosine to full decoding", "cosine", cosine)
            for model, cosine in cosines.items()
        ]
    return results


def _ours(preprocessing: ImagePreprocessing, blob: bytes) -> NDArray[np.float32]:
    return preprocessing.scale(_square(preprocessing, blob)[None])


def _square(preprocessing: ImagePreprocessing, blob: bytes) -> NDArray[np.uint8]:
    return preprocessing.crop(decode_image(blob, at_least=preprocessing.size))


def _full(preprocessing: ImagePreprocessing, blob: bytes) -> NDArray[np.uint8]:
    return preprocessing.crop(decode_image(blob))


def _theirs(plain: PlainClip, blob: bytes) -> Any:
    from PIL import Image

    return plain.transform(Image.open(BytesIO(blob)))


def _cosine(
    encode: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    scaled: Sequence[NDArray[np.uint8]],
    full: Sequence[NDArray[np.uint8]],
) -> float:
    """The least cosine between the vectors of the same photo, both of unit length."""
    return float((encode(np.stack(scaled)) * encode(np.stack(full))).sum(axis=1).min())
