"""Any model's encoders with their vectors truncated, centred, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.adaptation import Adaptation
from crossmodal.models.centering import Centering
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.protocols import ImageEncoder, TextEncoder

__all__ = ["AdaptedImageEncoder", "AdaptedTextEncoder", "adapt_vectors", "adapted_identity"]

Floats = npt.NDArray[np.float32]


class AdaptedImageEncoder:
    """The encoder of photos ``base`` with ``adaptation`` applied to what it returns."""

    def __init__(self, base: ImageEncoder, adaptation: Adaptation) -> None:
        centering = _read_centering(adaptation, base.identity)
        self.identity: ModelIdentity = _adapted(adaptation, base.identity, centering)
        self.preprocessing: ImagePreprocessing = base.preprocessing
        self._base = base
        self._mean = None if centering is None else centering.image

    @property
    def runtime(self) -> str:
        """That of the encoder it is based on."""
        return self._base.runtime

    @property
    def concurrency(self) -> int:
        """That of the encoder it is based on."""
        return self._base.concurrency

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        return adapt_vectors(self._base.encode(pixels), self.identity.dimension, self._mean)


class AdaptedTextEncoder:
    """The encoder of sentences ``base`` with ``adaptation`` applied to what it returns."""

    def __init__(self, base: TextEncoder, adaptation: Adaptation) -> None:
        centering = _read_centering(adaptation, base.identity)
        self.identity: ModelIdentity = _adapted(adaptation, base.identity, centering)
        self._base = base
        self._mean = None if centering is None else centering.text

    @property
    def runtime(self) -> str:
        """That of the encoder it is based on."""
        return self._base.runtime

    @property
    def concurrency(self) -> int:
        """That of the encoder it is based on."""
        return self._base.concurrency

    @property
    def independent(self) -> bool:
        """That of the encoder it is based on."""
        return self._base.independent

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says."""
        return adapt_vectors(self._base.encode(texts), self.identity.dimension, self._mean)


def adapted_identity(adaptation: Adaptation, base: ModelIdentity) -> ModelIdentity:
    """The identity of ``base`` with ``adaptation``, whose file is read.

    Truncation shows in ``dimension``; a dimension that is the model's own changes nothing, and such an index
    is that of the plain model. Centring shows in ``weights``, by the fingerprint of its means.

    Raises ModelError where ``dim`` is larger than the model's dimension, or where the centring file cannot
    be read or was made for another model or dimension.
    """
    return _adapted(adaptation, base, _read_centering(adaptation, base))


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


def _unit(rows: npt.NDArray[np.float64]) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def _adapted(adaptation: Adaptation, base: ModelIdentity, centering: Centering | None) -> ModelIdentity:
    identity = replace(_truncated(adaptation, base), name=replace(adaptation, model=base.name).name)
    if centering is None:
        return identity
    return replace(identity, weights=f"{base.weights}+{centering.fingerprint}")


def _truncated(adaptation: Adaptation, base: ModelIdentity) -> ModelIdentity:
    if adaptation.dim is None:
        return base
    if adaptation.dim > base.dimension:
        raise ModelError(
            f"--dim {adaptation.dim} is more than the {base.dimension} dimensions of {base.name}; give "
            f"{base.dimension} or less."
        )
    return replace(base, name=Adaptation(base.name, adaptation.dim).name, dimension=adaptation.dim)


def _read_centering(adaptation: Adaptation, base: ModelIdentity) -> Centering | None:
    if adaptation.centering is None:
        return None
    centering = Centering.load(adaptation.centering)
    centering.check(_truncated(adaptation, base), adaptation.centering)
    return centering
