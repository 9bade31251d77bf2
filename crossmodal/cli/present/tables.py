"""Tables for a terminal: results, the report of an indexing run and status.

On anything but a terminal the output has no colours and 80
columns, unless the environment says how wide it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from crossmodal.cli.answers import Answer, captions_of
from crossmodal.cli.present.console import (
    encoding_of,
    heading,
    open_console,
    plain_table,
    shown,
    writes_unicode,
)
from crossmodal.cli.present.wording import counted, duration, file_size, printable, shortened_left
from crossmodal.match import Match
from crossmodal.records import TEXT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["print_index_report", "print_results", "print_status"]

_CAPTIONS_SHOWN = 3

# What rank, score and cosine take of a line.
_RANKED_CELLS = 28


def print_results(answers: Sequence[Answer], file: TextIO | None = None) -> None:
    """One table a query: photos with their captions for a sentence, captions with their photo for a photo."""
    console = open_console(file)
    for position, answer in enumerate(answers):
        if position:
            console.print()
        finds_photos = answer.modality == TEXT
        asked = shown(answer.question.asked, console)
        if not finds_photos:
            asked = shown(shortened_left(asked.plain, console.width - len("Captions for ")), console)
        quoted = f"“{asked.plain}”" if finds_photos and writes_unicode(console) else asked.plain
        console.print(heading("Photos for" if finds_photos else "Captions for", quoted, console))
        if answer.error:
            console.print(shown(answer.error, console, "red"))
        elif not answer.matches:
            console.print(shown("Nothing was found.", console, "dim"))
        else:
            table = (_photo_table if finds_photos else _caption_table)(answer.matches, console)
            console.print(table)


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
    console.print(file_size(status["bytes_on_disk"]), style="dim")


def _photo_table(matches: Sequence[Match], console: Console) -> Table:
    captions = [captions_of(match) for match in matches]
    table, scores = _ranked_table(matches)
    room = console.width - _RANKED_CELLS
    photo_cells = room * 2 // 5 if any(captions) else room
    table.add_column("photo", no_wrap=True)
    if any(captions):
        table.add_column("captions", ratio=1)
    for match, ranked, lines in zip(matches, scores, captions, strict=True):
        photo = _path(_place(match), photo_cells, console)
        table.add_row(*ranked, *([photo, _caption_lines(lines, console)] if any(captions) else [photo]))
    return table


def _caption_table(matches: Sequence[Match], console: Console) -> Table:
    table, scores = _ranked_table(matches)
    table.add_column("caption", ratio=1)
    table.add_column("photo", no_wrap=True)
    room = (console.width - _RANKED_CELLS) * 2 // 5
    for match, ranked in zip(matches, scores, strict=True):
        table.add_row(*ranked, shown(match.text or "", console), _path(_place(match), room, console))
    return table


def _ranked_table(matches: Sequence[Match]) -> tuple[Table, list[list[str]]]:
    """A table with rank, score and cosine in front, and these of each match; without scores none is shown."""
    table = plain_table()
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    scored = any(match.score is not None for match in matches)
    if scored:
        table.add_column("score", justify="right", style="green", no_wrap=True)
    table.add_column("cosine", justify="right", style="dim" if scored else "green", no_wrap=True)
    rows = []
    for rank, match in enumerate(matches, 1):
        score = ["" if match.score is None else f"{match.score:.0%}"] if scored else []
        rows.append([str(rank), *score, f"{match.cosine:.3f}"])
    return table, rows


def _place(match: Match) -> str | None:
    """Where the photo is: its path, or what its file is called where it is behind an address."""
    if match.uri is not None and match.uri.startswith(("http://", "https://")):
        return match.file or match.uri
    return match.uri or match.file


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


def _moment(value: str | None) -> str:
    """An ISO 8601 moment in UTC to the second, as people write it."""
    if not value:
        return "never"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
