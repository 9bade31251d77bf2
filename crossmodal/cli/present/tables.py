"""Tables: the report of an indexing run and status.

On anything but a terminal the output has no colours, and nothing is shortened.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from crossmodal.cli.present.console import encoding_of, heading, open_console, plain_table, shown
from crossmodal.cli.present.wording import counted, duration, file_size, printable

__all__ = ["print_index_report", "print_status"]


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
    """What a workspace holds, from ``Workspace.status()``: documents, vectors, bytes, last change."""
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


def _moment(value: str | None) -> str:
    """An ISO 8601 moment in UTC to the second, as people write it."""
    if not value:
        return "never"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
