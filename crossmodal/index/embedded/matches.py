"""The one order of matches, and the one way from an id to its shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["merge_matches", "shard_of"]


def merge_matches(per_shard: Iterable[Iterable[tuple[str, float]]], top_k: int) -> list[tuple[str, float]]:
    """The best ``top_k`` of several lists of (id, score): scores fall, equal ones are in order of id."""
    everything = [match for matches in per_shard for match in matches]
    everything.sort(key=lambda match: (-match[1], match[0]))
    return everything[: max(top_k, 0)]


def shard_of(id: str, shards: int) -> int:
    """The shard, 0 to ``shards`` - 1, that keeps the document ``id``; the same on every machine and run."""
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % shards
