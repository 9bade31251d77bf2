"""One option: who uses it, how it is written, and what its text means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal.commands import COMMANDS
from crossmodal.settings import Settings

__all__ = ["Option"]

# These keep the spelling with an underscore that the predecessor of this system had.
_UNDERSCORED = frozenset({"num_docs", "request_size", "data_set", "top_k"})


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, its help, the tasks that use it, and how it is written.

    ``asks`` marks those that give a question each time, all into the settings field ``questions``; every
    other option fills the field ``fills``, by default that of its own name, once. ``not_with`` names options
    beside which it says nothing, or the other thing: beside a server's address no index is opened here.
    ``evaluate_with`` names those of which ``evaluate`` needs one to use it. ``alias`` is another spelling of
    the flag. ``repeats`` marks those that may be given several times, ``needs`` the options without which it
    says nothing, and ``secret`` a value that no message may show.
    """

    name: str
    help: str
    tasks: tuple[str, ...]
    short: str | None = None
    variable: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    not_with: tuple[str, ...] = ()
    evaluate_with: tuple[str, ...] = ()
    asks: bool = False
    alias: str | None = None
    repeats: bool = False
    needs: tuple[str, ...] = ()
    secret: bool = False
    fills: str | None = None

    @property
    def field(self) -> str:
        """The settings field that it fills."""
        return "questions" if self.asks else self.fills or self.name

    @property
    def flag(self) -> str:
        """The long flag as it is written in the documentation."""
        return "--" + (self.name if self.name in _UNDERSCORED else self.name.replace("_", "-"))

    @property
    def flags(self) -> list[str]:
        """Every spelling that the command line accepts."""
        spellings = (self.short, self.flag, "--" + self.name.replace("_", "-"), self.alias)
        return list(dict.fromkeys(spelling for spelling in spellings if spelling))

    @property
    def default(self) -> Any:
        """The value where neither the command line nor the environment says anything."""
        return Settings.__dataclass_fields__[self.field].default

    @property
    def kind(self) -> str:
        """The annotated type of the settings field, without ``| None``."""
        return str(Settings.__dataclass_fields__[self.field].type).split(" | ")[0]

    @property
    def repeated(self) -> bool:
        """Whether it may be given several times, each time with one more value of the field's tuple."""
        return self.kind.startswith("tuple") and not self.asks

    @property
    def commands(self) -> tuple[str, ...]:
        """The subcommands that use it."""
        return tuple(name for name, command in COMMANDS.items() if command.task in self.tasks)

    def convert(self, text: str) -> Any:
        """The value that ``text`` says; raises ValueError with the value and the limit."""
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(self.choices)}")
        if self.kind == "Path":
            if not text:
                raise ValueError("an empty path was given")
            return Path(text)
        if self.kind not in ("int", "float"):
            return text
        whole = self.kind == "int"
        try:
            number = int(text) if whole else float(text)
        except ValueError:
            number = math.nan
        # Not isnan(), which makes a float of whole numbers that may be too large for one.
        if number != number:
            raise ValueError(f"{text!r} is not a {'whole number' if whole else 'number'}")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"{number} is below the minimum, {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{number} is above the maximum, {self.maximum}")
        return number
