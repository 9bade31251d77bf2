"""The SQL of SQLite, with its index of words, FTS5."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from crossmodal.index.embedded.dialect import Connection, Query
from crossmodal.index.embedded.fts5_damage import words_amiss

__all__ = ["SQLite", "SQLiteConnection"]


class SQLite:
    """That of SQLite, with FTS5, which keeps no text: it has to be told what it takes out."""

    among = "IN (SELECT value FROM json_each(?))"

    def reference(self, column: str) -> str:
        return f"CASE typeof({column}) WHEN 'text' THEN {column} END"

    def number(self, value: float) -> float:
        return value

    def begins(self, column: str, pattern: str) -> str:
        return f"{column} GLOB '{pattern.replace('d', '[0-9]')}*'"

    def add_words(self, connection: Connection, word_table: str, entries: Iterable[tuple[int, str]]) -> None:
        connection.executemany(f"INSERT INTO {word_table} (rowid, text) VALUES (?, ?)", entries)

    def remove_words(
        self, connection: Connection, word_table: str, entries: Iterable[tuple[int, str]]
    ) -> None:
        connection.executemany(
            f"INSERT INTO {word_table} ({word_table}, rowid, text) VALUES ('delete', ?, ?)", entries
        )

    def forget_words(self, connection: Connection, word_table: str) -> None:
        connection.execute(f"INSERT INTO {word_table} ({word_table}) VALUES ('delete-all')")

    def ranked(self, word_table: str, words: Sequence[str], limit: int | None = None) -> Query:
        wanted = " OR ".join(f'"{word}"' for word in words)
        select = f"SELECT rowid AS row, -rank AS bm25 FROM {word_table} WHERE {word_table} MATCH ?"
        return (select, (wanted,)) if limit is None else (f"{select} ORDER BY rank LIMIT ?", (wanted, limit))

    def having(self, word_table: str, words: Sequence[str], least: int) -> Query:
        each = f"SELECT rowid AS row FROM {word_table} WHERE {word_table} MATCH ?"
        listed = " UNION ALL ".join([each] * len(words))
        phrases = (f'"{word}"' for word in words)
        return f"SELECT row FROM ({listed}) AS one GROUP BY row HAVING count(*) >= ?", (*phrases, least)

    def rows_with_words(self, connection: Connection, word_table: str) -> set[int]:
        return {row for (row,) in connection.execute(f"SELECT id FROM {word_table}_docsize")}

    def amiss(self, connection: Connection, texts: Mapping[int, str]) -> set[int]:
        return words_amiss(connection, texts)

    def damage(self, connection: Connection) -> list[str]:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found


class SQLiteConnection(sqlite3.Connection):
    """A connection of Python's ``sqlite3`` that says so; make one by ``sqlite3.connect(factory=...)``."""

    dialect = SQLite()
