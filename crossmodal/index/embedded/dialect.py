"""The SQL that databases of an index do not share: all other statements run on each of them as they are.

A statement has ``?`` for its values, and its rows come in order of an ``ORDER BY`` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from crossmodal.index.embedded.damage import DamageList

__all__ = ["Connected", "Connection", "Dialect", "Found", "Query"]

# A statement, or part of one, and its values.
Query = tuple[str, tuple[Any, ...]]


class Found(Protocol):
    """What a statement found, as a cursor of Python's database API."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchmany(self, size: int, /) -> list[Any]: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection to the database of an index, inside of ``Connections.read`` or ``write``."""

    @property
    def dialect(self) -> Dialect: ...

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Found: ...

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> object: ...


class Connected(Protocol):
    """The database of the index in ``folder``; ``connections.Connections`` says what each method does."""

    folder: Path
    path: Path
    damage: DamageList

    @property
    def initialised(self) -> bool: ...

    @property
    def format(self) -> int: ...

    @property
    def superseded(self) -> bool: ...

    def has_tables(self, connection: Connection) -> bool: ...

    def make_tables(self, connection: Connection) -> None: ...

    def read(self, *, once: bool = False) -> AbstractContextManager[Connection]: ...

    def write(self) -> AbstractContextManager[Connection]: ...

    def empty_log(self) -> None: ...

    def close(self) -> None: ...


class Dialect(Protocol):
    """How one database does what SQL has no common words for.

    ``among``: the condition that a row's number is in one value, a list in JSON. ``word_table`` is ``words``
    or ``seen_words``; what is added to it and removed are pairs of a row and its words with spaces between.
    """

    among: str

    def reference(self, column: str) -> str:
        """What a column with bytes or a text has, where that is a text; else NULL."""

    def number(self, value: float) -> Any:
        """A number as it stands in a value of a tag, where it compares with others."""

    def begins(self, column: str, pattern: str) -> str:
        """The condition that a text begins with ``pattern``, in which each d is a digit."""

    def add_words(
        self, connection: Connection, word_table: str, entries: Iterable[tuple[int, str]]
    ) -> None: ...

    def remove_words(
        self, connection: Connection, word_table: str, entries: Iterable[tuple[int, str]]
    ) -> None: ...

    def forget_words(self, connection: Connection, word_table: str) -> None:
        """Removes all of them, whatever they are."""

    def ranked(self, word_table: str, words: Sequence[str], limit: int | None = None) -> Query:
        """What selects ``row`` and ``bm25`` of those that have one of ``words``, the best of them."""

    def having(self, word_table: str, words: Sequence[str], least: int) -> Query:
        """What selects each ``row`` that has ``least`` of ``words`` at least."""

    def rows_with_words(self, connection: Connection, word_table: str) -> set[int]:
        """The rows of which words can be searched."""

    def amiss(self, connection: Connection, texts: Mapping[int, str]) -> set[int]:
        """The rows in ``words`` that do not hold what ``texts`` has of them."""

    def damage(self, connection: Connection) -> list[str]:
        """What is wrong with the database as such, as far as it can tell."""
