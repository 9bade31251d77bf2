"""Exact top-k over one store's vectors, and the order that all matches have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossmodal.search.matches import merge_matches, shard_of
from crossmodal.search.tag_fields import TagField, merge_fields

if TYPE_CHECKING:
    from crossmodal.search.exact_index import ExactIndex

__all__ = ["ExactIndex", "TagField", "merge_fields", "merge_matches", "shard_of"]


def __getattr__(name: str) -> object:
    # numpy and faiss only where an index is really used.
    if name != "ExactIndex":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crossmodal.search.exact_index import ExactIndex

    return ExactIndex
