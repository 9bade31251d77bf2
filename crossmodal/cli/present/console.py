"""What all tables share: a console that is never too wide, and text that cannot move its cursor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from crossmodal.cli.present.wording import limit_of, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["encoding_of", "heading", "open_console", "plain_table", "shown"]

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
