"""A model of this project on disk: a folder with two weight files, a vocabulary and a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.hubness import Banks
from crossmodal.models.identity import ModelIdentity, fingerprint
from crossmodal.models.native.text_config import TextConfig, TransformerConfig, read_text_config
from crossmodal.models.native.vocabularies import Vocabulary, WordPieces
from crossmodal.models.native.weight_files import read_weights, weights_as_bytes
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["SHIPPED", "NativeCheckpoint", "find_checkpoint", "save_checkpoint"]

SHIPPED: Mapping[str, Path] = {
    name: Path(__file__).parent / "weights" / name for name in ("clip-mini", "vse")
}

_CONFIG = "config.json"
_IMAGE = "image.safetensors"
_TEXT = "text.safetensors"
_VOCABULARY = "vocabulary.txt"
_PROBES = "probes.safetensors"
_FORMAT = "native 1"
# "vse++ 1" was the format before there were two kinds of text towers.
_FORMATS_OF_ANY_VERSION = ("native ", "vse++ ")


@dataclass(frozen=True)
class NativeCheckpoint:
    """A checkpoint folder whose configuration has been read; weights are read when they are needed.

    ``name`` is what ``-m`` takes; ``text`` holds the shapes of the text tower.
    """

    folder: Path
    name: str
    dimension: int
    preprocessing: ImagePreprocessing
    text: TextConfig

    @classmethod
    def open(cls, folder: Path, name: str) -> NativeCheckpoint:
        """Read the configuration in ``folder``; raises ModelError where it is missing or another one."""
        path = folder / _CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"There is no checkpoint in {folder}: {_CONFIG} is missing.") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"The model's configuration {path} cannot be read: {error}.") from error
        found = config.get("format") if isinstance(config, dict) else None
        if found != _FORMAT:
            raise ModelError(
                f"The model's configuration {path} has the format {found!r}; this version reads {_FORMAT!r}. "
                "Train the model again with `crossmodal train`."
            )
        try:
            dimension = int(config["dimension"])
            preprocessing = ImagePreprocessing.from_json(config["preprocessing"])
            text = read_text_config(config["text"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The model's configuration {path} is not complete: {error!r}.") from error
        return cls(folder, name, dimension, preprocessing, text)

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The files whose contents make the model: weights and vocabulary."""
        return tuple(self.folder / name for name in (_IMAGE, _TEXT, _VOCABULARY))

    @cached_property
    def identity(self) -> ModelIdentity:
        """Reads all files of the checkpoint once (about 10 ms for ``vse``)."""
        hubness = "" if self.banks is None else self.banks.fingerprint
        return ModelIdentity(self.name, self._weights, self.preprocessing.describe(), self.dimension, hubness)

    @cached_property
    def banks(self) -> Banks | None:
        """What the hubness of documents is computed with; None where there is nothing of these very weights.

        Raises ModelError for a damaged file.
        """
        banks = Banks.load(self.folder)
        fits = banks is not None and (banks.weights, banks.dimension) == (self._weights, self.dimension)
        return banks if fits else None

    @cached_property
    def _weights(self) -> str:
        try:
            return fingerprint(self.weight_files)
        except OSError as error:
            raise ModelError(f"The checkpoint {self.folder} is not complete: {error}.") from error

    def image_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters of ``towers.ImageTower``, float32."""
        return read_weights(self.folder / _IMAGE)

    def text_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters of the text tower, float32.

        Raises ModelError where a name or shape is not that of the configuration and the vocabulary.
        """
        weights = read_weights(self.folder / _TEXT)
        found = {name: value.shape for name, value in weights.items()}
        expected = self.text.shapes(len(self.vocabulary()), self.dimension)
        for name in sorted(found | expected):
            if found.get(name) != expected.get(name):
                raise ModelError(
                    f"The text weights in {self.folder} don't fit its configuration and vocabulary: {name} "
                    f"should have the shape {expected.get(name)} and has {found.get(name)}."
                )
        return weights

    def vocabulary(self) -> Vocabulary | WordPieces:
        """The vocabulary that maps a text to token numbers."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> Vocabulary | WordPieces:
        path = self.folder / _VOCABULARY
        if isinstance(self.text, TransformerConfig):
            return WordPieces.load(path, self.text.positions)
        return Vocabulary.load(path)

    def probe_vectors(self, tower: Literal["image", "text"]) -> npt.NDArray[np.float32] | None:
        """The plain form's embeddings of the probes, (probes, dimension), which come with the weights.

        Other forms are compared with them without torch. None where there are none of these very weights.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.folder / _PROBES, framework="np") as held:
                if (held.metadata() or {}).get("weights") != self.identity.weights:
                    return None
                vectors: npt.NDArray[np.float32] = held.get_tensor(tower).astype(np.float32)
                return vectors
        except (OSError, SafetensorError):
            return None

    def save_probe_vectors(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Write ``probe_vectors`` of both towers, in half precision, which moves a cosine by 1e-7."""
        from safetensors.numpy import save_file

        halves = {tower: rows.astype(np.float16) for tower, rows in vectors.items()}
        save_file(halves, self.folder / _PROBES, {"weights": self.identity.weights})


def save_checkpoint(
    folder: Path,
    *,
    image_weights: Mapping[str, npt.NDArray[np.floating[Any]]],
    text_weights: Mapping[str, npt.NDArray[np.floating[Any]]],
    text: TextConfig,
    vocabulary: Vocabulary | WordPieces,
    dimension: int,
    preprocessing: ImagePreprocessing,
    training: Mapping[str, Any],
    quantize_image: bool = False,
    quantize_text: bool = False,
) -> None:
    """Write a checkpoint, weights as fp16. ``training`` is stored as it is, for people to read.

    ``quantize_image`` and ``quantize_text`` store a tower's matrices as int8 with scales, which halves them.
    The configuration is written last: a folder without it is not a checkpoint. Raises ModelError where a
    weight is infinite or not a number, or too large for fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG).unlink(missing_ok=True)
    (folder / _IMAGE).write_bytes(weights_as_bytes(image_weights, quantized=quantize_image))
    (folder / _TEXT).write_bytes(weights_as_bytes(text_weights, quantized=quantize_text))
    vocabulary.save(folder / _VOCABULARY)
    config = {
        "format": _FORMAT,
        "dimension": dimension,
        "preprocessing": preprocessing.to_json(),
        "text": text.to_json(),
        "training": dict(training),
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def find_checkpoint(path: Path) -> Path | None:
    """The checkpoint folder that ``path`` is, or that it is a file of; None where there is none.

    One of a version that cannot be read counts too: ``NativeCheckpoint.open`` says what is wrong with it.
    """
    folder = path.parent if path.is_file() else path
    config = folder / _CONFIG
    try:
        found = json.loads(config.read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return folder if isinstance(found, str) and found.startswith(_FORMATS_OF_ANY_VERSION) else None
