"""Options behind a model's name, and the encoders whose embeddings they average, truncate or centre.

``vse?views=3``, ``vse?dim=128`` or ``vse?dim=128&centering=/data/centering.safetensors``.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.cache import replace_file
from crossmodal.models.encoders import ImageEncoder, TextEncoder
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.views import VIEWS, mean_over_views

__all__ = [
    "Adaptation",
    "AdaptedImageEncoder",
    "AdaptedTextEncoder",
    "Centering",
    "adapt_vectors",
    "adapted_identity",
    "adapted_name",
    "parse_adaptation",
    "read_centering",
]

Floats = npt.NDArray[np.float32]

_DIM = "dim"
_VIEWS = "views"
_CENTERING = "centering"
_FORMAT = "centering 1"
_MEANS = ("image", "text")
_LISTED_VIEWS = ", ".join(map(str, VIEWS))


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What is done to the vectors of ``model`` before they are stored or compared.

    ``views`` averages so many views of each photo (``views.VIEWS``); ``dim`` keeps the first components and
    scales them to unit length (Matryoshka truncation, Kusupati et al. 2022); ``centering`` is a file with the
    mean of each modality, which is then subtracted. None: not done.
    """

    model: str
    dim: int | None = None
    centering: Path | None = None
    views: int | None = None

    @property
    def name(self) -> str:
        """The canonical name: ``dim`` first, then ``views``, the file's path absolute and percent-encoded."""
        options = []
        if self.dim is not None:
            options.append(f"{_DIM}={self.dim}")
        if (self.views or 1) > 1:
            options.append(f"{_VIEWS}={self.views}")
        if self.centering is not None:
            # Encoded, because a path may hold "&" and "?", and names stand in YAML and in shell commands.
            options.append(f"{_CENTERING}={quote(str(self.centering.absolute()))}")
        return f"{self.model}?{'&'.join(options)}" if options else self.model


def parse_adaptation(name: str) -> Adaptation | None:
    """The options behind the last ``?`` of ``name``; None where there are none.

    A path may hold a ``?`` too, so what follows counts as options only if every part is ``dim=...``,
    ``views=...`` or ``centering=...``. A path in ``centering`` is percent-decoded; a relative one is of the
    current folder.

    Raises ModelError for an option that is given twice or has a value that cannot be used.
    """
    model, mark, text = name.rpartition("?")
    pairs = [part.partition("=") for part in text.split("&")]
    if not mark or not model or not all(key in (_DIM, _VIEWS, _CENTERING) and sign for key, sign, _ in pairs):
        return None
    options = {key: value for key, _, value in pairs}
    if len(options) < len(pairs):
        raise ModelError(
            f"The model {name!r} gives an option twice; each of dim, views and centering can stand once."
        )
    return Adaptation(
        model,
        _read_dim(name, options.get(_DIM)),
        _read_path(name, options.get(_CENTERING)),
        _read_views(name, options.get(_VIEWS)),
    )


def adapted_name(
    model: str, *, dim: int | None = None, centering: Path | None = None, views: int | None = None
) -> str:
    """The name ``model`` with ``dim``, ``centering`` and ``views`` in place of those it may have already."""
    adaptation = parse_adaptation(model) or Adaptation(model)
    if dim is not None:
        adaptation = replace(adaptation, dim=dim)
    if centering is not None:
        adaptation = replace(adaptation, centering=expanded(centering))
    if views is not None:
        adaptation = replace(adaptation, views=views)
    return adaptation.name


