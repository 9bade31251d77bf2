"""What ``search`` prints: tables for people, and paths, JSON, JSON lines or CSV for programs.

Tables are fitted to a terminal, or whole and plain where something else reads them. The forms for programs
are yielded as they come, as bytes for stdout.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from crossmodal.cli.output import json_bytes
from crossmodal.cli.present.console import (
    encoding_of,
    heading,
    limit_of,
    open_console,
    plain_table,
    printable,
    shortened_left,
    shown,
)
from crossmodal.cli.questions import Answer, captions_of
from crossmodal.http_shapes.v1.answers import match_json
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["as_csv", "as_json", "as_json_lines", "as_paths", "as_report", "print_results"]

_CAPTIONS_SHOWN = 3

_LABELS = {"image": "Photos for", "text": "Captions for", "both": "Photos and captions for"}

# What rank, score and cosine take of a line.
_RANKED_CELLS = 28

# A table's row: for each column its lines.
Row = list[list[str]]


def print_results(answers: Iterable[Answer], file: TextIO | None = None) -> None:
    """One table a question: photos with their captions, or captions with their photo, as they were sought.

    On a terminal long paths lose their beginning, and photos all but three captions; elsewhere nothing is
    left out, wrapped or coloured.
    """
    out = sys.stdout if file is None else file
    paper: _Paper = _Terminal(out) if out.isatty() else _Plain(out)
    for position, answer in enumerate(answers):
        if position:
            paper.line("")
        paper.title(*_title(answer))
        for one in answer.recognised:
            taken_for = json.dumps(one.filter, ensure_ascii=False)
            paper.line(f'"{one.text}" is the filter {taken_for}; --literal takes it as words.', "dim")
        if answer.reranked is not None and answer.reranked.why is not None:
            paper.line(f"{answer.reranked.name} changed nothing: {answer.reranked.why}", "yellow")
        if answer.partial:
            paper.line(f"{', '.join(answer.partial)} did not answer: what they hold is missing.", "yellow")
        if answer.error:
            paper.line(answer.error, "red")
        elif not answer.matches:
            paper.line("Nothing was found.", "dim")
        else:
            if answer.doubt is not None and answer.matches[0].rank <= 1:
                paper.line(answer.doubt, "yellow")
            paper.table(*_table(answer))
        out.flush()


def _title(answer: Answer) -> tuple[str, str, bool]:
    """What was sought, for what, and whether that is a sentence."""
    question = answer.question
    sought = answer.target or (IMAGE if question.image is None else TEXT)
    label = _LABELS[sought]
    if question.like is not None or question.similar:
        return label.replace(" for", " like"), question.asked, False
    return label, question.asked, question.text is not None or question.expression is not None


def _table(answer: Answer) -> tuple[list[str], list[Row]]:
    """Head and rows; without a calibration there is no score, and without captions no column for them."""
    matches = answer.matches
    scored = any(match.score is not None for match in matches)
    head = ["#", "score", "cosine"] if scored else ["#", "cosine"]
    terms = answer.question.term_names
    rows: list[Row] = []
    for position, match in enumerate(matches, 1):
        score = ["" if match.score is None else f"{match.score:.3f}"] if scored else []
        numbers = [str(match.rank or position), *score, f"{match.cosine:.3f}"]
        rows.append([[number] for number in numbers])
    words = [list(captions_of(match)) if match.modality == IMAGE else [match.text or ""] for match in matches]
    texts = [[match.text_in_photo or ""] for match in matches]
    columns = [("photo", [_place(match) for match in matches]), ("captions", words)]
    if answer.target == TEXT:
        columns = [("caption", words), columns[0]]
    elif not any(words):
        del columns[1]
    if any(match.text_in_photo for match in matches):
        columns.insert(1, ("text in photo", texts))
    if any(match.explanation for match in matches):
        columns.append(("found by", [_found_by(match, terms) for match in matches]))
    for name, cells in columns:
        head.append(name)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    return head, rows


def _found_by(match: Match, terms: Sequence[str]) -> list[str]:
    """What each term gave to the cosine, and each ranking of a hybrid search; what was taken off; words."""
    why = match.explanation
    if why is None:
        return [""]
    gave = [f"{share.gave:+.3f} {name}" for share, name in zip(why.terms, terms, strict=True)]
    hubness = [] if why.hubness is None else [f"{-why.hubness:+.3f} hubness"]
    fused = [] if why.fused is None else list(asdict(why.fused).items())
    ranked = [f"{share:.4f} by {name}" for name, share in fused if share is not None]
    words = list(dict.fromkeys(word for found in why.words for word in found.words))
    return [*gave, *hubness, *ranked, *([f"words: {', '.join(words)}"] if words else [])]


def _place(match: Match) -> list[str]:
    """Where the photo is: its path, or what its file is called behind an address; of a moment also when."""
    place = match.uri or match.file or ""
    if match.uri is not None and match.uri.startswith(("http://", "https://")):
        place = match.file or match.uri
    return [place] if match.video is None else [place, f"at {_clock(match.video.time_seconds)}"]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Paper(Protocol):
    def title(self, label: str, asked: str, sentence: bool, /) -> None: ...

    def line(self, text: str, style: str = "", /) -> None: ...

    def table(self, head: list[str], rows: list[Row], /) -> None: ...


class _Terminal:
    """Tables by rich, in the width of the terminal."""

    def __init__(self, out: TextIO) -> None:
        self._console = open_console(out)

    def title(self, label: str, asked: str, sentence: bool, /) -> None:
        if sentence:
            asked = f"“{asked}”" if encoding_of(self._console) is None else asked
        else:
            asked = shortened_left(printable(asked), self._console.width - len(label) - 1)
        self._console.print(heading(label, asked, self._console))

    def line(self, text: str, style: str = "", /) -> None:
        self._console.print(shown(text, self._console, style))

    def table(self, head: list[str], rows: list[Row], /) -> None:
        table = plain_table()
        numbers = head.index("cosine") + 1
        for name in head:
            if name in ("#", "score", "cosine"):
                style = "green" if name == head[1] else "dim"
                table.add_column(name, justify="right", style=style, no_wrap=True)
            else:
                table.add_column(name, no_wrap=name == "photo")
        room = self._console.width - _RANKED_CELLS
        photo_cells = room * 2 // 5 if len(head) == numbers + 2 else room // (len(head) - numbers)
        for row in rows:
            others = [
                self._path(lines[0], photo_cells) if name == "photo" else self._captions(lines)
                for name, lines in zip(head[numbers:], row[numbers:], strict=True)
            ]
            table.add_row(*[lines[0] for lines in row[:numbers]], *others)
        self._console.print(table)

    def _path(self, path: str, cells: int) -> Text:
        mark = "…" if encoding_of(self._console) is None else "..."
        return shown(shortened_left(printable(path), cells, mark), self._console, "cyan")

    def _captions(self, captions: Sequence[str]) -> Text:
        from rich.text import Text

        lines = [shown(caption, self._console) for caption in captions]
        more = len(lines) - _CAPTIONS_SHOWN
        if more > 0:
            lines[_CAPTIONS_SHOWN:] = [shown(f"and {more} more", self._console, "dim")]
        return Text("\n").join(lines)


class _Plain:
    """Columns of text, with all there is in them; a long list is set far quicker than by rich."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._limit = limit_of(getattr(out, "encoding", None))

    def title(self, label: str, asked: str, sentence: bool, /) -> None:
        self.line(f"{label} “{asked}”" if sentence and self._limit is None else f"{label} {asked}")

    def line(self, text: str, style: str = "", /) -> None:
        self._out.write(self._whole(text) + "\n")

    def table(self, head: list[str], rows: list[Row], /) -> None:
        from rich.cells import cell_len

        cells = [[[self._whole(line) for line in lines] for lines in row] for row in rows]
        columns = [
            [name, *[line for row in cells for line in row[column]]] for column, name in enumerate(head)
        ]
        widths = [max(map(cell_len, lines)) for lines in columns]
        numbers = head.index("cosine") + 1

        def written(lines: Sequence[str]) -> str:
            gaps = [" " * (width - cell_len(line)) for line, width in zip(lines, widths, strict=True)]
            padded = [gap + line for gap, line in zip(gaps[:numbers], lines[:numbers], strict=True)]
            padded += [line + gap for gap, line in zip(gaps[numbers:], lines[numbers:], strict=True)]
            return "   ".join(padded).rstrip() + "\n"

        rule = "─" if self._limit is None else "-"
        self._out.write(written(head) + rule * (sum(widths) + 3 * len(widths) - 3) + "\n")
        for row in cells:
            for number in range(max(map(len, row))):
                self._out.write(written([lines[number] if number < len(lines) else "" for lines in row]))

    def _whole(self, text: str) -> str:
        # Some names of files have two spaces in a row.
        return " ".join(printable(word, self._limit) for word in text.split(" "))


