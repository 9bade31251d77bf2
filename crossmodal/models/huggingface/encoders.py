"""The encoders of a model of transformers, each with one tower in memory where towers can be told apart."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from crossmodal.errors import ModelError
from crossmodal.models.batching import BATCH, encode_by_length, encode_in_batches
from crossmodal.models.huggingface.library import import_transformers, import_transformers_for_custom_code
from crossmodal.models.huggingface.source import TransformersSource
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.published import require_trusted_code
from crossmodal.models.runtimes.choice import Candidate, choose
from crossmodal.models.runtimes.forms import TORCH_BF16, TORCH_F32, Form
from crossmodal.models.runtimes.machine import torch_concurrency
from crossmodal.models.runtimes.probes import photo_probes, sentence_probes
from crossmodal.models.runtimes.remembered import Memory
from crossmodal.models.runtimes.torch_networks import in_form

__all__ = [
    "TransformersImageEncoder",
    "TransformersTextEncoder",
    "load_transformers_image_encoder",
    "load_transformers_text_encoder",
]

Floats = npt.NDArray[np.float32]
Encoder = TypeVar("Encoder", "TransformersImageEncoder", "TransformersTextEncoder")

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

# Beyond this, a tokenizer's length is no model's; BERT's length is what a text tower can do at the least.
_LONGEST = 100_000
_UNKNOWN_LENGTH = 512


class TransformersImageEncoder:
    """The photo's side."""

    def __init__(self, network: Any, source: TransformersSource, identity: ModelIdentity, form: Form) -> None:
        """``network`` is in the type that ``form`` says."""
        self.identity = identity
        self.preprocessing: ImagePreprocessing = source.preprocessing
        self.runtime = str(form)
        self.concurrency = torch_concurrency()
        self._network = network

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        return encode_in_batches(pixels, self._encode, self.identity.dimension)

    def _encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        import torch

        values = torch.from_numpy(self.preprocessing.scale(pixels)).to(self._network.dtype)
        with torch.inference_mode():
            return _features(self._network.get_image_features(pixel_values=values), self.identity)


class TransformersTextEncoder:
    """The sentence's side. A text is cut to the model's length; jina-clip reads up to 8,192 tokens."""

    independent = False

    def __init__(
        self, network: Any, tokenizer: Any, source: TransformersSource, identity: ModelIdentity, form: Form
    ) -> None:
        """``network`` is in the type that ``form`` says."""
        self.identity = identity
        self.runtime = str(form)
        self.concurrency = torch_concurrency()
        self._network = network
        self._tokenizer = tokenizer
        self._lower_case = source.lower_case
        self._with_mask = source.custom_code is None and not source.fixed_length
        self._options = {
            "padding": "max_length" if source.fixed_length else False,
            "max_length": source.text_length or _longest(tokenizer),
            "truncation": True,
        }

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says."""
        prepared = [text.lower() for text in texts] if self._lower_case else list(texts)
        rows = self._tokenizer(prepared, **self._options)["input_ids"] if prepared else []
        return encode_by_length(rows, self._encode, self.identity.dimension, batch=BATCH)

    def _encode(self, rows: Sequence[Sequence[int]]) -> Floats:
        import torch

        tokens = self._tokenizer.pad({"input_ids": [list(row) for row in rows]}, return_tensors="pt")
        # Models with code of their own find the padding by its number; SigLIP sees all of it.
        mask = {"attention_mask": tokens["attention_mask"]} if self._with_mask else {}
        with torch.inference_mode():
            return _features(
                self._network.get_text_features(input_ids=tokens["input_ids"], **mask), self.identity
            )


def load_transformers_image_encoder(
    source: TransformersSource,
    identity: ModelIdentity,
    *,
    threads: int | None,
    trust_remote_code: bool,
    runtime: str,
) -> TransformersImageEncoder:
    """The photo's side of ``source``. Arguments and errors as for ``registry.load_image_encoder``."""
    network = _load(source, threads, trust_remote_code, _TEXT_PARTS)

    def load(form: Form) -> TransformersImageEncoder:
        return TransformersImageEncoder(in_form(network, form), source, identity, form)

    return choose(
        runtime,
        _faster(source, load),
        Candidate(TORCH_F32, partial(load, TORCH_F32)),
        probes=partial(photo_probes, source.preprocessing),
        memory=Memory.in_cache("image", identity.weights, source.cache),
    )


def load_transformers_text_encoder(
    source: TransformersSource,
    identity: ModelIdentity,
    *,
    threads: int | None,
    trust_remote_code: bool,
    runtime: str,
) -> TransformersTextEncoder:
    """The sentence's side of ``source``. Arguments and errors as for ``registry.load_text_encoder``."""
    network = _load(source, threads, trust_remote_code, _IMAGE_PARTS)
    tokenizer = _tokenizer(source)

    def load(form: Form) -> TransformersTextEncoder:
        return TransformersTextEncoder(in_form(network, form), tokenizer, source, identity, form)

    return choose(
        runtime,
        _faster(source, load),
        Candidate(TORCH_F32, partial(load, TORCH_F32)),
        probes=sentence_probes,
        memory=Memory.in_cache("text", identity.weights, source.cache),
    )


def _faster(source: TransformersSource, load: Callable[[Form], Encoder]) -> list[Candidate[Encoder]]:
    """Forms beside the plain one: code that a model brings along knows float32 at the least."""
    return [] if source.custom_code else [Candidate(TORCH_BF16, partial(load, TORCH_BF16))]


def _load(source: TransformersSource, threads: int | None, trusted: bool, unused: Sequence[str]) -> Any:
    """The network in float32 without the parts ``unused``, where no code of its own may want them.

    Raises ModelError where it cannot be loaded, or brings code that isn't ``trusted``.
    """
    code = source.custom_code
    require_trusted_code(source.name, code, trusted)
    transformers = import_transformers() if code is None else import_transformers_for_custom_code()
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    folder = source.files
    try:
        network = transformers.AutoModel.from_pretrained(
            str(folder),
            dtype=torch.float32,
            # Code in another repository has to be asked for unless it is in the cache.
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
    """What the tokenizer's files say; they leave it out, or hold a huge number, where they don't know."""
    length = int(tokenizer.model_max_length)
    return length if length <= _LONGEST else _UNKNOWN_LENGTH


def _features(found: Any, identity: ModelIdentity) -> Floats:
    """Vectors from what a model answers: a tensor, or since transformers 5 an object that holds them."""
    vectors = found if hasattr(found, "detach") else found.pooler_output
    if vectors.ndim != 2 or vectors.shape[1] != identity.dimension:
        raise ModelError(
            f"The model {identity.name} gave vectors of shape {tuple(vectors.shape)}, where its "
            f"configuration says {identity.dimension} dimensions."
        )
    return np.asarray(vectors.detach().float().numpy())


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400].rstrip(".")
