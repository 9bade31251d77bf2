"""From an open_clip model to its encoders, each computed by the fastest form that is faithful here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from crossmodal.models.clip import photos, sentences
from crossmodal.models.clip.encoders import ClipImageEncoder, ClipTextEncoder
from crossmodal.models.clip.recognition import image_tower, text_tower
from crossmodal.models.clip.runner import Runner
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.clip.text import load_tokenizer
from crossmodal.models.clip.towers import ImageTower, TextTower, weight_bytes
from crossmodal.models.clip.weights import build_network
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.runtimes.choice import Candidate, choose
from crossmodal.models.runtimes.forms import (
    ONNX_F32,
    OPENVINO_BF16,
    OPENVINO_F32,
    TORCH_BF16,
    TORCH_BF16_CUDA,
    TORCH_F32,
    Form,
)
from crossmodal.models.runtimes.probes import photo_probes, sentence_probes
from crossmodal.models.runtimes.remembered import Memory
from crossmodal.models.runtimes.torch_networks import in_form

__all__ = ["load_clip_image_encoder", "load_clip_text_encoder"]

# The fastest first.
_FORMS = (TORCH_BF16_CUDA, OPENVINO_BF16, TORCH_BF16, OPENVINO_F32, ONNX_F32, TORCH_F32)

# protobuf's limit, with room for what isn't weights; larger graphs cannot be written.
_LARGEST_GRAPH = 2**31 - 2**24

# What the text's side of open_clip's model classes is made of.
_TEXT_PARTS = ("text", "text_decoder", "transformer", "token_embedding", "ln_final")


def load_clip_image_encoder(
    source: ClipSource, identity: ModelIdentity, *, threads: int | None, runtime: str
) -> ClipImageEncoder:
    """The photo's side of ``source``. Arguments and errors as for ``registry.load_image_encoder``."""
    _set_threads(threads)
    network = build_network(source)
    for part in _TEXT_PARTS:
        if hasattr(network, part):
            delattr(network, part)
    network = network.to(memory_format=torch.channels_last)
    preprocessing = source.preprocessing
    tower = image_tower(network)

    def encoder(runner: Runner) -> ClipImageEncoder:
        return ClipImageEncoder(identity, preprocessing, runner)

    def by_open_clip(form: Form) -> ClipImageEncoder:
        found = encoder(photos.photos_by_open_clip(in_form(network, form), preprocessing, form))
        # Not every architecture can be computed in every type, which shows when it is.
        found.encode(np.zeros((1, preprocessing.size, preprocessing.size, 3), np.uint8))
        return found

    def by_tower(known: ImageTower, form: Form) -> ClipImageEncoder:
        if form.library == "torch":
            return encoder(photos.photos_by_torch(known, preprocessing, form))
        return encoder(photos.photos_by_graph(known, preprocessing, form, threads=threads))

    candidates = [Candidate(TORCH_BF16, partial(by_open_clip, TORCH_BF16))]
    if tower is not None:
        candidates = [Candidate(form, partial(by_tower, tower, form)) for form in _forms(tower)]
    return choose(
        runtime,
        candidates,
        Candidate(TORCH_F32, partial(by_open_clip, TORCH_F32)),
        probes=partial(photo_probes, preprocessing),
        memory=Memory.in_cache("image", identity.weights, source.cache),
    )


def load_clip_text_encoder(
    source: ClipSource, identity: ModelIdentity, *, threads: int | None, runtime: str
) -> ClipTextEncoder:
    """The sentence's side of ``source``. Arguments and errors as for ``registry.load_text_encoder``."""
    _set_threads(threads)
    network = build_network(source)
    del network.visual
    tokenize = load_tokenizer(source)
    tower = text_tower(network)
    padding = sentences.masked_padding(network)

    def whole(texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = tokenize(texts).tolist()
        return rows

    def unpadded(texts: list[str]) -> list[list[int]]:
        return whole(texts) if padding is None else sentences.cut_padding(tokenize(texts), padding)

    def by_open_clip(form: Form) -> ClipTextEncoder:
        runner = sentences.sentences_by_open_clip(in_form(network, form), form, padding or 0)
        found = ClipTextEncoder(identity, unpadded, runner)
        found.encode([""])
        return found

    def by_tower(known: TextTower, form: Form) -> ClipTextEncoder:
        if form.library == "torch":
            runner = sentences.sentences_by_torch(known, form)
        else:
            runner = sentences.sentences_by_graph(known, form, threads=threads)
        reading = known.reading
        return ClipTextEncoder(identity, lambda texts: reading.cut(tokenize(texts)), runner)

    def plain() -> ClipTextEncoder:
        return ClipTextEncoder(identity, whole, sentences.sentences_by_open_clip(network, TORCH_F32))

    candidates = [Candidate(form, partial(by_open_clip, form)) for form in (TORCH_BF16, TORCH_F32)]
    if tower is not None:
        candidates = [Candidate(form, partial(by_tower, tower, form)) for form in _forms(tower)]
    return choose(
        runtime,
        candidates,
        Candidate(TORCH_F32, plain),
        probes=sentence_probes,
        memory=Memory.in_cache("text", identity.weights, source.cache),
    )


def _forms(tower: ImageTower | TextTower) -> Sequence[Form]:
    """Those that can compute ``tower``."""
    fits = weight_bytes(tower) <= _LARGEST_GRAPH
    return [form for form in _FORMS if fits or form.library == "torch"]


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
