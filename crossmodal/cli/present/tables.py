"""Tables for a terminal: results, the report of an indexing run and status.

All input is plain JSON-like data. On anything but a terminal the output has no colours and 80
columns, unless the environment says how wide it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from crossmodal.cli.present.console import (
    encoding_of,
    heading,
    open_console,
    plain_table,
    shown,
    writes_unicode,
)
from crossmodal.cli.present.wording import counted, duration, file_size, printable, shortened_left

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "TableMatch",
    "TableQuery",
    "captions_of",
    "print_index_report",
    "print_results",
    "print_status",
]

_CAPTIONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TableMatch:
    """One result: a photo (``photo`` is its path or URI, ``captions`` its own) or a caption (``caption``)."""

    score: float
    photo: str | None = None
    caption: str | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableQuery:
    """One query and its results; ``modality`` is the query's, ``asked`` its sentence or its file."""

    modality: str
    asked: str
    matches: tuple[TableMatch, ...] = ()
    error: str | None = None

    @classmethod
    def from_json(cls, result: Mapping[str, Any]) -> Self:
        """From one entry of ``-t query --json``.

        That is modality, query, error, and matches (score, text, and uri or, from a server, file).
        """
        matches = tuple(
            TableMatch(
                score=float(match["score"]),
                photo=match.get("file") or match.get("uri"),
                caption=match.get("text") if match.get("modality") == "text" else None,
                captions=captions_of(match),
            )
            for match in result.get("matches") or ()
        )
        return cls(str(result["modality"]), str(result["query"]), matches, result.get("error"))


def print_results(results: Sequence[TableQuery | Mapping[str, Any]], file: TextIO | None = None) -> None:
    """One table a query: photos with their captions for a sentence, captions with their photo for a photo."""
    console = open_console(file)
    for position, result in enumerate(results):
        query = result if isinstance(result, TableQuery) else TableQuery.from_json(result)
        if position:
            console.print()
        finds_photos = query.modality == "text"
        asked = shown(query.asked, console)
        if not finds_photos:
            asked = shown(shortened_left(asked.plain, console.width - len("Captions for ")), console)
        quoted = f"“{asked.plain}”" if finds_photos and writes_unicode(console) else asked.plain
        console.print(heading("Photos for" if finds_photos else "Captions for", quoted, console))
        if query.error:
            console.print(shown(query.error, console, "red"))
        elif not query.matches:
            console.print(shown("Nothing was found.", console, "dim"))
        else:
            console.print(_photo_table(query, console) if finds_photos else _caption_table(query, console))


