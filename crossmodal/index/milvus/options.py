"""The kinds of index that Milvus has for vectors, and the parameters of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossmodal.errors import SettingsError

__all__ = ["CONSISTENCY", "MilvusOptions"]

# What is made with each kind, and what searches it, by the names and defaults of Milvus; ef and nprobe are
# larger, for a recall of at least .98.
_BUILDING: Mapping[str, Mapping[str, int]] = {
    "FLAT": {},
    "IVF_FLAT": {"nlist": 1024},
    "IVF_SQ8": {"nlist": 1024},
    "HNSW": {"M": 32, "efConstruction": 256},
}
_SEARCHING: Mapping[str, Mapping[str, int]] = {
    "FLAT": {},
    "IVF_FLAT": {"nprobe": 128},
    "IVF_SQ8": {"nprobe": 128},
    "HNSW": {"ef": 400},
}
_LITE = ("FLAT", "IVF_FLAT")

CONSISTENCY = ("Strong", "Bounded", "Session", "Eventually")

_LARGEST = 65_536


@dataclass(frozen=True, slots=True)
class MilvusOptions:
    """``index``, what it is built with (``building``), searched with (``searching``), and ``consistency``.

    That level is for what was written more than some seconds ago; what is newer is asked for as Strong.
    """

    index: str
    building: Mapping[str, int]
    searching: Mapping[str, int]
    consistency: str

    @classmethod
    def of(cls, given: Mapping[str, Any], *, lite: bool) -> MilvusOptions:
        """The options ``given`` in the YAML; raises SettingsError for one unknown or out of range.

        ``lite``: for Milvus Lite, which has fewer kinds of index.
        """
        index, level = given.get("index", "FLAT"), given.get("consistency", "Bounded")
        if index not in _BUILDING:
            raise SettingsError(
                f"index in backend_options is {index!r}; for Milvus it is one of {', '.join(_BUILDING)}."
            )
        if lite and index not in _LITE:
            raise SettingsError(
                f"index in backend_options is {index!r}, but Milvus Lite has only {' and '.join(_LITE)}. "
                "Name a server, such as --backend milvus+http://localhost:19530."
            )
        if level not in CONSISTENCY:
            raise SettingsError(
                f"consistency in backend_options is {level!r}; it is one of {', '.join(CONSISTENCY)}."
            )
        building, searching = dict(_BUILDING[index]), dict(_SEARCHING[index])
        for name, value in given.items():
            if name in ("index", "consistency"):
                continue
            known = building if name in building else searching
            if name not in known:
                raise SettingsError(
                    f"backend_options has {name!r}, but the parameters of {index} are "
                    f"{', '.join(['index', 'consistency', *building, *searching])}."
                )
            # jina carries every number as a float.
            if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _LARGEST:
                raise SettingsError(
                    f"{name} in backend_options is {value!r}; it must be a whole number from 1 to {_LARGEST}."
                )
            known[name] = int(value)
        return cls(index, building, searching, level)

    @property
    def exact(self) -> bool:
        """Whether all vectors are compared."""
        return self.index == "FLAT"

    @property
    def made_with(self) -> str:
        """What a collection is built with: with anything else it has to be built again."""
        built = (f"{name}={value}" for name, value in sorted(self.building.items()))
        return " ".join([self.index, *built, "hubness"])