_COLUMNS = (
    *("query", "rank", "score", "cosine", "modality", "id", "uri", "file", "text", "captions", "tags"),
    "text_in_photo",
)


def as_paths(answers: Iterable[Answer], *, end: bytes) -> Iterator[bytes]:
    """Where each photo is, ended by ``end``; of a caption its photo, or its words where that is unknown."""
    for answer in answers:
        places = (match.uri or match.file or match.text or match.id for match in answer.matches)
        # A path is any bytes, which Python holds as surrogates where they are no text.
        yield b"".join(place.encode("utf-8", "surrogateescape") + end for place in places)


def as_json(answers: Iterable[Answer]) -> Iterator[bytes]:
    """One JSON array, with an object for each question: its matches, or its error."""
    yield json_bytes(
        [
            {
                "query": answer.question.asked,
                "modality": answer.target,
                "matches": [_match(match) for match in answer.matches],
                "has_more": answer.has_more,
                "recognised": [asdict(one) for one in answer.recognised],
                "reranked": None if answer.reranked is None else asdict(answer.reranked),
                "partial": answer.partial,
                "fits": answer.fits,
                "doubt": answer.doubt,
                "error": answer.error,
            }
            for answer in answers
        ]
    )


def as_json_lines(answers: Iterable[Answer]) -> Iterator[bytes]:
    """One line of JSON for each match, with its question."""
    for answer in answers:
        lines = ({"query": answer.question.asked, **_match(match)} for match in answer.matches)
        yield b"".join(map(json_bytes, lines))


