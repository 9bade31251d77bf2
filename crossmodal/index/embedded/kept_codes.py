"""What the file of codes beside a store says, read without faiss and without the codes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.derived_file import CODES, DerivedFile, derived_paths
from crossmodal.records import Modality

__all__ = ["codes_file", "kept_tier"]

_MAGIC = b"XMVCODES"
_VERSION = 1

_EXACT = {"tier": "exact", "recall": 1.0, "recall_measured": "every vector is compared"}


def codes_file(path: Path) -> DerivedFile:
    """The file of codes at ``path``."""
    return DerivedFile(path, _MAGIC, _VERSION)


def kept_tier(folder: Path, modality: Modality, store_id: str) -> dict[str, Any]:
    """How searches in the index ``store_id`` in ``folder`` are answered by the codes stored beside it.

    Keys: ``tier``, ``recall`` (in [0, 1], None if unknown) and ``recall_measured`` (how), as JSON values; of
    several shards the worst. Without codes that can be used searches are exact, until a
    server has made some.
    """
    tiers = []
    for path in derived_paths(folder, modality, CODES):
        # The header is read without the checksum, so a damaged one may lack a name.
        with suppress(StoreFormat, OSError, KeyError):
            header = codes_file(path).header()
            if header["store"] == store_id:
                tiers.append({name: header[name] for name in _EXACT})
    return min(tiers, key=lambda kept: kept["recall"] or 0.0, default=dict(_EXACT))
