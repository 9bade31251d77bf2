"""A sentence finds photos; a photo finds captions.

::

    from crossmodal import PhotoIndex

    index = PhotoIndex("workspace")
    index.add("data/toy-data")
    for match in index.search_text("a cat looks into the camera", top_k=3):
        print(f"{match.score:.3f}  {match.uri}")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossmodal.engine.photo_index import AddSummary, ArchiveSummary, PhotoIndex
    from crossmodal.engine.query_values import Results
    from crossmodal.errors import CrossmodalError
    from crossmodal.match import Match
    from crossmodal.query.expression import Term
    from crossmodal.records import Failure, Record
    from crossmodal.workspace import Workspace

__version__ = "0.4.0"

__all__ = [
    "AddSummary",
    "ArchiveSummary",
    "CrossmodalError",
    "Failure",
    "Match",
    "PhotoIndex",
    "Record",
    "Results",
    "Term",
    "Workspace",
]

# Loaded when first asked for, so that importing the package costs nothing.
_HOMES = {
    "AddSummary": "engine.photo_index",
    "ArchiveSummary": "engine.photo_index",
    "CrossmodalError": "errors",
    "Failure": "records",
    "Match": "match",
    "PhotoIndex": "engine.photo_index",
    "Record": "records",
    "Results": "engine.query_values",
    "Term": "query.expression",
    "Workspace": "workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
