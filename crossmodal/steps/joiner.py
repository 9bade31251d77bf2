"""The step where the branches of a Flow meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossmodal.documents import Document
from crossmodal.steps.ranking import rank_wanted
from crossmodal.steps.step import Step

__all__ = ["Joiner"]


class Joiner(Step):
    """Takes up what the branches left; whatever runs the Flow has joined them by then."""

    spent = ("content", "thumbnail", "pixels", "frame", "record", "text", "shard_scores")

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Counts the ranks of what a document wants, among what all shards said."""
        rank_wanted(docs)
