"""How a step is named in a document's trail."""

from __future__ import annotations

__all__ = ["visit_name"]


def visit_name(step: str, shard: int | None = None) -> str:
    """How a step, or one shard of it, is named in a document's trail."""
    return step if shard is None else f"{step}/{shard}"
