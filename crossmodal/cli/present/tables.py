"""Tables: the report of an indexing run, status, and the models that are known by name.

On anything but a terminal the output has no colours and 80 columns, unless the environment says how wide it
is. Paths come whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from crossmodal.cli.present.console import (
    counted,
    duration,
    encoding_of,
    file_size,
    heading,
    open_console,
    plain_table,
    printable,
    shown,
    speed_number,
)
from crossmodal.extras import how_to_install
from crossmodal.models.recommendation import BEST, SLOWEST, Measured
from crossmodal.models.zoo import ModelRecord, Result
from crossmodal.ocr import can_read_texts

__all__ = ["print_index_report", "print_models", "print_recommendation", "print_status"]

# What all columns of the models take.
_WIDE = 116

_STYLES = {"shipped": "green", "cached": "green", "download": None, "files": "dim"}


# What becomes of documents: the title, the key of the report, and whether it is shown where there is none.
_OUTCOMES = (
    ("added", "added", True),
    ("changed", "replaced", True),
    ("moved", "moved", False),
    ("one more copy", "copied", False),
    ("back from trash", "restored", False),
    ("deleted", "deleted", False),
    ("already there", "unchanged", True),
)


def print_index_report(
    report: Mapping[str, Any],
    *,
    failures_shown: int = 20,
    report_file: Path | None = None,
    file: TextIO | None = None,
) -> None:
    """What an indexing run did: counts of photos and captions, then each warning and failure, and why."""
    console = open_console(file)
    table = plain_table()
    columns = [
        (title, key)
        for title, key, always in _OUTCOMES
        if always or any(report[name].get(key) for name in ("photos", "captions"))
    ]
    for title in ("", *(title for title, _ in columns), "failed"):
        table.add_column(title, justify="right" if title else "left")
    for name in ("photos", "captions"):
        counts = report[name]
        failed = shown(f"{counts['failed']:,}", console, "red" if counts["failed"] else None)
        table.add_row(name, *(f"{counts.get(key, 0):,}" for _, key in columns), failed)
    if report.get("unusable"):
        red = shown(f"{report['unusable']:,}", console, "red")
        table.add_row("other files and rows", *("" for _ in columns), red)
    console.print(
        shown(
            f"Indexed {report['data_set']} into {report['workspace']} with {report['model']}", console, "bold"
        )
    )
    console.print(table)
    done = sum(report[name][key] for name in ("photos", "captions") for key in ("added", "replaced"))
    if done and report.get("seconds"):
        speed = speed_number(float(report["documents_per_second"]))
        seconds = duration(float(report["seconds"]))
        console.print(f"{counted(done, 'document')} in {seconds}, {speed} a second")
    for note in report.get("notes") or ():
        console.print(shown(note, console, "dim"))
    troubles = [(report.get(name) or (), name[:-1]) for name in ("warnings", "failures")]
    for sources, name in troubles:
        if sources:
            console.print()
            colour = "bold red" if name == "failure" else "bold yellow"
            console.print(shown(counted(len(sources), name), console, colour))
        for each in sources[:failures_shown]:
            line = shown(str(each["source"]), console, "bold")
            line.append(f": {printable(str(each['reason']), encoding_of(console))}", style="none")
            console.print(line, soft_wrap=True)
        if len(sources) > failures_shown:
            console.print(shown(f"and {len(sources) - failures_shown:,} more", console, "dim"))
    if any(sources for sources, _ in troubles) and report_file is not None:
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
    for name in ("", "documents", "vectors", "in all" if status.get("objects") else "on disk"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("last change", no_wrap=True)
    for modality, name in (("image", "photos"), ("text", "captions")):
        held = status["modalities"][modality]
        numbers = [f"{held['documents']:,}", f"{held['vectors']:,}", file_size(held["bytes_on_disk"])]
        table.add_row(name, *numbers, shown(_moment(held["last_change"]), console))
    console.print(table)
    for modality, name in (("image", "photos"), ("text", "captions")):
        searched = status["modalities"][modality]["search"]
        if searched is not None and searched["tier"] != "exact":
            recall = "" if searched["recall"] is None else f" {searched['recall']:.1%},"
            console.print(f"{name} are searched by {searched['tier']}:{recall} {searched['recall_measured']}")
        if (backend := status["modalities"][modality].get("backend")) is not None:
            line = printable(f"{name} are searched in {_backend_line(backend)}", encoding)
            console.print(line, style="red" if backend["error"] else "none", soft_wrap=True)
    if line := _text_line(status["texts"]):
        console.print(line, soft_wrap=True)
    for damaged in status.get("damaged", ()):
        line = f"damaged: {damaged['what']}; index it again to repair it"
        console.print(printable(line, encoding), style="red", soft_wrap=True)
    if (database := status.get("database")) is not None:
        console.print(printable(f"documents lie in {database}", encoding), soft_wrap=True)
    if (objects := status.get("objects")) is not None:
        line = f"originals and thumbnails lie in {objects['where']}: {objects['error'] or 'ready'}"
        style = "red" if objects["error"] else "none"
        console.print(printable(line, encoding), style=style, soft_wrap=True)
    for root in status["roots"]:
        console.print(printable(f"{root['files']:,} files in {root['path']}", encoding), soft_wrap=True)
    if status["trash"]:
        console.print(f"{counted(status['trash'], 'photo')} in the trash: crossmodal trash")
    parts = ", ".join(f"{name} {file_size(size)}" for name, size in status["bytes_of"].items() if size)
    held = f"{file_size(status['bytes_on_disk'])} on disk"
    line = f"{held}: {parts}" if database is None else f"{parts}; {held} here"
    console.print(line, style="dim", soft_wrap=True)


def _backend_line(backend: Mapping[str, Any]) -> str:
    """How a vector database stands."""
    if backend["error"] is not None:
        return f"{backend['where']}: {backend['error']}"
    if not backend["behind"]:
        return f"{backend['where']}, which is ready"
    return (
        f"{backend['where']}, which lacks {counted(backend['behind'], 'vector')}; the next search brings them"
    )


def _text_line(texts: Mapping[str, int]) -> str:
    """In how many photos text was looked for; empty where there are no photos."""
    if not texts["read"] and not texts["waiting"]:
        return ""
    line = f"text was looked for in {counted(texts['read'], 'photo')}, {texts['with_text']:,} have some"
    if texts["waiting"]:
        how = "the next `index` goes on" if can_read_texts() else how_to_install("rapidocr")
        line += f"; {texts['waiting']:,} wait: {how}"
    return line


def print_models(rows: Sequence[tuple[ModelRecord, str]], cache: Path, file: TextIO | None = None) -> None:
    """One line a model, with where its weights are, then what the columns mean.

    A narrow terminal gets fewer columns; ``--json`` and the documentation have all of them.
    """
    console = open_console(file)
    wide = console.width >= _WIDE
    table = plain_table()
    for name in ("-m", "weights"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "dim", *(("px", "text") if wide else ()), "Flickr30k", "COCO"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("languages", "licence") if wide else ():
        table.add_column(name, no_wrap=True)
    for record, where in rows:
        length = "any" if record.text_length is None else f"{record.text_length:,}"
        table.add_row(
            shown(record.name, console, "bold" if where in ("shipped", "cached") else None),
            shown(where, console, _STYLES[where]),
            "" if record.download_size is None else file_size(record.download_size),
            str(record.dimension),
            *((str(record.preprocessing.size), length) if wide else ()),
            _both(record.result("flickr30k")),
            _both(record.result("coco")),
            *((record.languages, record.licence) if wide else ()),
        )
    console.print(table)
    for line in (*_own_results(rows), *_legend(rows, cache)):
        console.print(shown(line, console, "dim"), soft_wrap=True)


def print_recommendation(rows: Sequence[tuple[Measured, str]], file: TextIO | None = None) -> None:
    """What was measured, the recommended model last, with where its weights are, and then that it is that."""
    console = open_console(file)
    table = plain_table()
    for name in ("-m", "weights"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "s / 1,000", "COCO"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("languages", "licence") if console.width >= _WIDE else ("licence",):
        table.add_column(name, no_wrap=True)
    for measured, where in rows:
        record = measured.record
        table.add_row(
            shown(record.name, console, "bold" if measured.quick else None),
            shown(where, console, _STYLES[where]),
            file_size(record.download_size or 0),
            shown(f"{measured.seconds:,.0f}", console, "green" if measured.quick else "yellow"),
            _both(record.result("coco")),
            *((record.languages,) if console.width >= _WIDE else ()),
            record.licence,
        )
    console.print(table)
    last = rows[-1][0]
    advice = (
        f"{last.name} is the best that takes at most {SLOWEST:.0f} s for a thousand photos here: use it with "
        f"-m {BEST}, or -m {last.name}."
        if last.quick
        else f"All take more than {SLOWEST:.0f} s for a thousand photos here, so none is recommended."
    )
    sources = dict.fromkeys(measured.record.results_source for measured, _ in rows)
    for line in (
        advice,
        "Seconds a thousand photos were measured here, with untrained networks of the same shapes; nothing "
        f"was downloaded. COCO: recall@1, text to image / image to text, as published: {'; '.join(sources)}.",
    ):
        console.print(shown(line, console), soft_wrap=True)


def _moment(value: str | None) -> str:
    """An ISO 8601 moment in UTC to the second, as people write it."""
    if not value:
        return "never"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _both(result: Result | None) -> str:
    return "" if result is None else f"{result.text_to_image:.1f}/{result.image_to_text:.1f}"


def _own_results(rows: Sequence[tuple[ModelRecord, str]]) -> list[str]:
    """What the shipped models were measured on: another data set, and so not beside the others' numbers."""
    return [
        f"{record.name}: {result.metric} on {result.data_set} {_both(result)}"
        for record, where in rows
        if where == "shipped"
        for result in record.results
    ]


def _legend(rows: Sequence[tuple[ModelRecord, str]], cache: Path) -> list[str]:
    trusted = [record.name for record, _ in rows if record.custom_code]
    return [
        "Flickr30k, COCO: recall@1 in percent, text to image / image to text, as published (docs/models.md "
        "has the sources). text: tokens that are read.",
        f"weights: shipped with this program, cached in {cache}, a download on first use, or only from local "
        "files with -m NAME:PATH, which works for all others too.",
        f"{' and '.join(trusted)} run code of their own, and need --trust-remote-code.",
        "Apple AMLR allows research only, CC-BY-NC-4.0 nothing commercial.",
    ]