def as_csv(answers: Iterable[Answer]) -> Iterator[bytes]:
    """A header, then one record for each match (RFC 4180); captions are a JSON array, tags a JSON object."""
    yield _record(_COLUMNS)
    for answer in answers:
        yield b"".join(_record(_cells(answer, match)) for match in answer.matches)


def as_report(answers: Iterable[Answer], model: Callable[[], str | None]) -> Iterator[bytes]:
    """What ``--json`` prints: one object with the model and one entry for each question."""
    results = [
        {
            "modality": answer.modality,
            "query": answer.question.asked,
            "error": answer.error,
            "fits": answer.fits,
            "doubt": answer.doubt,
            "matches": [_entry(match) for match in answer.matches],
        }
        for answer in answers
    ]
    yield json_bytes({"model": model(), "results": results})


def _match(match: Match) -> dict[str, Any]:
    """A match as the HTTP API answers it, and where its photo is."""
    return {**match_json(match), "uri": match.uri}


def _entry(match: Match) -> dict[str, Any]:
    entry = _match(match)
    described = {name: entry[name] for name in ("id", "modality", "score", "cosine", "uri")}
    described["file"] = match.file
    described["text"] = match.text
    described["photo_id"] = match.photo_id if match.modality == TEXT else None
    described["tags"] = entry["tags"]
    for name in ("text_in_photo", "explanation"):
        if name in entry:
            described[name] = entry[name]
    if match.modality == IMAGE:
        described["captions"] = [text for _, text in match.captions]
    return described


def _cells(answer: Answer, match: Match) -> list[Any]:
    entry = _match(match)
    captions = json.dumps(captions_of(match), ensure_ascii=False) if match.modality == IMAGE else None
    return [
        answer.question.asked,
        *(entry[name] for name in ("rank", "score", "cosine", "modality", "id", "uri")),
        match.file,
        match.text,
        captions,
        json.dumps(entry["tags"], ensure_ascii=False),
        match.text_in_photo,
    ]


def _record(cells: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")
