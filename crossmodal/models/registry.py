"""Names of models to their encoders, identities and preprocessing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from crossmodal.errors import ModelError
from crossmodal.extras import extra_for
from crossmodal.home_folder import expanded
from crossmodal.models.adaptation import (
    Adaptation,
    AdaptedImageEncoder,
    AdaptedTextEncoder,
    adapted_identity,
    parse_adaptation,
    read_centering,
)
from crossmodal.models.encoders import ImageEncoder, LoadOptions, TextEncoder
from crossmodal.models.hubness import Banks
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint, find_checkpoint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.published import PublishedModel

__all__ = [
    "DEFAULT_MODEL",
    "LoadedEncoders",
    "banks_of",
    "find_native",
    "find_published",
    "identify_model",
    "load_image_encoder",
    "load_preprocessing",
    "load_text_encoder",
    "native_identity",
    "require_trust",
    "weights_size",
]

DEFAULT_MODEL = "clip-mini"

_KNOWN = (
    "the names that `crossmodal models` lists, each with `:PATH` behind it for local files; clip; "
    "clip:ARCH/PRETRAINED or clip:ARCH/PATH for anything else that open_clip builds; the path of a "
    "checkpoint that `crossmodal train` made, of a VSE++ checkpoint, or of a folder as the model hub has them"
)


def identify_model(name: str, *, cache: Path | None = None) -> ModelIdentity:
    """What distinguishes the model ``name`` from every other, without loading it.

    Quick for ``vse``, ``clip-mini`` and trained checkpoints (no torch). For published models it may import
    their library, downloads the weights if they aren't there, and hashes them once; the hash is remembered in
    ``cache``. No code that a model brings along is executed.

    ``cache`` is a folder for downloads and remembered hashes; None means the folder that huggingface_hub
    shares with other programs, and ``~/.cache/crossmodal`` for hashes.

    A name may end in options, such as ``vse?dim=128``: see ``adaptation.Adaptation``.

    Raises ModelError where the model isn't known or its files are missing or damaged.
    """
    with _found(name, cache) as (adaptation, model):
        return adapted_identity(adaptation, model.identity)


def banks_of(identity: ModelIdentity) -> Banks | None:
    """What the hubness of documents is computed with that the model ``identity`` embedded.

    None where the model has none, isn't on this machine with its centring file, or is another one by now.
    Nothing is downloaded. Raises ModelError where a file of the model is damaged.
    """
    adaptation = parse_adaptation(identity.name) or Adaptation(identity.name)
    model = find_native(adaptation.model)
    if model is None or model.banks is None:
        return None
    try:
        centering = read_centering(adaptation, model.identity)
        known = adapted_identity(adaptation, model.identity)
    except ModelError:
        # An index is converted and loaded without that file; loading the model says what is wrong with it.
        return None
    if known != identity:
        return None
    if adaptation.dim is None and centering is None:
        return model.banks
    if centering is None:
        return model.banks.adapted(identity.dimension)
    return model.banks.adapted(identity.dimension, centering.image, centering.text)


def native_identity(name: str) -> ModelIdentity | None:
    """Which model the ``name`` of one of this project's means today; None for others.

    None as well where its centring file isn't there or is another model's. Raises ModelError where a file of
    the model is damaged.
    """
    adaptation = parse_adaptation(name) or Adaptation(name)
    model = find_native(adaptation.model)
    if model is None:
        return None
    try:
        read_centering(adaptation, model.identity)
        return adapted_identity(adaptation, model.identity)
    except ModelError:
        return None


def load_preprocessing(name: str, *, cache: Path | None = None) -> ImagePreprocessing:
    """How the model ``name`` wants its photos; its weights are neither loaded nor downloaded."""
    with _found(name, cache) as (_, model):
        return model.preprocessing


def load_image_encoder(
    name: str,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
) -> ImageEncoder:
    """The encoder of photos of the model ``name``; its text tower doesn't stay in memory.

    ``threads`` is how many threads compute (None: one a core): with torch all of them on one call, in this
    whole process; with the other runtimes each on a call of its own, see ``ImageEncoder.concurrency``.
    ``cache`` as in ``identify_model``; it also holds compiled networks and their measured cosines.
    ``trust_remote_code`` allows the code that some models bring along (jina-clip) to run.

    ``runtime`` is one of ``settings.RUNTIMES``. ``auto`` takes the fastest one that is installed and
    faithful: its embeddings of the probes have a cosine of at least .999, centred, with those of the plain
    form, torch in float32. That is measured when a model is first used on a CPU, and shipped with the models
    of this project. A model's identity doesn't depend on it.

    Raises ModelError as ``identify_model`` does, where the model's code would have to run and isn't trusted,
    and where ``runtime`` isn't installed or isn't faithful.
    """
    options = LoadOptions(threads, cache, trust_remote_code, runtime)
    encoder, adaptation = _load("image", name, options)
    return AdaptedImageEncoder(encoder, adaptation) if adaptation else encoder


def load_text_encoder(
    name: str,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
) -> TextEncoder:
    """The encoder of sentences of the model ``name``; its image tower doesn't stay in memory.

    Arguments and errors as for ``load_image_encoder``.
    """
    options = LoadOptions(threads, cache, trust_remote_code, runtime)
    encoder, adaptation = _load("text", name, options)
    return AdaptedTextEncoder(encoder, adaptation) if adaptation else encoder


class LoadedEncoders:
    """The encoders that the steps of a process share; each is loaded at its first use.

    Arguments and errors are those of ``load_image_encoder``. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[object, ...], Any] = {}

    def image_encoder(
        self, model: str, *, cache: Path | None, trust_remote_code: bool, runtime: str
    ) -> ImageEncoder:
        """The encoder of photos of ``model``."""
        encoder: ImageEncoder = self._load(load_image_encoder, model, cache, trust_remote_code, runtime)
        return encoder

    def text_encoder(
        self, model: str, *, cache: Path | None, trust_remote_code: bool, runtime: str
    ) -> TextEncoder:
        """The encoder of sentences of ``model``."""
        encoder: TextEncoder = self._load(load_text_encoder, model, cache, trust_remote_code, runtime)
        return encoder

    def _load(
        self, load: Callable[..., object], model: str, cache: Path | None, trusted: bool, runtime: str
    ) -> Any:
        key = (load, model, cache, trusted, runtime)
        # One at a time: two loads of one model would only wait for each other's memory.
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = load(model, cache=cache, trust_remote_code=trusted, runtime=runtime)
            return self._loaded[key]


