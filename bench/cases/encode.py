"""``encode-image`` and ``encode-text``: photos in memory, and sentences, to vectors on one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench import inputs
from bench.harness import Contender, Goal, Options, Result, at_least, compared, in_turns, latency, repeated
from bench.models import (
    PlainClip,
    image_encoders,
    model_inputs,
    plain_default_images,
    plain_default_texts,
    text_encoders,
    vit_name,
)
from crossmodal.models import DEFAULT_MODEL, load_preprocessing
from crossmodal.settings import RUNTIMES

__all__ = ["run_images", "run_texts"]

_VIT = "ViT-B/32"

_PHOTO_BATCHES = (1, 8, 32)
_TEXT_BATCH = 64
_ONE_BY_ONE = 8
_SINGLE_CAPTIONS = 16

# The goals are for ViT-B/32 in the runtime that users get, for photos 32 at once.
_PHOTOS_TIMES_FASTER = 8.0
_SHARE_OF_PEAK = 0.5
_LATENCY_TIMES_FASTER = 10.0
_TEXTS_TIMES_FASTER = 15.0

# ViT-B/32 on 224 pixels: 12 blocks over 50 tokens, 7 x 7 patches and the class, of 768 components.
_BLOCKS, _TOKENS, _DIM = 12, 50, 768
_PATCHES, _PATCH_VALUES, _PROJECTED = 49, 3 * 32 * 32, 512

# Inputs and outputs of the four linear layers of a block.
_LAYERS = ((_DIM, 3 * _DIM), (_DIM, _DIM), (_DIM, 4 * _DIM), (4 * _DIM, _DIM))
_LAYER_PRODUCTS = sum(inputs * outputs for inputs, outputs in _LAYERS)

# Of the last block only the class's place is read: keys and values of all tokens, and the rest of that one.
_LAST_BLOCK = _TOKENS * 2 * _DIM**2 + (_LAYER_PRODUCTS - 2 * _DIM**2) + 2 * _TOKENS * _DIM

# Products and sums of one photo: layers, attention (scores and their use), patches, the last projection.
_VIT_FLOPS = 2 * (
    (_BLOCKS - 1) * (_TOKENS * _LAYER_PRODUCTS + 2 * _TOKENS**2 * _DIM)
    + _LAST_BLOCK
    + _PATCHES * _PATCH_VALUES * _DIM
    + _DIM * _PROJECTED
)


def run_images(options: Options) -> list[Result]:
    """Images/s of ViT-B/32 and the default model, and of matrix products of the same shapes."""
    runtimes = RUNTIMES[:1] if options.quick else RUNTIMES
    plain = {_VIT: PlainClip.load(options).encode_photos, DEFAULT_MODEL: plain_default_images()}
    names = {_VIT: vit_name(options), DEFAULT_MODEL: DEFAULT_MODEL}
    encoders = {label: image_encoders(name, options, runtimes=runtimes) for label, name in names.items()}
    contenders = {"gemm bf16": _matrix_products("bf16"), "gemm f32": _matrix_products("f32")}
    for label, name in names.items():
        photos = model_inputs(name, options, max(_PHOTO_BATCHES))
        contenders[f"{label}, plain"] = _one_by_one(name, plain[label], photos[:_ONE_BY_ONE])
        for runtime, encoder in encoders[label].items():
            for batch in _PHOTO_BATCHES:
                encode = partial(encoder.encode, photos[:batch])
                contenders[f"{label}, {runtime}, {batch}"] = repeated(encode, batch)
    rates = {name: each.rate() for name, each in in_turns(contenders, until=options.until()).items()}
    results = [
        compared(
            f"encode-image, {label}, {runtime}, batch {batch}",
            "images/s",
            rates[f"{label}, {runtime}, {batch}"],
            f"{'open_clip' if label == _VIT else 'torch'} fp32, one by one",
            rates[f"{label}, plain"],
            goal=_goal(label, runtime, _PHOTOS_TIMES_FASTER) if batch == max(_PHOTO_BATCHES) else None,
        )
        for label in names
        for runtime in encoders[label]
        for batch in _PHOTO_BATCHES
    ]
    for runtime in encoders[_VIT]:
        kind = "f32" if runtime.endswith("f32") else "bf16"
        batch = max(_PHOTO_BATCHES)
        results.append(
            compared(
                f"encode-image, {_VIT}, {runtime}, batch {batch}, of the {kind} peak",
                "GFLOP/s",
                rates[f"{_VIT}, {runtime}, {batch}"].times(_VIT_FLOPS / 1e9),
                f"torch {kind} matrix products of the same shapes",
                rates[f"gemm {kind}"].times(1e-9),
                goal=_goal(_VIT, runtime, _SHARE_OF_PEAK) if kind == "bf16" else None,
            )
        )
    return results


def run_texts(options: Options) -> list[Result]:
    """One caption's latency and captions/s of ViT-B/32 and the default model."""
    runtimes = RUNTIMES[:1] if options.quick else RUNTIMES
    captions = inputs.captions(options, 512)
    plain = {_VIT: PlainClip.load(options).encode_texts, DEFAULT_MODEL: plain_default_texts()}
    names = {_VIT: vit_name(options), DEFAULT_MODEL: DEFAULT_MODEL}
    encoders = {label: text_encoders(name, options, runtimes=runtimes) for label, name in names.items()}
    single = [[caption] for caption in captions]
    contenders: dict[str, Contender] = {}
    for label in names:
        by_runtime = {runtime: encoder.encode for runtime, encoder in encoders[label].items()}
        for runtime, encode in {"plain": plain[label], **by_runtime}.items():
            # All contenders get the same captions in the same order.
            contenders[f"{label}, {runtime}, one"] = latency(encode, single, _SINGLE_CAPTIONS)
            batch = partial(encode, captions[:_TEXT_BATCH])
            contenders[f"{label}, {runtime}, batch"] = repeated(batch, _TEXT_BATCH)
    rounds = in_turns(contenders, until=options.until())
    results = []
    for label in names:
        reference = "open_clip fp32, 77 tokens" if label == _VIT else "torch fp32"
        for runtime in encoders[label]:
            results.append(
                compared(
                    f"encode-text, {label}, {runtime}, one caption",
                    "ms",
                    rounds[f"{label}, {runtime}, one"].times(1e3),
                    reference,
                    rounds[f"{label}, plain, one"].times(1e3),
                    inverted=True,
                    goal=_goal(label, runtime, _LATENCY_TIMES_FASTER),
                )
            )
            results.append(
                compared(
                    f"encode-text, {label}, {runtime}, batch {_TEXT_BATCH}",
                    "captions/s",
                    rounds[f"{label}, {runtime}, batch"].rate(),
                    reference,
                    rounds[f"{label}, plain, batch"].rate(),
                    goal=_goal(label, runtime, _TEXTS_TIMES_FASTER),
                )
            )
    return results


def _goal(label: str, runtime: str, limit: float) -> Goal | None:
    return at_least(limit) if label == _VIT and runtime.startswith("auto") else None


def _one_by_one(
    name: str,
    encode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    photos: NDArray[np.uint8],
) -> Contender:
    """One photo after the other through the plain network in float32."""
    scale = load_preprocessing(name).scale
    return repeated(lambda: [encode(scale(photo[None])) for photo in photos], len(photos))


def _matrix_products(kind: Literal["f32", "bf16"]) -> Contender:
    """Measures the seconds for one operation (a product or a sum) in torch, on as many threads as it has.

    The four layers of a block for 32 photos, as the network runs them.
    """
    import torch

    dtype = torch.float32 if kind == "f32" else torch.bfloat16
    rows = max(_PHOTO_BATCHES) * _TOKENS
    pairs: list[tuple[Any, Any]] = [
        (torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype))
        for inputs, outputs in _LAYERS
    ]

    def multiply() -> None:
        with torch.inference_mode():
            for values, weights in pairs:
                torch.nn.functional.linear(values, weights)

    return repeated(multiply, 2 * rows * _LAYER_PRODUCTS)