@dataclass(frozen=True, slots=True)
class Centering:
    """The means of a model's photo vectors and of its caption vectors, and what they were made from.

    ``image`` and ``text`` are float32 (dimension,), no longer than 1, as means of unit vectors are. ``model``
    is the identity of the model that made the vectors, truncated if they were; ``data`` says in words which
    photos and captions were averaged.
    """

    model: ModelIdentity
    image: Floats
    text: Floats
    data: str = ""

    def save(self, path: Path) -> None:
        """Write the file as a whole. Raises ModelError where it cannot be written."""
        from safetensors.numpy import save

        metadata = {
            "format": _FORMAT,
            "model": self.model.name,
            "weights": self.model.weights,
            "preprocessing": self.model.preprocessing,
            "dimension": str(self.model.dimension),
            "data": self.data,
        }
        content = save({"image": self.image, "text": self.text}, metadata)
        try:
            replace_file(path, content)
        except OSError as error:
            raise ModelError(f"The centering file {path} cannot be written: {error.strerror}.") from error

    @classmethod
    def load(cls, path: Path) -> Centering:
        """Read a file that ``save`` made. Raises ModelError where it is missing, damaged or another file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                metadata: Mapping[str, str] = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}, not {_FORMAT!r}")
                means = {name: np.asarray(file.get_tensor(name), np.float32) for name in _MEANS}
            model = ModelIdentity.from_json({**metadata, "name": metadata.get("model", "")})
            _check_means(means, model.dimension)
        except (OSError, SafetensorError, ValueError, TypeError, ModelError) as error:
            raise ModelError(
                f"The centering file {path} cannot be used: {' '.join(str(error).split())}. Make one with "
                "`crossmodal evaluate --gap -d DATA`."
            ) from error
        return cls(model, means["image"], means["text"], metadata.get("data", ""))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 over both means, the photos' first."""
        digest = hashlib.sha256(self.image.astype("<f4").tobytes() + self.text.astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    def check(self, model: ModelIdentity, path: Path) -> None:
        """Raise ModelError unless the means are those of ``model``'s vectors; ``path`` is for the message."""
        if self.model != model:
            raise ModelError(
                f"The centering file {path} was made for {self.model}, but the model is {model}. Make one "
                f"with `crossmodal evaluate --gap -d DATA -m {shlex.quote(model.name)}`."
            )


class _Adapted:
    """What both encoders share: those of ``base`` but for the identity and the embeddings."""

    def __init__(self, base: ImageEncoder | TextEncoder, adaptation: Adaptation) -> None:
        centering = read_centering(adaptation, base.identity)
        self.identity = _adapted(adaptation, base.identity, centering)
        self.runtime = base.runtime
        self.concurrency = base.concurrency
        self._centering = centering


class AdaptedImageEncoder(_Adapted):
    """The image encoder ``base`` with ``adaptation`` applied to its embeddings."""

    def __init__(self, base: ImageEncoder, adaptation: Adaptation) -> None:
        super().__init__(base, adaptation)
        self.preprocessing = base.preprocessing
        self._base = base
        self._views = adaptation.views or 1

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        mean = None if self._centering is None else self._centering.image
        vectors = mean_over_views(self._base.encode, pixels, self._views)
        return adapt_vectors(vectors, self.identity.dimension, mean)


class AdaptedTextEncoder(_Adapted):
    """The text encoder ``base`` with ``adaptation`` applied to its embeddings."""

    def __init__(self, base: TextEncoder, adaptation: Adaptation) -> None:
        super().__init__(base, adaptation)
        self.independent = base.independent
        self._base = base

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says."""
        mean = None if self._centering is None else self._centering.text
        return adapt_vectors(self._base.encode(texts), self.identity.dimension, mean)


def adapted_identity(adaptation: Adaptation, base: ModelIdentity) -> ModelIdentity:
    """The identity of ``base`` with ``adaptation``, whose file is read.

    Views show in ``weights``, by their number. Truncation shows in ``dimension``; a dimension that is the
    model's own changes nothing, and such an index is that of the plain model. Centring shows in ``weights``,
    by the fingerprint of its means.

    Raises ModelError where ``dim`` is larger than the model's dimension, or where the centring file cannot
    be read or was made for another model or dimension.
    """
    return _adapted(adaptation, base, read_centering(adaptation, base))


def adapt_vectors(vectors: Floats, dim: int, mean: Floats | None = None) -> Floats:
    """The first ``dim`` components at unit length, then minus ``mean`` (dim,) and at unit length again.

    ``vectors`` float32 (N, dimension) to float32 (N, dim). Unit vectors that keep all their components and
    have nothing subtracted are returned as they are. A vector that is exactly the mean becomes zero, which
    is as far from everything.
    """
    if dim < vectors.shape[1]:
        vectors = _unit(vectors[:, :dim].astype(np.float64))
    if mean is not None:
        vectors = _unit(vectors.astype(np.float64) - mean.astype(np.float64))
    return vectors


def _read_dim(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ModelError(f"The model {name!r} has dim={text}; it must be a whole number, 1 or more.")
    return int(text)


def _read_views(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if text not in map(str, VIEWS):
        raise ModelError(f"The model {name!r} has views={text}; it must be one of {_LISTED_VIEWS}.")
    return int(text)


def _read_path(name: str, text: str | None) -> Path | None:
    if text is None:
        return None
    if not text:
        raise ModelError(f"The model {name!r} names no file after centering=.")
    return expanded(unquote(text))


def _check_means(means: Mapping[str, Floats], dimension: int) -> None:
    for name, mean in means.items():
        if mean.shape != (dimension,):
            raise ValueError(f"the mean of {name} has the shape {mean.shape}, not ({dimension},)")
        # A mean of unit vectors lies inside the unit sphere; the rest is rounding.
        if not np.isfinite(mean).all() or np.linalg.norm(mean) > 1 + 1e-5:
            raise ValueError(f"the mean of {name} is not a mean of unit vectors")


def _unit(rows: npt.NDArray[np.float64]) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def _adapted(adaptation: Adaptation, base: ModelIdentity, centering: Centering | None) -> ModelIdentity:
    identity = replace(_truncated(adaptation, base), name=replace(adaptation, model=base.name).name)
    if centering is None:
        return identity
    return replace(identity, weights=f"{base.weights}+{centering.fingerprint}")


def _truncated(adaptation: Adaptation, base: ModelIdentity) -> ModelIdentity:
    if (adaptation.views or 1) > 1:
        name = Adaptation(base.name, views=adaptation.views).name
        base = replace(base, name=name, weights=f"{base.weights}+{adaptation.views}views")
    if adaptation.dim is None:
        return base
    if adaptation.dim > base.dimension:
        raise ModelError(
            f"--dim {adaptation.dim} is more than the {base.dimension} dimensions of {base.name}; give "
            f"{base.dimension} or less."
        )
    name = adapted_name(base.name, dim=adaptation.dim)
    return replace(base, name=name, dimension=adaptation.dim)


def read_centering(adaptation: Adaptation, base: ModelIdentity) -> Centering | None:
    """The means that ``adaptation`` names, of the vectors of ``base``; raises as ``adapted_identity``."""
    if adaptation.centering is None:
        return None
    centering = Centering.load(adaptation.centering)
    centering.check(_truncated(adaptation, base), adaptation.centering)
    return centering
