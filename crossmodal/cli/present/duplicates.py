"""What ``duplicates`` prints: groups of photos for people, and paths, JSON or CSV for programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from crossmodal.cli.output import json_bytes
from crossmodal.cli.present.console import counted, open_console, plain_table, shown

if TYPE_CHECKING:
    from crossmodal.engine.duplicates import DuplicateGroup

__all__ = ["print_groups", "summary", "written"]


def summary(groups: Sequence[DuplicateGroup]) -> str:
    """How many groups there are, of how many photos, and how many of those repeat another."""
    if not groups:
        return "No photo repeats another."
    photos = sum(len(group.photos) for group in groups)
    repeat = photos - len(groups)
    return (
        f"{counted(len(groups), 'group')} of {counted(photos, 'photo')}, of which {repeat:,} "
        f"{'repeats' if repeat == 1 else 'repeat'} another."
    )


def print_groups(groups: Sequence[DuplicateGroup], file: TextIO | None = None) -> None:
    """A table of the groups, the first photo of each with those that repeat it, and their number."""
    console = open_console(sys.stdout if file is None else file)
    if groups:
        table = plain_table()
        for name in ("group", "cosine"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("photo", overflow="fold")
        for number, group in enumerate(groups, start=1):
            for photo in group.photos:
                first = photo is group.photos[0]
                table.add_row(
                    f"{number:,}" if first else "",
                    "" if first else f"{photo.cosine:.3f}",
                    shown(photo.path, console, "cyan" if first else None),
                )
        console.print(table)
    console.print(shown(summary(groups), console))


def written(groups: Sequence[DuplicateGroup], form: str, *, end: bytes) -> Iterator[bytes]:
    """The groups as ``paths``, ``json``, ``jsonl`` or ``csv``, in pieces for stdout.

    Of ``paths`` each is ended by ``end``, and each group by one more.
    """
    if form == "paths":
        for group in groups:
            paths = (photo.path.encode("utf-8", "surrogateescape") + end for photo in group.photos)
            yield b"".join(paths) + end
    elif form == "json":
        yield json_bytes({"groups": [_photos(group) for group in groups], "summary": summary(groups)})
    elif form == "jsonl":
        yield from (json_bytes(_photos(group)) for group in groups)
    else:
        yield _record(["group", "id", "cosine", "path"])
        for number, group in enumerate(groups, start=1):
            for photo in group.photos:
                yield _record([number, photo.id, photo.cosine, photo.path])


def _photos(group: DuplicateGroup) -> dict[str, Any]:
    return {
        "photos": [{"id": photo.id, "cosine": photo.cosine, "path": photo.path} for photo in group.photos]
    }


def _record(cells: Sequence[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")
