"""Text from outside made fit for a terminal, numbers made fit for a person, and the console of all tables."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "counted",
    "duration",
    "encoding_of",
    "file_size",
    "heading",
    "limit_of",
    "open_console",
    "plain_table",
    "printable",
    "shortened_left",
    "shown",
    "speed_number",
]

_UNITS = ("KiB", "MiB", "GiB", "TiB")
# Joiners belong to written Persian and to emoji; every other format character can hide or reverse text.
_ALLOWED_FORMAT_CHARACTERS = frozenset("\u200c\u200d")
_SHOWN_AS_REPLACEMENT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def printable(text: str, encoding: str | None = None) -> str:
    """``text`` on one line without anything that moves the cursor, colours, hides or reverses.

    White space becomes single spaces, control and format characters become U+FFFD. With an
    ``encoding``, what it cannot express becomes a question mark.
    """
    cleaned = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(character) in _SHOWN_AS_REPLACEMENT
        and character not in _ALLOWED_FORMAT_CHARACTERS
        else character
        for character in " ".join(text.split())
    )
    return cleaned.encode(encoding, "replace").decode(encoding) if encoding else cleaned


def limit_of(encoding: str | None) -> str | None:
    """The ``encoding`` of a stream where it cannot express every character, else None."""
    unlimited = ("utf-8", "utf8", "utf-16", "utf-32")
    return None if encoding is None or encoding.lower().replace("_", "-") in unlimited else encoding


def shortened_left(path: str, cells: int, mark: str = "…") -> str:
    """``path`` in at most ``cells`` terminal cells, without its beginning: ``…/flickr8k/images/dog.jpg``."""
    from rich.cells import cell_len

    if cell_len(path) <= cells:
        return path
    characters: list[str] = []
    left = cells - cell_len(mark)
    for character in reversed(path):
        left -= cell_len(character)
        if left < 0:
            break
        characters.append(character)
    tail = "".join(reversed(characters))
    # From a folder's beginning, where that costs no more than half of the room.
    slash = tail.find("/")
    if 0 < slash <= cells // 2:
        tail = tail[slash:]
    return mark + tail


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 photo``, ``7,000 photos``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def file_size(size: int) -> str:
    """Bytes in binary units with three digits at most: ``512 B``, ``1.4 MiB``, ``312 MiB``."""
    if size < 1024:
        return f"{size} B"
    power = 1
    while power < len(_UNITS) and size >= 1023.5 * 1024**power:
        power += 1
    value = size / 1024**power
    return f"{value:.1f} {_UNITS[power - 1]}" if value < 99.95 else f"{value:.0f} {_UNITS[power - 1]}"


def duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def speed_number(speed: float) -> str:
    """``9.5``, ``1,250``: a number a second, to two digits or more."""
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


# Beyond this, lines get hard to read on a wide screen.
_MAX_WIDTH = 120


def open_console(file: TextIO | None) -> Console:
    """A console on ``file`` (stdout where it is None), at most 120 columns wide."""
    from rich.console import Console

    console = Console(file=sys.stdout if file is None else file, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, _MAX_WIDTH)
    return console


def plain_table() -> Table:
    """An empty table with a line under its head and no frame."""
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0)
    )


def heading(label: str, name: str, console: Console) -> Text:
    """``label`` and then ``name``, which stands out."""
    line = shown(label, console, "bold")
    line.append(" ")
    return line.append(printable(name, encoding_of(console)), style="bold cyan")


def shown(value: str, console: Console, style: str | None = None) -> Text:
    """Text as it stands, never markup, without control characters."""
    from rich.text import Text

    return Text(printable(value, encoding_of(console)), style=style or "")


def encoding_of(console: Console) -> str | None:
    """The stream's encoding where it cannot express everything, else None."""
    return limit_of(console.encoding)
