"""``convert``: an index of an earlier format, or of another model, becomes one of today's."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from crossmodal.cli.present.console import counted
from crossmodal.engine.reencoding import Reencoding, reencode
from crossmodal.index.embedded.conversion import LEFT_OUT_FOLDER, Conversion, convert
from crossmodal.index.embedded.object_care import Moving, move_objects
from crossmodal.records import MODALITIES
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

__all__ = ["run"]

# A line of progress is written at most so often.
_LINE_SECONDS = 2.0

# What is named of the documents that were left out.
_SHOWN = 10


def run(settings: Settings) -> int:
    """Converts the index in the workspace; says how far it is, and at the end what had to be left out.

    Returns 1 where that was something, else 0. Raises StoreMissing, and as ``convert``, ``reencode`` and
    ``move_objects``.
    """
    shown = time.monotonic()

    def progress(state: Conversion | Reencoding | Moving) -> None:
        nonlocal shown
        if time.monotonic() - shown > _LINE_SECONDS:
            shown = time.monotonic()
            what = "originals and thumbnails" if isinstance(state, Moving) else "documents"
            print(f"{state.done:,} of {state.total:,} {what}", file=sys.stderr)

    conversion = convert(settings.workspace, progress)
    with Workspace(settings.workspace) as workspace:
        workspace.require()
        counts = [f"{workspace.vector_count(modality):,}" for modality in MODALITIES]
    code = 0
    if conversion is not None and conversion.was_done:
        print(f"The index in {settings.workspace} was converted before; the old stores are removed now.")
    elif conversion is not None:
        print(f"Converted the index in {settings.workspace}: {counts[0]} photos, {counts[1]} captions.")
        code = _name_left_out(conversion.left_out, settings.workspace)
    reencoding = reencode(settings, progress)
    if reencoding is not None:
        print(_summary(reencoding))
        if reencoding.failures:
            print(
                f"Without a vector now, and found by words alone until indexed again: "
                f"{len(reencoding.failures):,}",
                file=sys.stderr,
            )
            _name(reencoding.failures)
            code = 1
    moving = None
    if settings.objects is not None:
        moving = move_objects(settings.workspace, settings.objects, progress)
    if moving is not None:
        print(f"Moved {moving.done:,} originals and thumbnails to {settings.objects}.")
        if moving.lost:
            print(f"Damaged, and left where they were: {moving.lost:,} (crossmodal verify).", file=sys.stderr)
            code = 1
    if conversion is None and reencoding is None and moving is None:
        print(f"The index in {settings.workspace} has today's format; there is nothing to convert.")
    return code


def _name_left_out(sentences: Sequence[str], workspace: Path) -> int:
    if not sentences:
        return 0
    print(
        f"Left out {len(sentences):,}; index again to bring them back. What there was stays in "
        f"{workspace / LEFT_OUT_FOLDER} until you delete it:",
        file=sys.stderr,
    )
    _name(sentences)
    return 1


def _name(sentences: Sequence[str]) -> None:
    for sentence in sentences[:_SHOWN]:
        print(f"  {sentence}", file=sys.stderr)
    if len(sentences) > _SHOWN:
        print(f"  and {len(sentences) - _SHOWN:,} more", file=sys.stderr)


def _summary(done: Reencoding) -> str:
    photos, captions = counted(done.originals + done.thumbnails, "photo"), counted(done.captions, "caption")
    trashed = f", and {done.trashed:,} of the trash" if done.trashed else ""
    return (
        f"Encoded {photos} and {captions}{trashed} again with {done.model} (from their files: "
        f"{done.originals:,}; from thumbnails: {done.thumbnails:,})."
    )
