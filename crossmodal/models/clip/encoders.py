"""The encoders of an open_clip model, each computed by the fastest form that is faithful here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from crossmodal.errors import ModelError
from crossmodal.models.clip import runners
from crossmodal.models.clip.network import build_network, build_untrained_image_tower, load_tokenizer
from crossmodal.models.clip.recognition import image_tower, text_tower
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.clip.towers import ImageTower, TextTower, weight_bytes
from crossmodal.models.encoders import LoadOptions, NetworkImageEncoder, NetworkTextEncoder, Runner
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.choice import Candidate, Memory, choose, photo_probes, sentence_probes
from crossmodal.models.runtimes.forms import (
    ONNX_F32,
    OPENVINO_BF16,
    OPENVINO_F32,
    TORCH_BF16,
    TORCH_BF16_CUDA,
    TORCH_F32,
    Form,
    in_form,
    set_torch_threads,
)

__all__ = ["load_image_encoder", "load_text_encoder", "untrained_image_runner"]

# The fastest first.
_FORMS = (TORCH_BF16_CUDA, OPENVINO_BF16, TORCH_BF16, OPENVINO_F32, ONNX_F32, TORCH_F32)

# protobuf's limit, with room for what isn't weights; larger graphs cannot be written.
_LARGEST_GRAPH = 2**31 - 2**24

# The attributes of open_clip's model classes that make up the text tower.
_TEXT_PARTS = ("text", "text_decoder", "transformer", "token_embedding", "ln_final")


def load_image_encoder(source: ClipSource, options: LoadOptions) -> NetworkImageEncoder:
    """The image encoder of ``source``. Errors as for ``registry.load_image_encoder``."""
    network = _network(source, options)
    for part in _TEXT_PARTS:
        if hasattr(network, part):
            delattr(network, part)
    network = network.to(memory_format=torch.channels_last)
    identity, preprocessing = source.identity, source.preprocessing

    def load(runner: Callable[[], Runner]) -> NetworkImageEncoder:
        return NetworkImageEncoder(identity, preprocessing, runner())

    plain = partial(_open_clip_runner, network, preprocessing, TORCH_F32)
    candidates = [
        Candidate(form, partial(load, runner))
        for form, runner in _image_runners(network, preprocessing, options.threads).items()
    ]
    return choose(
        options.runtime,
        candidates,
        Candidate(TORCH_F32, partial(load, plain)),
        probes=partial(photo_probes, preprocessing),
        memory=Memory.in_cache("image", identity.weights, source.cache),
    )


def load_text_encoder(source: ClipSource, options: LoadOptions) -> NetworkTextEncoder:
    """The text encoder of ``source``. Errors as for ``registry.load_text_encoder``.

    A text longer than the model's context (77 tokens in CLIP, 64 in SigLIP) is cut, a shorter one padded as
    the model was trained; padding that cannot reach an embedding is left out.
    """
    network = _network(source, options)
    del network.visual
    tokenizer = load_tokenizer(source)
    identity = source.identity
    tower = text_tower(network)
    padding = runners.masked_padding(network)

    def whole(texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = tokenizer(list(texts)).tolist()
        return rows

    def unpadded(texts: Sequence[str]) -> list[list[int]]:
        return whole(texts) if padding is None else runners.cut_padding(tokenizer(list(texts)), padding)

    def by_open_clip(form: Form) -> NetworkTextEncoder:
        runner = runners.open_clip_text_runner(in_form(network, form), form, padding or 0)
        encoder = NetworkTextEncoder(identity, unpadded, runner)
        encoder.encode([""])
        return encoder

    def by_tower(known: TextTower, form: Form) -> NetworkTextEncoder:
        runner = runners.text_runner(known, form, threads=options.threads)
        # Not the tower, whose weights a graph has copied.
        reading = known.reading
        return NetworkTextEncoder(identity, lambda texts: reading.cut(tokenizer(list(texts))), runner)

    def plain() -> NetworkTextEncoder:
        return NetworkTextEncoder(identity, whole, runners.open_clip_text_runner(network, TORCH_F32))

    candidates = [Candidate(form, partial(by_open_clip, form)) for form in (TORCH_BF16, TORCH_F32)]
    if tower is not None:
        candidates = [Candidate(form, partial(by_tower, tower, form)) for form in _forms(tower)]
    return choose(
        options.runtime,
        candidates,
        Candidate(TORCH_F32, plain),
        probes=sentence_probes,
        memory=Memory.in_cache("text", identity.weights, source.cache),
    )


def untrained_image_runner(source: ClipSource) -> Runner:
    """The photo's side of ``source`` without its weights, in the form that is tried first here.

    It takes as long as the real one, and its vectors mean nothing. Raises ModelError where no form can
    compute it.
    """
    set_torch_threads(None)
    network = build_untrained_image_tower(source).to(memory_format=torch.channels_last)
    plain = partial(_open_clip_runner, network, source.preprocessing, TORCH_F32)
    forms: list[tuple[Form, Callable[[], Runner]]] = [
        *_image_runners(network, source.preprocessing, None).items(),
        (TORCH_F32, plain),
    ]
    refused = []
    for form, runner in forms:
        if (reason := form.unusable()) is None:
            try:
                return runner()
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
        refused.append(f"{form}: {reason}")
    raise ModelError(f"Nothing here can compute the model {source.name} ({'; '.join(refused)}).")


def _image_runners(
    network: Any, preprocessing: ImagePreprocessing, threads: int | None
) -> Mapping[Form, Callable[[], Runner]]:
    """What computes the photo's side of ``network`` in each form that can, the fastest first."""
    tower = image_tower(network)
    if tower is None:
        return {TORCH_BF16: partial(_open_clip_runner, network, preprocessing, TORCH_BF16)}
    return {
        form: partial(runners.image_runner, tower, preprocessing, form, threads=threads)
        for form in _forms(tower)
    }


def _open_clip_runner(network: Any, preprocessing: ImagePreprocessing, form: Form) -> Runner:
    runner = runners.open_clip_image_runner(in_form(network, form), preprocessing, form)
    # Not every architecture can be computed in every type, which shows when it is.
    runner.run(np.zeros((1, preprocessing.size, preprocessing.size, 3), np.uint8))
    return runner


def _network(source: ClipSource, options: LoadOptions) -> Any:
    set_torch_threads(options.threads)
    return build_network(source)


def _forms(tower: ImageTower | TextTower) -> Sequence[Form]:
    """Those that can compute ``tower``."""
    fits = weight_bytes(tower) <= _LARGEST_GRAPH
    return [form for form in _FORMS if fits or form.library == "torch"]
