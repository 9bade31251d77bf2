"""Which form of a tower to use: the fastest one that is installed and faithful to the plain one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crossmodal.errors import ModelError
from crossmodal.models.runtimes.forms import Form
from crossmodal.models.runtimes.remembered import Memory

__all__ = ["FAITHFUL", "Candidate", "centred_cosine", "choose"]

_log = logging.getLogger(__name__)

# The least cosine, centred, between a probe's vector and the plain one.
FAITHFUL = 0.999


class _Encoder(Protocol):
    def encode(self, items: Any, /) -> npt.NDArray[np.float32]: ...


Encoder = TypeVar("Encoder", bound=_Encoder)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Encoder]):
    """A form, and how to load the tower in it."""

    form: Form
    load: Callable[[], Encoder]


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

    ``plain`` is the reference, which is faithful by definition and the last choice. ``probes`` makes what to
    compare them by; it and the plain tower are loaded only for forms of which ``memory`` knows nothing, and
    the plain tower not where ``reference`` gives its vectors of the probes, float32 (probes, dimension).
    ``runtime`` is ``auto``, or the one that is to be used.

    Raises ModelError where ``runtime`` isn't known, isn't installed, or has no form that is faithful.
    """
    wanted = [
        candidate
        for candidate in (*candidates, plain)
        if runtime == "auto" or candidate.form.belongs_to(runtime)
    ]
    expected: npt.NDArray[np.float32] | None = None
    refused: list[str] = []
    for candidate in wanted:
        form = candidate.form
        if reason := form.unusable():
            refused.append(f"{form}: {reason}")
            continue
        if candidate is plain:
            return candidate.load()
        cosine = memory.cosine(form)
        if cosine is not None and cosine < FAITHFUL:
            refused.append(f"{form}: {_unfaithful(cosine)}")
            continue
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
        refused.append(f"{form}: {_unfaithful(cosine)}")
    advice = "Install one of them." if runtime == "auto" else "Give --runtime auto."
    raise ModelError(
        f"The model's {memory.tower} tower cannot be computed with --runtime {runtime} "
        f"({'; '.join(refused) or 'it has no such form'}). {advice}"
    )


def centred_cosine(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The least cosine between rows of two float32 (N, dimension), after each set's mean is subtracted.

    Vectors of one modality all point one way; their mean would hide the differences that a search ranks by.
    """
    both = [rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (found, expected)]
    lengths = [np.linalg.norm(rows, axis=1) for rows in both]
    cosines = (both[0] * both[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], np.finfo(np.float64).tiny)
    # Not a number, where a form overflowed, is as unfaithful as can be.
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _unfaithful(cosine: float) -> str:
    return f"its vectors differ too much, with a cosine of {cosine:.4f} where {FAITHFUL} is the least"
