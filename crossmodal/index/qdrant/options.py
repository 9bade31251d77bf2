"""How Qdrant searches: all vectors, or its graph, over vectors as they are or quantised ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from crossmodal.errors import SettingsError

__all__ = ["QdrantOptions"]

Quantisation = Literal["none", "scalar", "binary"]

_CHOICES = {"index": ("flat", "hnsw"), "quantisation": ("none", "scalar", "binary")}
_LARGEST = 65_536


@dataclass(frozen=True, slots=True)
class QdrantOptions:
    """``index`` flat compares all vectors; hnsw has a graph of ``m`` links, built with ``ef_construct``.

    ``ef``: how many candidates a search of the graph keeps. ``quantisation`` makes the vectors in memory
    smaller: scalar has a byte a dimension, binary a bit; ``oversampling`` times as many candidates are then
    compared by their whole vectors.
    """

    index: str = "flat"
    m: int = 32
    ef_construct: int = 256
    ef: int = 400
    quantisation: str = "none"
    oversampling: int = 4

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> QdrantOptions:
        """The options ``given`` in the YAML; raises SettingsError for one unknown or out of range."""
        known = {field.name for field in fields(cls)}
        chosen: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise SettingsError(
                    f"backend_options has {name!r}, but the parameters of Qdrant are "
                    f"{', '.join(field.name for field in fields(cls))}."
                )
            if name in _CHOICES:
                if value not in _CHOICES[name]:
                    raise SettingsError(
                        f"{name} in backend_options is {value!r}; it is one of {', '.join(_CHOICES[name])}."
                    )
                chosen[name] = value
                continue
            # jina carries every number as a float.
            if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _LARGEST:
                raise SettingsError(
                    f"{name} in backend_options is {value!r}; it must be a whole number from 1 to {_LARGEST}."
                )
            chosen[name] = int(value)
        options = cls(**chosen)
        if options.index == "flat" and options.quantisation != "none":
            raise SettingsError(
                f"quantisation in backend_options is {options.quantisation}, but index flat compares whole "
                "vectors; set index: hnsw."
            )
        return options

    @property
    def exact(self) -> bool:
        """Whether all vectors are compared."""
        return self.index == "flat"

    @property
    def made_with(self) -> str:
        """What a collection is built with: with anything else it has to be built again."""
        graph = f" m={self.m} ef_construct={self.ef_construct}" if self.index == "hnsw" else ""
        return f"{self.index}{graph} quantisation={self.quantisation} hubness"
