"""The encoders under test and the plain ones that they are measured against."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import inputs
from bench.harness import Options
from crossmodal.errors import ModelError
from crossmodal.models import (
    DEFAULT_MODEL,
    ImageEncoder,
    ImagePreprocessing,
    TextEncoder,
    load_image_encoder,
    load_preprocessing,
    load_text_encoder,
)
from crossmodal.models.registry import find_native
from crossmodal.settings import RUNTIMES

__all__ = [
    "PlainClip",
    "image_encoders",
    "model_cache",
    "model_inputs",
    "open_clip_transform",
    "plain_default_images",
    "plain_default_texts",
    "text_encoders",
    "vit_name",
]

ARCHITECTURE = "ViT-B-32"


def vit_name(options: Options) -> str:
    """The name for ``-m`` of a ViT-B/32 with random weights, made once: speed doesn't depend on weights."""
    path = options.workspace / "models" / f"{ARCHITECTURE}.safetensors"
    if not path.is_file():
        _save_random(path)
    return f"clip:{ARCHITECTURE}/{path.absolute()}"


def model_cache(options: Options) -> Path:
    """Where what is found out about models is cached."""
    return options.workspace / "models"


def image_encoders(
    name: str, options: Options, *, runtimes: Sequence[str] = RUNTIMES
) -> dict[str, ImageEncoder]:
    """The encoder of photos of the model ``name`` in each of ``runtimes``, on one thread, by its description.

    A runtime that can't be used is reported on stderr and skipped.
    """
    return _each_runtime(
        runtimes,
        lambda runtime: load_image_encoder(name, threads=1, cache=model_cache(options), runtime=runtime),
        f"photos with {_short(name)}",
    )


def text_encoders(
    name: str, options: Options, *, runtimes: Sequence[str] = RUNTIMES
) -> dict[str, TextEncoder]:
    """The same for sentences."""
    return _each_runtime(
        runtimes,
        lambda runtime: load_text_encoder(name, threads=1, cache=model_cache(options), runtime=runtime),
        f"sentences with {_short(name)}",
    )


@dataclass(frozen=True)
class PlainClip:
    """open_clip as its README uses it: float32, and sentences padded to 77 tokens."""

    network: Any
    tokenize: Callable[[list[str]], Any]

    @classmethod
    @cache
    def load(cls, options: Options) -> PlainClip:
        """The model of ``vit_name`` read by open_clip itself."""
        from crossmodal.models.libraries import import_open_clip

        weights = vit_name(options).split("/", 1)[1]
        open_clip = import_open_clip()
        network = open_clip.create_model(ARCHITECTURE, pretrained=weights)
        return cls(network.eval(), open_clip.get_tokenizer(ARCHITECTURE))

    def encode_photos(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled photos (N, 3, 224, 224) to vectors of unit length."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.network.encode_image(torch.from_numpy(pixels), normalize=True).numpy())

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentences to vectors of unit length."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.network.encode_text(self.tokenize(list(texts)), normalize=True).numpy())


def plain_default_images() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The default model's photo tower in torch and float32: scaled photos to vectors of unit length."""
    import torch

    from crossmodal.models.native.towers import load_image_tower

    checkpoint = find_native(DEFAULT_MODEL)
    assert checkpoint is not None
    tower: Any = load_image_tower(checkpoint)
    tower = tower.to(memory_format=torch.channels_last)

    def encode(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            photos = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
            return np.asarray(torch.nn.functional.normalize(tower(photos)).numpy())

    return encode


def open_clip_transform(preprocessing: ImagePreprocessing) -> Callable[[bytes], NDArray[np.float32]]:
    """open_clip's own way from a file's bytes to a scaled photo, float32 (3, size, size)."""
    from PIL import Image

    from crossmodal.models.libraries import import_open_clip

    transform = import_open_clip().image_transform(
        preprocessing.size,
        is_train=False,
        mean=preprocessing.mean,
        std=preprocessing.std,
        interpolation=preprocessing.interpolation,
        resize_mode="squash" if preprocessing.mode == "squash" else "shortest",
    )

    def scaled(blob: bytes) -> NDArray[np.float32]:
        with Image.open(BytesIO(blob)) as photo:
            return np.asarray(transform(photo).numpy())

    return scaled


def plain_default_texts() -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """The default model's sentence tower in torch and float32."""
    return load_text_encoder(DEFAULT_MODEL, runtime="torch").encode


def model_inputs(name: str, options: Options, count: int) -> NDArray[np.uint8]:
    """``count`` photos as the model ``name`` sees them, uint8 (count, size, size, 3)."""
    preprocessing = load_preprocessing(name, cache=model_cache(options))
    photos = inputs.photo_files(options)
    return np.stack(
        [preprocessing.model_input(photos[number % len(photos)].read_bytes()) for number in range(count)]
    )


def _each_runtime(runtimes: Sequence[str], load: Callable[[str], Any], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for runtime in runtimes:
        try:
            encoder = load(runtime)
        except ModelError as error:
            print(f"not measured: {what}, runtime {runtime}: {error}", file=sys.stderr)
            continue
        found[f"auto, {encoder.runtime}" if runtime == "auto" else str(encoder.runtime)] = encoder
    return found


def _save_random(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from crossmodal.models.libraries import import_open_clip

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = import_open_clip().create_model(ARCHITECTURE, pretrained=None)
    temporary = path.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, temporary)
    temporary.replace(path)


def _short(name: str) -> str:
    return ARCHITECTURE if name != DEFAULT_MODEL else name