def print_index_report(
    report: Mapping[str, Any],
    *,
    failures_shown: int = 20,
    report_file: Path | None = None,
    file: TextIO | None = None,
) -> None:
    """What an indexing run did: counts for photos and captions, then each failure with file and reason."""
    console = open_console(file)
    table = plain_table()
    for name in ("", "added", "replaced", "already there", "failed"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("photos", "captions"):
        counts = report[name]
        failed = shown(f"{counts['failed']:,}", console, "red" if counts["failed"] else None)
        numbers = [f"{counts[key]:,}" for key in ("added", "replaced", "unchanged")]
        table.add_row(name, *numbers, failed)
    if report.get("unusable"):
        table.add_row("other files and rows", "", "", "", shown(f"{report['unusable']:,}", console, "red"))
    console.print(
        shown(
            f"Indexed {report['data_set']} into {report['workspace']} with {report['model']}", console, "bold"
        )
    )
    console.print(table)
    done = sum(report[name][key] for name in ("photos", "captions") for key in ("added", "replaced"))
    if done and report.get("seconds"):
        speed = float(report["documents_per_second"])
        speed_text = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        seconds = duration(float(report["seconds"]))
        console.print(f"{counted(done, 'document')} in {seconds}, {speed_text} a second")
    for note in report.get("notes") or ():
        console.print(shown(note, console, "dim"))
    failures = report.get("failures") or ()
    if failures:
        console.print()
        console.print(shown(counted(len(failures), "failure"), console, "bold red"))
    for failure in failures[:failures_shown]:
        line = shown(str(failure["source"]), console, "bold")
        line.append(f": {printable(str(failure['reason']), encoding_of(console))}", style="none")
        console.print(line, soft_wrap=True)
    if len(failures) > failures_shown:
        console.print(shown(f"and {len(failures) - failures_shown:,} more", console, "dim"))
    if failures and report_file is not None:
        console.print(shown(f"All of them are in {report_file}.", console, "dim"), soft_wrap=True)


def print_status(status: Mapping[str, Any], file: TextIO | None = None) -> None:
    """What a workspace holds, as ``Workspace.status()`` tells it: documents, vectors, bytes, last change."""
    console = open_console(file)
    encoding = encoding_of(console)
    console.print(heading("Index in", str(status["path"]), console), soft_wrap=True)
    model = status["model"]
    if model is None:
        console.print("Nothing is indexed yet.")
    else:
        weights = str(model["weights"])[:12]
        built = f"built by {model['name']} ({model['dimension']} dimensions, weights {weights})"
        console.print(printable(built, encoding), soft_wrap=True)
    table = plain_table()
    for name in ("", "documents", "vectors", "on disk"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("last change", no_wrap=True)
    for modality, name in (("image", "photos"), ("text", "captions")):
        held = status["modalities"][modality]
        numbers = [f"{held['documents']:,}", f"{held['vectors']:,}", file_size(held["bytes_on_disk"])]
        table.add_row(name, *numbers, shown(_moment(held["last_change"]), console))
    console.print(table)
    for modality, name in (("image", "photos"), ("text", "captions")):
        kept = status["modalities"][modality]["search"]
        if kept is not None and kept["tier"] != "exact":
            recall = "" if kept["recall"] is None else f" {kept['recall']:.1%},"
            console.print(f"{name} are searched by {kept['tier']}:{recall} {kept['recall_measured']}")
    shards = counted(int(status["shards"]), "shard")
    console.print(f"{file_size(status['bytes_on_disk'])} in {shards}", style="dim")


def _photo_table(query: TableQuery, console: Console) -> Table:
    described = any(match.captions for match in query.matches)
    table = _ranked_table()
    room = console.width - 20
    photo_cells = room * 2 // 5 if described else room
    table.add_column("photo", no_wrap=True)
    if described:
        table.add_column("captions", ratio=1)
    for rank, match in enumerate(query.matches, 1):
        photo = _path(match.photo, photo_cells, console)
        cells = [photo, _caption_lines(match.captions, console)] if described else [photo]
        table.add_row(str(rank), f"{match.score:.3f}", *cells)
    return table


def _caption_table(query: TableQuery, console: Console) -> Table:
    table = _ranked_table()
    table.add_column("caption", ratio=1)
    table.add_column("photo", no_wrap=True)
    for rank, match in enumerate(query.matches, 1):
        caption = shown(match.caption or "", console)
        table.add_row(
            str(rank),
            f"{match.score:.3f}",
            caption,
            _path(match.photo, (console.width - 20) * 2 // 5, console),
        )
    return table


def _ranked_table() -> Table:
    table = plain_table()
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", style="green", no_wrap=True)
    return table


def _path(path: str | None, cells: int, console: Console) -> Text:
    if not path:
        return shown("", console)
    mark = "…" if writes_unicode(console) else "..."
    return shown(shortened_left(printable(path), cells, mark), console, "cyan")


def _caption_lines(captions: tuple[str, ...], console: Console) -> Text:
    from rich.text import Text

    lines = [shown(caption, console) for caption in captions[:_CAPTIONS_SHOWN]]
    if len(captions) > _CAPTIONS_SHOWN:
        lines.append(shown(f"and {len(captions) - _CAPTIONS_SHOWN} more", console, "dim"))
    return Text("\n").join(lines)


def captions_of(match: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions of a found photo, which stand in its tags as ``captions`` (a list) or ``caption``."""
    tags = match.get("tags") or {}
    found = match.get("captions") or tags.get("captions") or tags.get("caption") or ()
    return (found,) if isinstance(found, str) else tuple(str(caption) for caption in found)


def _moment(value: str | None) -> str:
    """An ISO 8601 moment in UTC to the second, as people write it."""
    if not value:
        return "never"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
