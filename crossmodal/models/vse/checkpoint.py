"""A VSE++ model on disk: a folder with two weight files, a vocabulary and a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.identity import ModelIdentity, fingerprint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.vse.vocabulary import Vocabulary

__all__ = ["SHIPPED", "VseCheckpoint", "find_checkpoint", "save_checkpoint"]

SHIPPED = Path(__file__).parent / "weights"

_CONFIG = "config.json"
_IMAGE = "image.safetensors"
_TEXT = "text.safetensors"
_VOCABULARY = "vocabulary.txt"
_FORMAT = "vse++ 1"


@dataclass(frozen=True, slots=True)
class VseCheckpoint:
    """A checkpoint folder whose configuration has been read; weights are read when asked for."""

    folder: Path
    name: str
    dimension: int
    preprocessing: ImagePreprocessing

    @classmethod
    def open(cls, folder: Path, name: str) -> VseCheckpoint:
        """Read the configuration in ``folder``; raises ModelError where it is missing or another one."""
        path = folder / _CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"There is no VSE++ checkpoint in {folder}: {_CONFIG} is missing.") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"The VSE++ configuration {path} cannot be read: {error}.") from error
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise ModelError(f"{path} doesn't belong to a VSE++ checkpoint of the format {_FORMAT!r}.")
        try:
            dimension = int(config["dimension"])
            preprocessing = ImagePreprocessing.from_json(config["preprocessing"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The VSE++ configuration {path} is not complete: {error!r}.") from error
        return cls(folder, name, dimension, preprocessing)

    @property
    def identity(self) -> ModelIdentity:
        """Reads all files of the checkpoint once (about 10 ms for the shipped one)."""
        files = [self.folder / name for name in (_IMAGE, _TEXT, _VOCABULARY)]
        try:
            weights = fingerprint(files)
        except OSError as error:
            raise ModelError(f"The VSE++ checkpoint {self.folder} is not complete: {error}.") from error
        return ModelIdentity(self.name, weights, self.preprocessing.describe(), self.dimension)

    def image_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters of ``network.ImageTower``, float32."""
        return self._weights(_IMAGE)

    def text_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters of ``network.TextTower``, float32."""
        return self._weights(_TEXT)

    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.folder / _VOCABULARY)

    def _weights(self, name: str) -> dict[str, npt.NDArray[np.float32]]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.folder / name
        try:
            return {key: value.astype(np.float32) for key, value in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"The weight file {path} cannot be read: {error}.") from error


def save_checkpoint(
    folder: Path,
    *,
    image_weights: Mapping[str, npt.NDArray[np.floating[Any]]],
    text_weights: Mapping[str, npt.NDArray[np.floating[Any]]],
    vocabulary: Vocabulary,
    dimension: int,
    preprocessing: ImagePreprocessing,
    training: Mapping[str, Any],
) -> None:
    """Write a checkpoint, weights as fp16. ``training`` is kept as it is, for people to read.

    The configuration is written last: a folder without it is not a checkpoint.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG).unlink(missing_ok=True)
    for name, weights in ((_IMAGE, image_weights), (_TEXT, text_weights)):
        # Sorted, so that the same weights always make the same file and so the same identity.
        half = {key: np.ascontiguousarray(weights[key], np.float16) for key in sorted(weights)}
        (folder / name).write_bytes(save(half))
    vocabulary.save(folder / _VOCABULARY)
    config = {
        "format": _FORMAT,
        "dimension": dimension,
        "preprocessing": preprocessing.to_json(),
        "training": dict(training),
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def find_checkpoint(path: Path) -> Path | None:
    """The checkpoint folder that ``path`` is, or that it is a file of; None where there is none."""
    folder = path.parent if path.is_file() else path
    config = folder / _CONFIG
    try:
        if json.loads(config.read_text(encoding="utf-8")).get("format") == _FORMAT:
            return folder
    except (OSError, ValueError, AttributeError):
        return None
    return None
