"""Names of models to their encoders, identities and preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.errors import ModelError
from crossmodal.models.adaptation import parse_adaptation
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint, find_checkpoint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.protocols import ImageEncoder, TextEncoder

if TYPE_CHECKING:
    from crossmodal.models.clip.source import ClipSource

DEFAULT_MODEL = "vse"

__all__ = [
    "DEFAULT_MODEL",
    "find_native",
    "identify_model",
    "load_image_encoder",
    "load_preprocessing",
    "load_text_encoder",
    "weights_size",
]

_KNOWN = (
    "vse and clip-mini (shipped), clip (open_clip's ViT-B-32 laion2b_s34b_b79k), clip:ARCH/PRETRAINED, "
    "clip:ARCH/PATH, or the path of a checkpoint that `-t train` made or of a folder with an "
    "open_clip_config.json"
)


def identify_model(name: str, *, cache: Path | None = None) -> ModelIdentity:
    """What tells the model ``name`` apart from every other, without loading it.

    Quick for ``vse``, ``clip-mini`` and trained checkpoints (no torch). For ``clip`` it imports open_clip,
    downloads the weights if they aren't there, and hashes them once; the hash is remembered in ``cache``.

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
    return _identify_clip(name, cache)[1]


def load_preprocessing(name: str, *, cache: Path | None = None) -> ImagePreprocessing:
    """How the model ``name`` wants its photos; its weights are neither loaded nor downloaded."""
    if adaptation := parse_adaptation(name):
        return load_preprocessing(adaptation.model, cache=cache)
    if checkpoint := find_native(name):
        return checkpoint.preprocessing
    return _find_clip(name, cache).preprocessing


def load_image_encoder(name: str, *, threads: int | None = None, cache: Path | None = None) -> ImageEncoder:
    """The encoder of photos of the model ``name``; the text's side isn't kept in memory.

    ``threads`` is how many threads one operation uses, in this whole process (torch's default: one a core);
    ``cache`` as in ``identify_model``, which says what is raised too.
    """
    if adaptation := parse_adaptation(name):
        from crossmodal.models.adapted import AdaptedImageEncoder

        base = load_image_encoder(adaptation.model, threads=threads, cache=cache)
        return AdaptedImageEncoder(base, adaptation)
    if checkpoint := find_native(name):
        from crossmodal.models.native.encoders import NativeImageEncoder

        return NativeImageEncoder(checkpoint, threads=threads)
    from crossmodal.models.clip.encoders import ClipImageEncoder

    source, identity = _identify_clip(name, cache)
    return ClipImageEncoder(source, identity, threads=threads)


def load_text_encoder(name: str, *, threads: int | None = None, cache: Path | None = None) -> TextEncoder:
    """The encoder of sentences of the model ``name``; the photo's side isn't kept in memory.

    Arguments as for ``load_image_encoder``. Models of our own encode text without torch, in numpy, whose
    threads can be set only before Python starts: ``threads`` doesn't concern them.
    """
    if adaptation := parse_adaptation(name):
        from crossmodal.models.adapted import AdaptedTextEncoder

        return AdaptedTextEncoder(
            load_text_encoder(adaptation.model, threads=threads, cache=cache), adaptation
        )
    if checkpoint := find_native(name):
        from crossmodal.models.native.encoders import native_text_encoder

        return native_text_encoder(checkpoint)
    from crossmodal.models.clip.encoders import ClipTextEncoder

    source, identity = _identify_clip(name, cache)
    return ClipTextEncoder(source, identity, threads=threads)


def weights_size(name: str, *, cache: Path | None = None) -> int:
    """The bytes on disk of the weights of the model ``name``, with its vocabulary if it has its own.

    Arguments and errors as for ``identify_model``; published weights are downloaded if they aren't there.
    """
    if adaptation := parse_adaptation(name):
        return weights_size(adaptation.model, cache=cache)
    checkpoint = find_native(name)
    files = [_find_clip(name, cache).weights] if checkpoint is None else checkpoint.weight_files
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise ModelError(f"The weights of the model {name!r} cannot be read: {error}.") from error


def find_native(name: str) -> NativeCheckpoint | None:
    """The checkpoint of our own that ``name`` means; a trained one is called by its absolute folder."""
    if name in SHIPPED:
        return NativeCheckpoint.open(SHIPPED[name], name)
    folder = find_checkpoint(Path(name).expanduser())
    return None if folder is None else NativeCheckpoint.open(folder, str(folder.absolute()))


def _find_clip(name: str, cache: Path | None) -> ClipSource:
    from crossmodal.models.clip.source import find_source

    source = find_source(name, cache)
    if source is None:
        raise ModelError(f"There is no model {name!r}. Known are: {_KNOWN}.")
    return source


def _identify_clip(name: str, cache: Path | None) -> tuple[ClipSource, ModelIdentity]:
    from crossmodal.models.fingerprints import remembered_fingerprint

    source = _find_clip(name, cache)
    weights = remembered_fingerprint(source.weights, cache or Path.home() / ".cache" / "crossmodal")
    return source, ModelIdentity(source.name, weights, source.preprocessing.describe(), source.dimension)
