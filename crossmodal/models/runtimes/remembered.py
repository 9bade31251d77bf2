"""How faithful each form of a tower was found to be, kept in small files."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from crossmodal.models.cached_files import read_object, replace_file
from crossmodal.models.fingerprints import user_cache
from crossmodal.models.runtimes.forms import Form
from crossmodal.models.runtimes.machine import instruction_sets

__all__ = ["FILE", "Memory"]

# Its name beside a model's weights and in the model cache.
FILE = "runtimes.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Memory:
    """The measured cosines of one tower of one model.

    ``tower`` is ``image`` or ``text``; ``weights`` the fingerprint of the model's weights. ``files`` are read
    in this order; a new cosine goes to the first of ``writable`` that can be written.
    """

    tower: str
    weights: str
    files: Sequence[Path]
    writable: Sequence[Path]

    @classmethod
    def in_cache(cls, tower: str, weights: str, cache: Path | None) -> Memory:
        """What is kept in the model cache alone."""
        file = user_cache(cache) / FILE
        return cls(tower, weights, (file,), (file,))

    def cosine(self, form: Form) -> float | None:
        """What was measured for ``form`` with the library's version and the CPU's instructions, if it was."""
        for file in self.files:
            value = _read(file).get(self._key(form))
            if value is not None:
                return value
        return None

    def remember(self, form: Form, cosine: float) -> None:
        """Keep it; where no file can be written it will be measured again."""
        for file in self.writable:
            try:
                known = {**_read(file), self._key(form): round(cosine, 6)}
                replace_file(file, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())
            except OSError as error:
                _log.warning("The faithfulness of %s cannot be kept in %s: %s.", form, file, error)
            else:
                return

    def _key(self, form: Form) -> str:
        return f"{self.weights} {self.tower}: {form}, {_version(form.package)}, {instruction_sets()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # Some builds are distributed by another name, such as onnxruntime-gpu.
        return str(import_module(package).__version__)


def _read(file: Path) -> dict[str, float]:
    return {key: value for key, value in read_object(file).items() if isinstance(value, float)}
