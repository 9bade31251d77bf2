"""Names of models to their encoders, identities and preprocessing."""

from __future__ import annotations

from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.extras import extra_for
from crossmodal.home_folder import expanded
from crossmodal.models.adaptation import parse_adaptation
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint, find_checkpoint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.protocols import ImageEncoder, TextEncoder
from crossmodal.models.published import (
    PublishedModel,
    find_published,
    identify_published,
    require_trusted_code,
)

DEFAULT_MODEL = "clip-mini"

__all__ = [
    "DEFAULT_MODEL",
    "find_native",
    "identify_model",
    "load_image_encoder",
    "load_preprocessing",
    "load_text_encoder",
    "require_trust",
    "weights_size",
]


def identify_model(name: str, *, cache: Path | None = None) -> ModelIdentity:
    """What tells the model ``name`` apart from every other, without loading it.

    Quick for ``vse``, ``clip-mini`` and trained checkpoints (no torch). For published models it may import
    their library, downloads the weights if they aren't there, and hashes them once; the hash is remembered in
    ``cache``. Nothing that a model brings along is executed.

    ``cache`` is a folder for downloads and remembered hashes; None means the folder that
    huggingface_hub shares with other programs, and ``~/.cache/crossmodal`` for hashes.

    A name may end in options, such as ``vse?dim=128``: see ``adaptation.Adaptation``.

    Raises ModelError where the model isn't known or its files are missing or damaged.
    """
    if adaptation := parse_adaptation(name):
        from crossmodal.models.adapted import adapted_identity

        return adapted_identity(adaptation, identify_model(adaptation.model, cache=cache))
    if checkpoint := find_native(name):
        return checkpoint.identity
    with extra_for(f"The model {name}"):
        return identify_published(find_published(name, cache), cache)


def load_preprocessing(name: str, *, cache: Path | None = None) -> ImagePreprocessing:
    """How the model ``name`` wants its photos; its weights are neither loaded nor downloaded."""
    if adaptation := parse_adaptation(name):
        return load_preprocessing(adaptation.model, cache=cache)
    if checkpoint := find_native(name):
        return checkpoint.preprocessing
    with extra_for(f"The model {name}"):
        return find_published(name, cache).preprocessing


def load_image_encoder(
    name: str,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
) -> ImageEncoder:
    """The encoder of photos of the model ``name``; the text's side isn't kept in memory.

    ``threads`` is how many threads compute (None: one a core): with torch all of them on one call, in this
    whole process; with the other runtimes each on a call of its own, see ``ImageEncoder.concurrency``.
    ``cache`` as in ``identify_model``, which says what is raised too; it also holds compiled networks and
    what was measured of them. ``trust_remote_code`` allows the code that some models bring along (jina-clip)
    to run; ModelError is raised where it would have to.

    ``runtime`` is one of ``settings.RUNTIMES``. ``auto`` takes the fastest one that is installed and
    faithful: its vectors of the probes have a cosine of at least .999, centred, with those of the plain form,
    torch in float32 (numpy for sentences of our own models). That is measured when a model is first used on a
    CPU, and shipped with the models of this project. ModelError is raised where one that is named isn't
    installed or isn't faithful. A model's identity doesn't depend on it.
    """
    if adaptation := parse_adaptation(name):
        from crossmodal.models.adapted import AdaptedImageEncoder

        base = load_image_encoder(
            adaptation.model,
            threads=threads,
            cache=cache,
            trust_remote_code=trust_remote_code,
            runtime=runtime,
        )
        return AdaptedImageEncoder(base, adaptation)
    if checkpoint := find_native(name):
        from crossmodal.models.native.encoders import native_image_encoder

        with extra_for(f"The model {name}"):
            return native_image_encoder(checkpoint, threads=threads, cache=cache, runtime=runtime)
    with extra_for(f"The model {name}"):
        model = _trusted(name, cache, trust_remote_code)
        identity = identify_published(model, cache)
        return model.image_encoder(
            identity, threads=threads, trust_remote_code=trust_remote_code, runtime=runtime
        )


def load_text_encoder(
    name: str,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    trust_remote_code: bool = False,
    runtime: str = "auto",
) -> TextEncoder:
    """The encoder of sentences of the model ``name``; the photo's side isn't kept in memory.

    Arguments and errors as for ``load_image_encoder``. In numpy, the plain form of our own models, sentences
    are encoded by as many threads as numpy was started with.
    """
    if adaptation := parse_adaptation(name):
        from crossmodal.models.adapted import AdaptedTextEncoder

        encoder = load_text_encoder(
            adaptation.model,
            threads=threads,
            cache=cache,
            trust_remote_code=trust_remote_code,
            runtime=runtime,
        )
        return AdaptedTextEncoder(encoder, adaptation)
    if checkpoint := find_native(name):
        from crossmodal.models.native.encoders import native_text_encoder

        with extra_for(f"The model {name}"):
            return native_text_encoder(checkpoint, threads=threads, cache=cache, runtime=runtime)
    with extra_for(f"The model {name}"):
        model = _trusted(name, cache, trust_remote_code)
        identity = identify_published(model, cache)
        return model.text_encoder(
            identity, threads=threads, trust_remote_code=trust_remote_code, runtime=runtime
        )


def require_trust(name: str, *, trust_remote_code: bool, cache: Path | None = None) -> None:
    """Raises ModelError where the model ``name`` runs code of its own and nobody has said that it may.

    ``load_image_encoder`` and ``load_text_encoder`` refuse it as well; this tells it before any process is
    started and anything is downloaded.
    """
    if adaptation := parse_adaptation(name):
        require_trust(adaptation.model, trust_remote_code=trust_remote_code, cache=cache)
    elif find_native(name) is None:
        with extra_for(f"The model {name}"):
            _trusted(name, cache, trust_remote_code)


def weights_size(name: str, *, cache: Path | None = None) -> int:
    """The bytes on disk of the weights of the model ``name``, with its vocabulary if it has its own.

    Arguments and errors as for ``identify_model``; published weights are downloaded if they aren't there.
    """
    if adaptation := parse_adaptation(name):
        return weights_size(adaptation.model, cache=cache)
    checkpoint = find_native(name)
    with extra_for(f"The model {name}"):
        files = find_published(name, cache).weight_files if checkpoint is None else checkpoint.weight_files
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise ModelError(f"The weights of the model {name!r} cannot be read: {error}.") from error


def find_native(name: str) -> NativeCheckpoint | None:
    """The checkpoint of our own that ``name`` means; a trained one is called by its absolute folder."""
    if name in SHIPPED:
        return NativeCheckpoint.open(SHIPPED[name], name)
    folder = find_checkpoint(expanded(name))
    return None if folder is None else NativeCheckpoint.open(folder, str(folder.absolute()))


def _trusted(name: str, cache: Path | None, trust_remote_code: bool) -> PublishedModel:
    model = find_published(name, cache)
    require_trusted_code(model.name, model.custom_code, trust_remote_code)
    return model
