"""The mean vector of each modality in a file, to be subtracted from that modality's vectors."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.identity import ModelIdentity

__all__ = ["Centering"]

_FORMAT = "centering 1"
_MEANS = ("image", "text")


@dataclass(frozen=True, slots=True)
class Centering:
    """The means of a model's photo vectors and of its caption vectors, and what they were made from.

    ``image`` and ``text`` are float32 (dimension,), no longer than 1, as means of unit vectors are. ``model``
    is the identity of the model that made the vectors, truncated if they were; ``data`` says in words which
    photos and captions were averaged.
    """

    model: ModelIdentity
    image: npt.NDArray[np.float32]
    text: npt.NDArray[np.float32]
    data: str = ""

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all. Raises ModelError where that is impossible."""
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
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
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


def _check_means(means: Mapping[str, npt.NDArray[np.float32]], dimension: int) -> None:
    for name, mean in means.items():
        if mean.shape != (dimension,):
            raise ValueError(f"the mean of {name} has the shape {mean.shape}, not ({dimension},)")
        # A mean of unit vectors lies inside the unit sphere; the rest is rounding.
        if not np.isfinite(mean).all() or np.linalg.norm(mean) > 1 + 1e-5:
            raise ValueError(f"the mean of {name} is not a mean of unit vectors")
