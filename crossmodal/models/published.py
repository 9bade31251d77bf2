"""Models that others have published: one shape for all libraries, and from a name to the model it means."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from crossmodal.errors import ModelError
from crossmodal.models.fingerprints import remembered_fingerprint, user_cache
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.protocols import ImageEncoder, TextEncoder

__all__ = ["PublishedModel", "find_published", "identify_published", "require_trusted_code"]

_KNOWN = (
    "the names that `crossmodal models` lists, each with `:PATH` behind it for local files; clip; "
    "clip:ARCH/PRETRAINED or clip:ARCH/PATH for anything else that open_clip builds; the path of a "
    "checkpoint that `crossmodal train` made, of a VSE++ checkpoint, or of a folder as the model hub has them"
)


class PublishedModel(Protocol):
    """A model that was found but not loaded."""

    @property
    def name(self) -> str:
        """What ``-m`` takes to find it again."""
        ...

    @property
    def dimension(self) -> int: ...

    @property
    def preprocessing(self) -> ImagePreprocessing: ...

    @property
    def custom_code(self) -> str | None:
        """Where the code lies that the model brings along and wants executed, or None."""
        ...

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """All that decides its vectors, downloaded if need be."""
        ...

    def image_encoder(
        self, identity: ModelIdentity, *, threads: int | None, trust_remote_code: bool, runtime: str
    ) -> ImageEncoder: ...

    def text_encoder(
        self, identity: ModelIdentity, *, threads: int | None, trust_remote_code: bool, runtime: str
    ) -> TextEncoder: ...


def find_published(name: str, cache: Path | None) -> PublishedModel:
    """The model that ``name`` means, without loading or downloading weights.

    Raises ModelError, with names that look alike, where it means none.
    """
    from crossmodal.models.huggingface.source import find_source as find_transformers
    from crossmodal.models.vsepp.source import find_source as find_vsepp

    model: PublishedModel | None = find_transformers(name, cache) or find_vsepp(name)
    if model is None:
        from crossmodal.models.clip.source import find_source as find_clip

        model = find_clip(name, cache)
    if model is None:
        raise ModelError(_unknown(name))
    return model


def identify_published(model: PublishedModel, cache: Path | None) -> ModelIdentity:
    """The identity of ``model``; its files are hashed once, and the hashes remembered in ``cache``."""
    fingerprints = [remembered_fingerprint(path, user_cache(cache)) for path in model.weight_files]
    weights = fingerprints[0]
    if len(fingerprints) > 1:
        weights = hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()[: len(weights)]
    return ModelIdentity(model.name, weights, model.preprocessing.describe(), model.dimension)


def require_trusted_code(model: str, code: str | None, trusted: bool) -> None:
    """Raises ModelError where ``model`` brings ``code`` to execute and nobody has said that it may."""
    if code is not None and not trusted:
        raise ModelError(
            f"The model {model} runs Python code of its own, from {code}, which can do on this machine "
            "whatever you can. Read it, and add --trust-remote-code if you trust it."
        )


def _unknown(name: str) -> str:
    from crossmodal.models.native.checkpoint import SHIPPED
    from crossmodal.models.zoo import near_names

    near = near_names(name.partition(":")[0], (*SHIPPED, "clip"))
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"There is no model {name!r}.{meant} Known are: {_KNOWN}."
