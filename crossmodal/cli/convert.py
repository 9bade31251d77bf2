"""``convert``: an index of an earlier version to today's format."""

from __future__ import annotations

import sys
import time

from crossmodal.index.embedded.conversion import Conversion, convert
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

# A line of progress at most so often.
_LINE_SECONDS = 2.0

_SHOWN = 10


def run(settings: Settings) -> int:
    """Converts the index in the workspace; says how far it is, and at the end what had to be left out."""
    shown = time.monotonic()

    def progress(conversion: Conversion) -> None:
        nonlocal shown
        if time.monotonic() - shown > _LINE_SECONDS:
            shown = time.monotonic()
            print(f"{conversion.done:,} of {conversion.total:,} documents", file=sys.stderr)

    conversion = convert(settings.workspace, progress)
    workspace = Workspace(settings.workspace)
    if conversion is None:
        workspace.require()
        print(f"The index in {settings.workspace} has today's format; there is nothing to convert.")
        return 0
    counts = [f"{workspace.vector_count(modality):,}" for modality in ("image", "text")]
    print(f"Converted the index in {settings.workspace}: {counts[0]} photos, {counts[1]} captions.")
    if conversion.left_out:
        print(f"Left out {len(conversion.left_out):,}; index again to bring them back:", file=sys.stderr)
        for sentence in conversion.left_out[:_SHOWN]:
            print(f"  {sentence}", file=sys.stderr)
        if len(conversion.left_out) > _SHOWN:
            print(f"  and {len(conversion.left_out) - _SHOWN:,} more", file=sys.stderr)
    return 0
