"""Several weighted vectors as one: a query of terms is searched like any other vector.

A term j of modality t adds ``w_j * z_j(v)`` to the worth of a document v of the modality m, where
``z_j(v) = (cos(t_j, v) - mean[t, m]) / std[t, m]`` (see ``calibration``). All z_j are linear in v, so that
their sum is, up to a constant, the inner product with ``sum_j (w_j / std[t_j, m]) t_j``: one search ranks by
it. Where a term is of another modality than the documents, their hubness is taken off, once, after that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossmodal.errors import QueryError
from crossmodal.query.calibration import Calibration
from crossmodal.records import IMAGE, TEXT, Modality

__all__ = ["ComposedQuery", "EncodedTerm", "compose"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# The least variance of a sum of terms, in units of that of its terms if they were independent.
_LEAST_VARIANCE = 0.1

# What is left of terms that cancel out, in units of what they would be without their signs. Encoders give
# equal inputs vectors that differ in the last bits of float32 (2**-24), and those are no direction to search.
_CANCELLED = 1e-4


@dataclass(frozen=True, slots=True)
class EncodedTerm:
    """A term as a vector: float32 (dimension,) of unit length, made of a text or of a photo.

    ``weight`` is not 0; ``name`` is what messages call the term.
    """

    vector: Floats
    weight: float
    modality: Modality
    name: str = ""


@dataclass(frozen=True, slots=True)
class ComposedQuery:
    """One vector, float32 (dimension,) of unit length, that stands for several terms.

    A query that is ``corrected`` ranks by cosine minus hubness, any other by cosine. A document with the
    value c has ``(length * c - offset) / spread`` standard deviations above unrelated documents. The vector
    is the sum of the terms' vectors, each times its one of ``factors``.
    """

    vector: Floats
    calibration: Calibration | None = None
    length: float = 1.0
    offset: float = 0.0
    spread: float = 1.0
    corrected: bool = False
    factors: tuple[float, ...] = (1.0,)

    def standardised(self, values: npt.ArrayLike) -> Doubles:
        """How far above unrelated documents each value (n,) is, in standard deviations: float64 (n,)."""
        return (self.length * np.asarray(values, np.float64) - self.offset) / self.spread

    def score(self, values: npt.ArrayLike) -> Doubles | None:
        """The score in 0..1 of each value (n,), float64 (n,); None without a calibration."""
        return None if self.calibration is None else self.calibration.score(self.standardised(values))


def compose(
    terms: Sequence[EncodedTerm], target: Modality, calibration: Calibration | None = None
) -> ComposedQuery:
    """The query that ranks documents of the modality ``target`` by the weighted sum of the terms' z.

    A single positive term keeps its vector to the last bit. Without a calibration all standard deviations
    count as equal. Raises QueryError where the terms cancel out, or none of them is positive.
    """
    if not any(term.weight > 0 for term in terms):
        raise QueryError("A query needs at least one term with a positive weight: what to look for.")
    if len(terms) == 1:
        return _single(terms[0], target, calibration)
    # Once for the whole query, which is a direction like that of one term, whatever its terms add up to.
    corrected = any(term.weight > 0 and term.modality != target for term in terms)
    pairs = [None if calibration is None else calibration.pair(term.modality, target) for term in terms]
    factors = [
        term.weight / (1.0 if pair is None else pair.std) for term, pair in zip(terms, pairs, strict=True)
    ]
    vectors = np.stack([term.vector for term in terms]).astype(np.float64)
    total = np.asarray(factors) @ vectors
    length = float(np.linalg.norm(total))
    if length <= _CANCELLED * math.fsum(map(abs, factors)):
        raise QueryError(f"{_named(terms)} cancel out, so that nothing is left to look for; change a weight.")
    vector = np.asarray(total / length, np.float32)
    shares = tuple(factor / length for factor in factors)
    if calibration is None:
        return ComposedQuery(vector, corrected=corrected, factors=shares)
    offset = math.fsum(f * pair.mean for f, pair in zip(factors, pairs, strict=True) if pair is not None)
    if corrected:
        offset -= length * calibration.pair(TEXT if target == IMAGE else IMAGE, target).hubness
    spread = _spread(terms, vectors, calibration)
    return ComposedQuery(vector, calibration, length, offset, spread, corrected, shares)


def _single(term: EncodedTerm, target: Modality, calibration: Calibration | None) -> ComposedQuery:
    corrected = term.modality != target
    if calibration is None:
        return ComposedQuery(term.vector, corrected=corrected)
    pair = calibration.pair(term.modality, target)
    factor = term.weight / pair.std
    # Of one term, z has the standard deviation of its weight.
    offset = factor * (pair.mean - pair.hubness)
    return ComposedQuery(term.vector, calibration, factor, offset, term.weight, corrected)


def _spread(terms: Sequence[EncodedTerm], vectors: Doubles, calibration: Calibration) -> float:
    """The standard deviation of the weighted sum of z over unrelated documents.

    Each z has the standard deviation 1, and two of them are correlated as much as their terms are alike:
    by the cosine of the terms after the mean of each modality is taken off, which the means of unrelated
    pairs say without knowing that mean (of two unrelated vectors of one modality the expected cosine is its
    squared length).
    """
    weights = np.array([term.weight for term in terms])
    own = np.array([1 - calibration.pair(term.modality, term.modality).mean for term in terms])
    means = np.array(
        [[calibration.pair(one.modality, other.modality).mean for other in terms] for one in terms]
    )
    alike = np.clip((vectors @ vectors.T - means) / np.sqrt(np.outer(own, own)), -1, 1)
    np.fill_diagonal(alike, 1)
    variance = float(weights @ alike @ weights)
    # The estimate may come out near or below 0 where similar terms are taken from each other; so small a
    # spread would call everything a perfect match.
    return math.sqrt(max(variance, _LEAST_VARIANCE * float(weights @ weights)))


def _named(terms: Sequence[EncodedTerm]) -> str:
    names = [term.name or f"term {number}" for number, term in enumerate(terms, start=1)]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
