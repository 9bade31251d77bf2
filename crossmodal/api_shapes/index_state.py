"""How an index is searched, told from what its shards say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossmodal.records import Modality

__all__ = ["index_state"]

_NOT_SEARCHED: Mapping[str, Any] = {
    "tier": "none",
    "recall": None,
    "recall_measured": "This server indexes and answers no searches.",
    "building": None,
}


def index_state(shards: Mapping[Modality, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """``index`` of GET /v1/status from what the shards of each modality say.

    A shard tells its ``tier``, ``recall`` (in [0, 1], None if unknown), ``recall_measured`` (a sentence) and
    ``building`` (None, or ``what`` is being built and how much of it is ``done``, in [0, 1]). A modality is
    as good as its worst shard and as far as its slowest, and so is the index of its modalities.
    """
    return {
        **_together([shard for told in shards.values() for shard in told]),
        "modalities": {modality: _together(told) for modality, told in shards.items()},
    }


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not parts:
        return dict(_NOT_SEARCHED)
    worst = min(parts, key=lambda part: -1.0 if part["recall"] is None else part["recall"])
    building = [part["building"] for part in parts if part["building"] is not None]
    return {
        "tier": ", ".join(sorted({part["tier"] for part in parts})),
        "recall": worst["recall"],
        "recall_measured": worst["recall_measured"],
        "building": min(building, key=lambda work: work["done"], default=None),
    }
