"""How well a model retrieves the dev photos and captions while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crossmodal.evaluation.metrics import ranks_of_relevant, summarize
from crossmodal.models.hubness import Banks
from crossmodal.records import IMAGE, TEXT
from crossmodal.training.features import ImageInput
from crossmodal.training.pairs import Pairs
from crossmodal.training.reports import Metrics
from crossmodal.training.trainable.base import Trainable

__all__ = ["caption_vectors", "measure", "metrics_of", "photo_vectors", "using_weights"]

Floats = npt.NDArray[np.float32]

_PHOTOS = 64
_CAPTIONS = 256


def measure(
    model: Trainable, images: ImageInput, tokens: Sequence[Sequence[int]], dev: Pairs, *, bfloat16: bool
) -> Metrics:
    """``metrics_of`` the model as it is; ``images`` and ``tokens`` are those of ``dev``."""
    photos = photo_vectors(model, images, len(dev.digests), bfloat16=bfloat16)
    return metrics_of(photos, caption_vectors(model, tokens, bfloat16=bfloat16), dev.photos)


def photo_vectors(model: Trainable, images: ImageInput, count: int, *, bfloat16: bool) -> Floats:
    """The vectors (count, dimension) of the first ``count`` photos of ``images``."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        photos = [
            images.encode(model, images.take(np.arange(start, min(start + _PHOTOS, count)), None).to(device))
            for start in range(0, count, _PHOTOS)
        ]
    return torch.cat(photos).cpu().numpy()


def caption_vectors(model: Trainable, tokens: Sequence[Sequence[int]], *, bfloat16: bool) -> Floats:
    """The vectors (len(tokens), dimension) of captions."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        captions = [
            model.texts(tokens[start : start + _CAPTIONS]) for start in range(0, len(tokens), _CAPTIONS)
        ]
    return torch.cat(captions).cpu().numpy()


def metrics_of(
    photos: npt.NDArray[np.float32],
    captions: npt.NDArray[np.float32],
    photo_of_caption: npt.NDArray[np.int64],
    banks: Banks | None = None,
) -> Metrics:
    """``evaluation.metrics.summarize`` in both directions; vectors are in the order of ids.

    With ``banks`` by cosine minus hubness, as searches rank.
    """
    photo_ids = [str(number) for number in range(len(photos))]
    caption_photos = [str(number) for number in photo_of_caption]
    of_photos, of_captions = None, None
    if banks is not None:
        of_photos, of_captions = banks.hubness(photos, IMAGE), banks.hubness(captions, TEXT)
    return {
        "text2image": summarize(ranks_of_relevant(captions, photos, caption_photos, photo_ids, of_photos)),
        "image2text": summarize(ranks_of_relevant(photos, captions, photo_ids, caption_photos, of_captions)),
    }


@contextmanager
def using_weights(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The parameters have the values ``weights`` for the time being."""
    before = {name: parameters[name].detach().clone() for name in weights}
    try:
        _put(parameters, weights)
        yield
    finally:
        _put(parameters, before)


def _put(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
