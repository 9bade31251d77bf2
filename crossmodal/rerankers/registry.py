"""Names of rerankers to what they are: those built in, and those that other packages bring."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.extras import extra_for
from crossmodal.home_folder import expanded
from crossmodal.rerankers.protocol import Reranker

__all__ = ["ENTRY_POINTS", "load_reranker", "public_name"]

# The group of entry points by which a package offers rerankers, each a function as ``Reranker`` says.
ENTRY_POINTS = "crossmodal.rerankers"

# Each as it is published, or with :FOLDER another of its architecture.
_BUILT_IN = ("blip", "colpali", "colqwen2", "jina-reranker-m0")


def public_name(name: str) -> str:
    """What clients call the reranker ``name``: without the folder that it lies in."""
    return name.partition(":")[0]


def load_reranker(name: str, *, cache: Path | None = None) -> Reranker:
    """The reranker ``name``: one built in, also with :FOLDER, or an entry point of ``ENTRY_POINTS``.

    ``cache`` is the folder for downloads. Raises ModelError where there is none of that name, or it cannot
    be loaded, and MissingExtra.
    """
    kind, folder = public_name(name), name.partition(":")[2]
    if kind in _BUILT_IN:
        with extra_for(f"The reranker {name}"):
            return _load_built_in(kind, expanded(folder) if folder else None, cache)
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        known = ", ".join((*_BUILT_IN, *(f"{each}:FOLDER" for each in _BUILT_IN), *sorted(offered)))
        raise ModelError(
            f"There is no reranker {name!r}. Known are: {known}; a package offers others as entry points of "
            f"the group {ENTRY_POINTS}."
        )
    try:
        found: Reranker = offered[name].load()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"The reranker {name!r} cannot be loaded: {error}.") from error
    if not callable(found):
        raise ModelError(
            f"The reranker {name!r} is a {type(found).__name__}; it has to be a function of a query and "
            "candidates."
        )
    return found


def _load_built_in(name: str, folder: Path | None, cache: Path | None) -> Reranker:
    if name == "blip":
        from crossmodal.rerankers.blip import load_blip

        return load_blip(name, folder, cache)
    if name == "jina-reranker-m0":
        from crossmodal.rerankers.jina import load_jina

        return load_jina(name, folder, cache)
    from crossmodal.rerankers.multi_vector import load_multi_vector

    return load_multi_vector(name, folder, cache)
