"""How an index is searched: the tiers, the parameters of each, and which one suits a size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from crossmodal.errors import SettingsError
from crossmodal.settings import INDEXES

__all__ = [
    "EXACT",
    "LEAST_CODED",
    "SearchOptions",
    "directions_of",
    "subquantizers",
    "suitable_tier",
]

EXACT = "exact"

# With fewer vectors nothing can be trained that is faster than comparing them all.
LEAST_CODED = 2000

# Dimensions that one 4-bit code stands for.
SPAN = 2

# One direction in so many dimensions is coded by the shorter codes, and half as many where many codes are
# scanned; no fewer than these, in which the vectors of any model differ.
_SHARE_OF_DIRECTIONS = 4
_FEWEST_DIRECTIONS = 64
_MANY = 500_000

# What would find no more, and take all the memory there is.
_LARGEST: Mapping[str, float] = {"recall": 1, "bits": 65_536, "links": 512, "rerank": 10_000}

# What one core reads in a millisecond: fp32 vectors compared one by one, and 4-bit codes that lie in memory,
# scanned out of the processor's registers (measured on Zen 5 at a million x 512: 140 ms and 10 ms).
_VECTOR_BYTES_PER_MS = 15e6
_CODE_BYTES_PER_MS = 13e6


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The tier and its parameters; 0 stands for what suits the number of vectors.

    ``index`` is one of ``settings.INDEXES``. ``rerank``: so many candidates are compared exactly for each
    result. ``cells`` and ``probes``: the lists of an IVF
    and how many of them a search looks into. ``links`` and ``ef``: the neighbours of each vector in an
    HNSW graph, and how many candidates a search keeps. ``bits``: of each code of LSH. ``latency_ms``: the
    milliseconds that ``auto`` allows one query on one core; comparing all vectors may take half of them, and
    scanning all codes an eighth. ``recall``: the share of the ten best that ``auto`` has to find.
    """

    index: str = "auto"
    rerank: int = 16
    cells: int = 0
    probes: int = 0
    links: int = 32
    ef: int = 400
    bits: int = 0
    latency_ms: float = 8.0
    recall: float = 0.98

    @classmethod
    def of(cls, index: str, given: Mapping[str, Any] | None = None) -> SearchOptions:
        """``index`` with the parameters ``given``; raises SettingsError for one unknown or out of range."""
        if index not in INDEXES:
            raise SettingsError(f"The index is {index!r}; it must be one of {', '.join(INDEXES)}.")
        known: dict[str, Any] = {field.name: field.default for field in fields(cls) if field.name != "index"}
        options = cls(index)
        for name, value in (given or {}).items():
            if name not in known:
                raise SettingsError(
                    f"index_options has {name!r}, but the parameters of an index are {', '.join(known)}."
                )
            least = 0 if known[name] == 0 else 1 if isinstance(known[name], int) else 1e-9
            most = _LARGEST.get(name, 1_000_000)
            # jina carries every number as a float.
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not least <= value <= most
                or (isinstance(known[name], int) and value != int(value))
            ):
                kind = "a whole number" if isinstance(known[name], int) else "a number"
                raise SettingsError(
                    f"{name} in index_options is {value!r}; it must be {kind} from {least:g} to {most}."
                )
            options = replace(options, **{name: type(known[name])(value)})
        return options


def suitable_tier(options: SearchOptions, count: int, dimension: int) -> str:
    """The tier for ``count`` vectors of ``dimension``: the one that is named, or what ``auto`` means.

    Exact while that takes half of the latency at most, then a scan of all short codes while that takes an
    eighth of it, then the cells of an IVF. What finds too little is measured, and a safer one follows.
    """
    if count < LEAST_CODED:
        return EXACT
    if options.index != "auto":
        return options.index
    if 4 * dimension * count <= options.latency_ms / 2 * _VECTOR_BYTES_PER_MS:
        return EXACT
    if directions_of(dimension) / (2 * SPAN) * count <= options.latency_ms / 8 * _CODE_BYTES_PER_MS:
        return "coarse"
    return "ivf"


def directions_of(dimension: int, scanned: int = 0) -> int:
    """How many principal directions of ``dimension`` are coded where so many codes are ``scanned``."""
    share = _SHARE_OF_DIRECTIONS * (2 if scanned > _MANY else 1)
    return min(dimension, max(_FEWEST_DIRECTIONS, dimension // share))


def subquantizers(dimension: int, span: int = SPAN) -> int:
    """How many 4-bit codes a vector has: one for ``span`` dimensions, or for as many as divide them all."""
    return dimension // math.gcd(dimension, span)