def require_trust(name: str, *, trust_remote_code: bool, cache: Path | None = None) -> None:
    """Raises ModelError where the model ``name`` has Python code to execute and isn't trusted.

    ``load_image_encoder`` and ``load_text_encoder`` refuse it as well; this check needs no download.
    """
    with _found(name, cache) as (_, model):
        if isinstance(model, PublishedModel):
            model.require_trust(trust_remote_code)


def weights_size(name: str, *, cache: Path | None = None) -> int:
    """The bytes on disk of the weights of the model ``name``, with its vocabulary if it has its own.

    Arguments and errors as for ``identify_model``; published weights are downloaded if they are missing.
    """
    with _found(name, cache) as (_, model):
        files = model.weight_files
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise ModelError(f"The weights of the model {name!r} cannot be read: {error}.") from error


def find_native(name: str) -> NativeCheckpoint | None:
    """The checkpoint of this project that ``name`` means; a trained one is called by its absolute folder."""
    if name in SHIPPED:
        return _shipped(name)
    folder = find_checkpoint(expanded(name))
    return None if folder is None else NativeCheckpoint.open(folder, str(folder.absolute()))


@cache
def _shipped(name: str) -> NativeCheckpoint:
    """A part of the program: it stays as it is, and its weights are hashed once in a process."""
    return NativeCheckpoint.open(SHIPPED[name], name)


def find_published(name: str, cache: Path | None) -> PublishedModel:
    """The published model that ``name`` means, without loading or downloading weights.

    Raises ModelError, with names that look alike, where it means none.
    """
    # Imported here, like the libraries below: the default model starts without them.
    from crossmodal.models.clip.source import find_source as find_clip
    from crossmodal.models.huggingface.source import find_source as find_transformers
    from crossmodal.models.vsepp.source import find_source as find_vsepp

    model = find_transformers(name, cache) or find_vsepp(name, cache) or find_clip(name, cache)
    if model is None:
        from crossmodal.models.zoo import near_names

        near = near_names(name.partition(":")[0], (*SHIPPED, "clip"))
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(f"There is no model {name!r}.{meant} Known are: {_KNOWN}.")
    return model


@contextmanager
def _found(name: str, cache: Path | None) -> Iterator[tuple[Adaptation, NativeCheckpoint | PublishedModel]]:
    """The model that ``name`` means, and the options behind the name.

    Names the extra where a library that the model needs is missing, as long as the context lasts.
    """
    adaptation = parse_adaptation(name) or Adaptation(name)
    with extra_for(f"The model {adaptation.model}"):
        yield adaptation, find_native(adaptation.model) or find_published(adaptation.model, cache)


def _load(tower: Literal["image", "text"], name: str, options: LoadOptions) -> tuple[Any, Adaptation | None]:
    """The encoder of one tower, and what remains to be done to its embeddings."""
    with _found(name, options.cache) as (_, model):
        if isinstance(model, PublishedModel):
            model.require_trust(options.trust_remote_code)
        library = _library_of(model)
        load = library.load_image_encoder if tower == "image" else library.load_text_encoder
        return load(model, options), parse_adaptation(name)


def _library_of(model: NativeCheckpoint | PublishedModel) -> Any:
    """The module with ``load_image_encoder`` and ``load_text_encoder`` for models of this kind."""
    if isinstance(model, NativeCheckpoint):
        from crossmodal.models.native import encoders as native

        return native
    from crossmodal.models.clip.source import ClipSource
    from crossmodal.models.huggingface.source import TransformersSource

    if isinstance(model, ClipSource):
        from crossmodal.models.clip import encoders as clip

        return clip
    if isinstance(model, TransformersSource):
        from crossmodal.models.huggingface import encoders as transformers

        return transformers
    from crossmodal.models.vsepp import encoders as vsepp

    return vsepp
