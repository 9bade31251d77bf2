"""What the file of codes beside a store says, read without faiss and without the codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossmodal.errors import StoreFormat
from crossmodal.search.derived_file import DerivedFile

__all__ = ["CODES_FILE", "codes_file", "kept_tier"]

CODES_FILE = "search.codes"

_MAGIC = b"XMVCODES"
_VERSION = 1

_EXACT = {"tier": "exact", "recall": 1.0, "recall_measured": "every vector is compared"}


def codes_file(path: Path) -> DerivedFile:
    """The file of codes at ``path``."""
    return DerivedFile(path, _MAGIC, _VERSION)


def kept_tier(folder: Path, store_id: str) -> dict[str, Any]:
    """The ``tier`` of the codes kept in ``folder`` for the store ``store_id``, their ``recall`` (in [0, 1],
    None if unknown) and how it was measured (``recall_measured``), as JSON values.

    Without codes that can be used searches are exact, until a server has made some.
    """
    try:
        header = codes_file(folder / CODES_FILE).header()
        kept = {name: header[name] for name in _EXACT}
    except (StoreFormat, OSError, KeyError):
        # The header is read without the checksum, so a damaged one may lack a name.
        return dict(_EXACT)
    return kept if header.get("store") == store_id else dict(_EXACT)
