"""The identity of a model, which an index stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError

__all__ = ["ModelIdentity", "fingerprint"]

# 64 bits: enough to distinguish all the weight files that one person will ever have.
_FINGERPRINT_HEX_DIGITS = 16


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """A model, its weights and its preprocessing: vectors of two models compare only if these are equal.

    ``name`` is what ``-m`` takes to load it again (a path is absolute) and is not compared: a folder may
    be moved. ``weights`` is ``fingerprint`` of the weight files; ``preprocessing`` is the text of
    ``ImagePreprocessing.describe``; ``dimension`` is the length of a vector. ``hubness`` is the fingerprint
    of the banks that documents are ranked with (``hubness.Banks``), empty without; it is not compared either,
    as hubness is computed from vectors.
    """

    name: str = field(compare=False)
    weights: str
    preprocessing: str
    dimension: int
    hubness: str = field(default="", compare=False)

    def __str__(self) -> str:
        return (
            f"{self.name} (weights {self.weights}, {self.dimension} dimensions, "
            f"preprocessing {self.preprocessing})"
        )

    def to_json(self) -> dict[str, Any]:
        """The identity as a JSON object."""
        return {
            "name": self.name,
            "weights": self.weights,
            "preprocessing": self.preprocessing,
            "dimension": self.dimension,
            "hubness": self.hubness,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelIdentity:
        """The reverse of ``to_json``. Raises ModelError where a field is missing or of another type."""
        try:
            return cls(
                name=str(value["name"]),
                weights=str(value["weights"]),
                preprocessing=str(value["preprocessing"]),
                dimension=int(value["dimension"]),
                # Identities that were written before there was any have none.
                hubness=str(value.get("hubness", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"This is not a model's identity: {value!r} ({error}).") from error


def fingerprint(files: Iterable[Path]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 over the contents of ``files``, in the order given."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:_FINGERPRINT_HEX_DIGITS]
