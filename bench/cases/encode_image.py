"""``encode-image``: squares in memory to vectors, on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench import gemm
from bench.harness import Contender, Rounds, in_turns, repeated
from bench.models import PlainClip, image_encoders, plain_default_images, squares, vit_name
from bench.options import Options
from bench.results import Goal, Result, at_least, compared
from crossmodal.models import DEFAULT_MODEL, ImageEncoder, load_preprocessing
from crossmodal.settings import RUNTIMES

__all__ = ["run"]

_BATCHES = (1, 8, 32)
_ONE_BY_ONE = 8

_VIT = "ViT-B/32"

# The goals are for ViT-B/32 in the runtime that users get, 32 photos at once.
_GOAL_BATCH = 32
_TIMES_FASTER = 8.0
_SHARE_OF_PEAK = 0.5


def run(options: Options) -> list[Result]:
    """Images/s of ViT-B/32 and the default model, and of matrix products of the same shapes."""
    runtimes = RUNTIMES[:1] if options.quick else RUNTIMES
    vit = vit_name(options)
    models = {
        _VIT: (vit, image_encoders(vit, options, runtimes=runtimes)),
        DEFAULT_MODEL: (DEFAULT_MODEL, image_encoders(DEFAULT_MODEL, options, runtimes=runtimes)),
    }
    contenders: dict[str, Contender] = {
        "gemm bf16": gemm.contender("bf16"),
        "gemm f32": gemm.contender("f32"),
    }
    for label, (name, encoders) in models.items():
        photos = squares(name, options, max(_BATCHES))
        contenders[f"{label}, plain"] = _plain(label, name, photos[:_ONE_BY_ONE], options)
        for runtime, encoder in encoders.items():
            for batch in _BATCHES:
                contenders[f"{label}, {runtime}, {batch}"] = repeated(
                    partial(encoder.encode, photos[:batch]), batch
                )
    rounds = in_turns(contenders, until=options.until())
    results = [
        result for label, (_, encoders) in models.items() for result in _rates(label, encoders, rounds)
    ]
    return [*results, *_shares_of_peak(models[_VIT][1], rounds)]


def _rates(label: str, encoders: Mapping[str, ImageEncoder], rounds: Mapping[str, Rounds]) -> list[Result]:
    plain = rounds[f"{label}, plain"].rate()
    reference = f"{'open_clip' if label == _VIT else 'torch'} fp32, one by one"
    return [
        compared(
            f"encode-image, {label}, {runtime}, batch {batch}",
            "images/s",
            rounds[f"{label}, {runtime}, {batch}"].rate(),
            reference,
            plain,
            goal=_goal(label, runtime, batch, _TIMES_FASTER),
        )
        for runtime in encoders
        for batch in _BATCHES
    ]


def _shares_of_peak(encoders: Mapping[str, ImageEncoder], rounds: Mapping[str, Rounds]) -> list[Result]:
    results = []
    for runtime in encoders:
        kind = "f32" if runtime.endswith("f32") else "bf16"
        for batch in _BATCHES[-1:]:
            reached = rounds[f"{_VIT}, {runtime}, {batch}"].rate().times(gemm.VIT_FLOPS / 1e9)
            results.append(
                compared(
                    f"encode-image, {_VIT}, {runtime}, batch {batch}, of the {kind} peak",
                    "GFLOP/s",
                    reached,
                    f"torch {kind} matrix products of the same shapes",
                    rounds[f"gemm {kind}"].rate().times(1e-9),
                    goal=_goal(_VIT, runtime, batch, _SHARE_OF_PEAK) if kind == "bf16" else None,
                )
            )
    return results


def _goal(label: str, runtime: str, batch: int, limit: float) -> Goal | None:
    wanted = label == _VIT and runtime.startswith("auto") and batch == _GOAL_BATCH
    return at_least(limit) if wanted else None


def _plain(label: str, name: str, photos: NDArray[np.uint8], options: Options) -> Contender:
    """One photo after the other through the plain network in float32."""
    encode = PlainClip.load(options).encode_photos if label == _VIT else plain_default_images()
    scale = load_preprocessing(name).scale

    def one_by_one() -> None:
        for photo in photos:
            encode(scale(photo[None]))

    return repeated(one_by_one, len(photos))
