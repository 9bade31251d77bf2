"""Which form of a tower to use: the fastest one that is installed and faithful to the plain one.

Forms are compared by their embeddings of the probes. ``probes/photos.jpg`` is one sheet of squares: the
photos of ``data/toy-data`` (public domain or CC0, listed in ``SOURCES.csv`` there), each squeezed into a
square, and details of five of them. ``probes/sentences.txt`` holds a sentence a line, from one word to more
than twenty.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.cache import read_object, replace_file, user_cache
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.forms import Form, instruction_sets

__all__ = [
    "FAITHFUL",
    "FILE",
    "Candidate",
    "Memory",
    "centred_cosine",
    "choose",
    "photo_probes",
    "sentence_probes",
]

_log = logging.getLogger(__name__)

# The least cosine, centred, between a form's embedding of a probe and the plain one.
FAITHFUL = 0.999

# The measured cosines, beside a model's weights and in the model cache.
FILE = "runtimes.json"

_PROBES = Path(__file__).parent / "probes"
# The side of a square of the sheet, in pixels.
_SIDE = 224


class _Encoder(Protocol):
    def encode(self, items: Any, /) -> npt.NDArray[np.float32]: ...


Encoder = TypeVar("Encoder", bound=_Encoder)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Encoder]):
    """A form, and how to load the tower in it."""

    form: Form
    load: Callable[[], Encoder]


@dataclass(frozen=True, slots=True)
class Memory:
    """The measured cosines of one tower of one model, in small files.

    ``tower`` is ``image`` or ``text``; ``weights`` the fingerprint of the model's weights. ``files`` are read
    in this order; a new cosine goes to the first of ``writable`` that can be written.
    """

    tower: str
    weights: str
    files: Sequence[Path]
    writable: Sequence[Path]

    @classmethod
    def in_cache(cls, tower: str, weights: str, cache: Path | None) -> Memory:
        """The cosines in the model cache alone."""
        file = user_cache(cache) / FILE
        return cls(tower, weights, (file,), (file,))

    def cosine(self, form: Form) -> float | None:
        """The measured cosine of ``form`` with this version of its library on this CPU, or None."""
        for file in self.files:
            value = read_object(file).get(self._key(form))
            if isinstance(value, float):
                return value
        return None

    def remember(self, form: Form, cosine: float) -> None:
        """Store ``cosine``; where no file can be written it is measured again at the next start."""
        for file in self.writable:
            try:
                known = {**read_object(file), self._key(form): round(cosine, 6)}
                replace_file(file, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())
            except OSError as error:
                _log.warning("The faithfulness of %s cannot be stored in %s: %s.", form, file, error)
            else:
                return

    def _key(self, form: Form) -> str:
        return f"{self.weights} {self.tower}: {form}, {_version(form.package)}, {instruction_sets()}"


def choose(
    runtime: str,
    candidates: Sequence[Candidate[Encoder]],
    plain: Candidate[Encoder],
    *,
    probes: Callable[[], Any],
    memory: Memory,
    reference: Callable[[], npt.NDArray[np.float32] | None] = lambda: None,
) -> Encoder:
    """The tower in the first of ``candidates``, the fastest first, that is installed and faithful.

    ``plain`` is the reference, which is faithful by definition and the last choice. ``probes`` makes the
    inputs to compare by; it and the plain tower are loaded only for forms that ``memory`` has no cosine of,
    and the plain tower not where ``reference`` gives its embeddings of the probes, float32 (probes,
    dimension). ``runtime`` is ``auto``, or the library to use.

    Raises ModelError where ``runtime`` isn't known, isn't installed, or has no form that is faithful.
    """
    expected: npt.NDArray[np.float32] | None = None
    refused: list[str] = []
    for candidate in (*candidates, plain):
        form = candidate.form
        if runtime not in ("auto", form.library):
            continue
        if reason := form.unusable():
            refused.append(f"{form}: {reason}")
            continue
        if candidate is plain:
            return candidate.load()
        cosine = memory.cosine(form)
        if cosine is None or cosine >= FAITHFUL:
            try:
                encoder = candidate.load()
                if cosine is None:
                    # That a network cannot be computed in some type may show only here.
                    vectors = encoder.encode(probes())
                    if expected is None:
                        expected = reference()
                    if expected is None:
                        expected = plain.load().encode(probes())
                    cosine = centred_cosine(vectors, expected)
                    memory.remember(form, cosine)
            except RuntimeError as error:
                reason = f"it cannot compute the network: {' '.join(str(error).split())[:300]}"
                _log.warning("The %s tower of %s, %s: %s.", memory.tower, memory.weights, form, reason)
                refused.append(f"{form}: {reason}")
                continue
            if cosine >= FAITHFUL:
                return encoder
        refused.append(
            f"{form}: its vectors differ too much, with a cosine of {cosine:.4f} where {FAITHFUL} is the "
            "least"
        )
    advice = "Install one of them." if runtime == "auto" else "Give --runtime auto."
    raise ModelError(
        f"The model's {memory.tower} tower cannot be computed with --runtime {runtime} "
        f"({'; '.join(refused) or 'it has no such form'}). {advice}"
    )


def centred_cosine(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The least cosine between rows of two float32 (N, dimension), after each set's mean is subtracted.

    Embeddings of one modality share a direction, whose part in the cosine hides the differences that a search
    ranks by.
    """
    both = [rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (found, expected)]
    lengths = [np.linalg.norm(rows, axis=1) for rows in both]
    cosines = (both[0] * both[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], np.finfo(np.float64).tiny)
    # Not a number, where a form overflowed, is as unfaithful as can be.
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def photo_probes(preprocessing: ImagePreprocessing) -> npt.NDArray[np.uint8]:
    """The model inputs of twenty photos: uint8 (20, size, size, 3)."""
    from crossmodal.images import decode_image

    sheet = decode_image((_PROBES / "photos.jpg").read_bytes())
    return np.stack(
        [
            preprocessing.crop(sheet[top : top + _SIDE, left : left + _SIDE])
            for top in range(0, len(sheet), _SIDE)
            for left in range(0, sheet.shape[1], _SIDE)
        ]
    )


def sentence_probes() -> list[str]:
    """Forty English sentences of different lengths."""
    return (_PROBES / "sentences.txt").read_text(encoding="utf-8").splitlines()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # Some builds are distributed by another name, such as onnxruntime-gpu.
        return str(import_module(package).__version__)
