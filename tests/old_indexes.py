"""Indexes of earlier formats, as if the shipped model of today had built them.

Their vectors stay what they were; only the fingerprint of the weights is replaced, so that the model that is
here can be used with them, whichever it is.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from crossmodal.models import identify_model

__all__ = ["BUILT_BY", "FIXTURES", "unpack"]

FIXTURES = Path(__file__).parent / "fixtures"

# The weights of the clip-mini that built all of them.
BUILT_BY = "df1bf2f6c357ae62"


def unpack(format: int, folder: Path) -> Path:
    """The workspace with the index of ``format``, below ``folder``."""
    with tarfile.open(FIXTURES / f"format-{format}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    workspace = folder / "workspace"
    today = identify_model("clip-mini").weights
    assert len(today) == len(BUILT_BY)
    for store in (*workspace.rglob("data.mdb"), *workspace.rglob("index.sqlite")):
        content = store.read_bytes()
        store.write_bytes(content.replace(BUILT_BY.encode(), today.encode()))
    return workspace
