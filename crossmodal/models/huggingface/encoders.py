"""The encoders of a model of transformers, each with only its tower in memory where the towers are known."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError

from crossmodal.errors import ModelError
from crossmodal.models.encoders import LoadOptions, NetworkImageEncoder, NetworkTextEncoder, Runner
from crossmodal.models.huggingface.source import TransformersSource
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.libraries import import_transformers
from crossmodal.models.runtimes.choice import Candidate, Memory, choose, photo_probes, sentence_probes
from crossmodal.models.runtimes.forms import (
    TORCH_BF16,
    TORCH_F32,
    Form,
    in_form,
    set_torch_threads,
    torch_concurrency,
)

__all__ = ["load_image_encoder", "load_text_encoder"]

Floats = npt.NDArray[np.float32]
Encoder = TypeVar("Encoder", NetworkImageEncoder, NetworkTextEncoder)

# What transformers, safetensors and torch raise for files that are damaged, missing or of another network.
_LOADING_ERRORS = (
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)

_IMAGE_PARTS = ("vision_model", "visual_projection")
_TEXT_PARTS = ("text_model", "text_projection")

# Rows that go through the network at once.
_BATCH = 32

# Beyond this, a tokenizer's length is no model's; BERT's length is what a text tower can do at the least.
_LONGEST = 100_000
_UNKNOWN_LENGTH = 512


def load_image_encoder(source: TransformersSource, options: LoadOptions) -> NetworkImageEncoder:
    """The image encoder of ``source``. Errors as for ``registry.load_image_encoder``."""
    network = _load(source, options, _TEXT_PARTS)
    identity, preprocessing = source.identity, source.preprocessing

    def load(form: Form) -> NetworkImageEncoder:
        model = in_form(network, form)

        def run(pixels: npt.NDArray[np.uint8]) -> Floats:
            values = torch.from_numpy(preprocessing.scale(pixels)).to(model.dtype)
            with torch.inference_mode():
                return _features(model.get_image_features(pixel_values=values), identity)

        return NetworkImageEncoder(identity, preprocessing, _runner(form, run))

    return choose(
        options.runtime,
        _faster(source, load),
        Candidate(TORCH_F32, partial(load, TORCH_F32)),
        probes=partial(photo_probes, preprocessing),
        memory=Memory.in_cache("image", identity.weights, source.cache),
    )


def load_text_encoder(source: TransformersSource, options: LoadOptions) -> NetworkTextEncoder:
    """The text encoder of ``source``. Errors as for ``registry.load_text_encoder``.

    A text is cut to the model's length; jina-clip reads up to 8,192 tokens.
    """
    network = _load(source, options, _IMAGE_PARTS)
    tokenizer = _tokenizer(source)
    identity = source.identity
    # Models with code of their own find the padding by its number; SigLIP sees all of it.
    with_mask = source.custom_code is None and not source.fixed_length
    limits = {
        "padding": "max_length" if source.fixed_length else False,
        "max_length": source.text_length or _longest(tokenizer),
        "truncation": True,
    }

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        prepared = [text.lower() for text in texts] if source.lower_case else list(texts)
        rows: list[list[int]] = tokenizer(prepared, **limits)["input_ids"]
        return rows

    def load(form: Form) -> NetworkTextEncoder:
        model = in_form(network, form)

        def run(rows: Sequence[Sequence[int]]) -> Floats:
            tokens = tokenizer.pad({"input_ids": [list(row) for row in rows]}, return_tensors="pt")
            mask = {"attention_mask": tokens["attention_mask"]} if with_mask else {}
            with torch.inference_mode():
                return _features(model.get_text_features(input_ids=tokens["input_ids"], **mask), identity)

        return NetworkTextEncoder(identity, tokenize, _runner(form, run))

    return choose(
        options.runtime,
        _faster(source, load),
        Candidate(TORCH_F32, partial(load, TORCH_F32)),
        probes=sentence_probes,
        memory=Memory.in_cache("text", identity.weights, source.cache),
    )


def _runner(form: Form, run: Callable[[Any], Floats]) -> Runner:
    return Runner(str(form), torch_concurrency(), _BATCH, run)


def _faster(source: TransformersSource, load: Callable[[Form], Encoder]) -> list[Candidate[Encoder]]:
    """Forms beside the plain one: code that a model brings along may support only float32."""
    return [] if source.custom_code else [Candidate(TORCH_BF16, partial(load, TORCH_BF16))]


def _load(source: TransformersSource, options: LoadOptions, unused: Sequence[str]) -> Any:
    """The network in float32 without the parts ``unused``, unless code of its own may need them.

    Raises ModelError where it cannot be loaded, or brings code that isn't trusted.
    """
    # Checked again: of some models the code is known only once they are downloaded.
    source.require_trust(options.trust_remote_code)
    code = source.custom_code
    transformers = import_transformers() if code is None else _import_for_custom_code()
    set_torch_threads(options.threads)
    folder = source.files
    try:
        network = transformers.AutoModel.from_pretrained(
            str(folder),
            dtype=torch.float32,
            # Code in another repository is requested unless it is in the cache.
            local_files_only=not source.code_elsewhere,
            cache_dir=None if source.cache is None else str(source.cache),
            trust_remote_code=code is not None,
            weights_only=True,
        ).eval()
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"The model {source.name} in {source.files} cannot be loaded: {_short(error)}."
        ) from error
    missing = [name for name in ("get_image_features", "get_text_features") if not hasattr(network, name)]
    if missing:
        raise ModelError(f"The model {source.name} has no {' and no '.join(missing)}, which a search needs.")
    if code is None:
        for part in unused:
            if hasattr(network, part):
                delattr(network, part)
    return network


def _import_for_custom_code() -> Any:
    """transformers with a name that code written for version 4 imports, jina-clip's among it.

    transformers 5 calls CLIP's loss ``image_text_contrastive_loss``. Nothing here computes it, but where its
    old name is missing such code cannot be imported.
    """
    library = import_transformers()
    from transformers.models.clip import modeling_clip

    module: Any = modeling_clip
    if not hasattr(module, "clip_loss"):
        module.clip_loss = module.image_text_contrastive_loss
    return library


def _tokenizer(source: TransformersSource) -> Any:
    try:
        return import_transformers().AutoTokenizer.from_pretrained(
            str(source.files), local_files_only=True, trust_remote_code=False
        )
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"The tokenizer of {source.name} in {source.files} cannot be loaded: {_short(error)}."
        ) from error


def _longest(tokenizer: Any) -> int:
    """The length in the tokenizer's files, which leave it out, or hold a huge number, where there is none."""
    length = int(tokenizer.model_max_length)
    return length if length <= _LONGEST else _UNKNOWN_LENGTH


def _features(found: Any, identity: ModelIdentity) -> Floats:
    """Embeddings from a model's output: a tensor, or since transformers 5 an object that holds them."""
    vectors = found if hasattr(found, "detach") else found.pooler_output
    if vectors.ndim != 2 or vectors.shape[1] != identity.dimension:
        raise ModelError(
            f"The model {identity.name} gave vectors of shape {tuple(vectors.shape)}, where its "
            f"configuration says {identity.dimension} dimensions."
        )
    return np.asarray(vectors.detach().float().numpy())


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400].rstrip(".")
