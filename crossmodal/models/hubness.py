"""Hubness: how near a photo or a caption is to any query, which is taken off its cosine.

In a space of many dimensions some documents are among the nearest of very many queries (Radovanović et al.,
"Hubs in Space", 2010). What a document has of that is known when it is indexed: its hubness is
``log mean exp(s cos(document, query)) / s`` over a bank of queries of the other modality, and documents are
ranked by cosine minus hubness (inverted softmax, Smith et al. 2017; querybank normalisation, Bogolin et al.
2022). A model brings its banks along; no index, which changes, has a part in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.adaptation import adapt_vectors
from crossmodal.models.cache import replace_file
from crossmodal.records import IMAGE, MODALITIES, TEXT, Modality

__all__ = ["HUBNESS_FILE", "SHARPNESS", "Banks"]

# Beside the weights of a model of our own.
HUBNESS_FILE = "hubness.safetensors"

# The s of the formula, by what kind of document it is; larger ones go by a few vectors of a bank
# (docs/training.md). Photos are compared with captions, of which a bank has more.
SHARPNESS: Mapping[Modality, float] = {IMAGE: 16.0, TEXT: 10.0}

_FORMAT = "hubness 1"

# Hubness is rounded to this: coarser than float64 sums differ by their order, so that equal vectors have
# equal hubness, and exact in float32, as which searches have it.
_STEP = 2.0**-24

_ROWS = 1024

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Banks:
    """What stands for all queries: ``image`` int8 (n, dimension), photos, and ``text`` (m, dimension).

    Each row is a unit vector times whatever makes its largest component 127. ``weights`` are those of the
    identity of the model that made them; ``data`` says in words of which photos and captions.
    """

    image: Codes
    text: Codes
    weights: str
    data: str = ""

    @classmethod
    def of(cls, image: Floats, text: Floats, *, weights: str, data: str = "") -> Banks:
        """Banks of unit vectors float32 (n, dimension) and (m, dimension)."""
        return cls(_codes(image), _codes(text), weights, data)

    @property
    def dimension(self) -> int:
        """The length of each vector."""
        return int(self.image.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ where the hubness of any document does."""
        formula = f"{dict(SHARPNESS)} {self.image.shape} {self.text.shape}"
        digest = hashlib.sha256(formula.encode())
        digest.update(self.image.tobytes())
        digest.update(self.text.tobytes())
        return digest.hexdigest()[:16]

    def hubness(self, vectors: npt.NDArray[np.floating[Any]], modality: Modality) -> Floats:
        """The hubness float32 (n,) of documents of ``modality`` with unit ``vectors`` (n, dimension).

        It depends on each vector alone.
        """
        bank, sharpness = self._unit[TEXT if modality == IMAGE else IMAGE], SHARPNESS[modality]
        found = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), _ROWS):
            cosines = vectors[start : start + _ROWS].astype(np.float64) @ bank
            means = np.log(np.mean(np.exp(sharpness * cosines), axis=1)) / sharpness
            found[start : start + _ROWS] = np.rint(means / _STEP) * _STEP
        return found

    def adapted(self, dimension: int, image: Floats | None = None, text: Floats | None = None) -> Banks:
        """The banks of the same model with its vectors truncated, and then the means ``image`` of photos and
        ``text`` of captions, (dimension,) each, taken off."""
        photos, captions = (
            adapt_vectors(self._unit[modality].T.astype(np.float32), dimension, mean)
            for modality, mean in ((IMAGE, image), (TEXT, text))
        )
        return Banks.of(photos, captions, weights=self.weights, data=self.data)

    def to_bytes(self) -> bytes:
        """The content of a file, which ``from_bytes`` reads."""
        from safetensors.numpy import save

        metadata = {"format": _FORMAT, "weights": self.weights, "data": self.data}
        content: bytes = save({"image": self.image, "text": self.text}, metadata)
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Banks:
        """The reverse of ``to_bytes``. Raises ModelError for what is damaged or something else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            metadata = _metadata(content)
            arrays: dict[str, Any] = load(content)
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"the format is {metadata.get('format')!r}, not {_FORMAT!r}")
            image, text = (np.asarray(arrays[modality], np.int8) for modality in MODALITIES)
            shapes = image.shape, text.shape
            if (
                {len(shape) for shape in shapes} != {2}
                or 0 in sum(shapes, ())
                or image.shape[1] != text.shape[1]
            ):
                raise ValueError(f"the banks have the shapes {shapes}")
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The banks of a model's hubness cannot be used: {error!r}.") from error
        return cls(image, text, metadata["weights"], metadata.get("data", ""))

    def save(self, folder: Path) -> None:
        """Writes the file beside the weights in ``folder``. Raises ModelError where that is impossible."""
        path = folder / HUBNESS_FILE
        try:
            replace_file(path, self.to_bytes())
        except OSError as error:
            raise ModelError(f"The banks {path} cannot be written: {error.strerror}.") from error

    @classmethod
    def load(cls, folder: Path) -> Banks | None:
        """The banks beside the weights in ``folder``; None where there are none.

        Raises ModelError for a file that is damaged or cannot be read.
        """
        path = folder / HUBNESS_FILE
        try:
            return cls.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ModelError) as error:
            raise ModelError(
                f"{path} cannot be used ({error}). Restore it, or delete it to rank without hubness."
            ) from error

    @cached_property
    def _unit(self) -> Mapping[Modality, npt.NDArray[np.float64]]:
        """The rows of each bank at unit length, as columns: float64 (dimension, n)."""
        return {modality: _unit(codes).T for modality, codes in ((IMAGE, self.image), (TEXT, self.text))}


def _codes(vectors: Floats) -> Codes:
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    return np.rint(vectors / np.where(largest > 0, largest, 1) * 127).astype(np.int8)


def _unit(codes: Codes) -> npt.NDArray[np.float64]:
    rows = codes.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _metadata(content: bytes) -> dict[str, str]:
    """What safetensors has beside the arrays, which its reader of bytes doesn't give."""
    size = int.from_bytes(content[:8], "little")
    header: dict[str, dict[str, str]] = json.loads(content[8 : 8 + size])
    return header.get("__metadata__", {})
