"""Top-k over one store's vectors, exact or by codes, and the order that all matches have."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from crossmodal.search.matches import merge_matches, shard_of
from crossmodal.search.tag_fields import TagField, merge_fields

if TYPE_CHECKING:
    from crossmodal.search.exact_index import ExactIndex
    from crossmodal.search.options import SearchOptions
    from crossmodal.search.search_file import save_vectors
    from crossmodal.search.vector_index import VectorIndex

__all__ = [
    "ExactIndex",
    "SearchOptions",
    "TagField",
    "VectorIndex",
    "merge_fields",
    "merge_matches",
    "save_vectors",
    "shard_of",
]

# numpy and faiss only where an index is really used.
_LATER = {
    "ExactIndex": "exact_index",
    "SearchOptions": "options",
    "VectorIndex": "vector_index",
    "save_vectors": "search_file",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"crossmodal.search.{_LATER[name]}"), name)
