"""Whether the words that FTS5 finds are those of the documents."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.schema import TOKENIZER

__all__ = ["words_amiss"]


def words_amiss(connection: Connection, texts: Mapping[int, str]) -> set[int]:
    """The rows whose words are not those of ``texts``, or that a search for them does not find.

    Each occurrence of a word is compared, and what a search for it finds: the index of a page may lead past a
    word that is there.
    """
    run = connection.execute
    try:
        run(f"CREATE VIRTUAL TABLE temp.made USING fts5 (text, content = '', {TOKENIZER})")
        run("CREATE VIRTUAL TABLE temp.made_places USING fts5vocab (temp, made, instance)")
        run("CREATE VIRTUAL TABLE temp.stored_places USING fts5vocab (main, words, instance)")
        connection.executemany("INSERT INTO temp.made (rowid, text) VALUES (?, ?)", texts.items())
        places = "SELECT doc, term, offset FROM temp.{}"
        made, found = places.format("made_places"), places.format("stored_places")
        differing = {
            row
            for one, other in ((made, found), (found, made))
            for (row,) in run(f"SELECT DISTINCT doc FROM ({one} EXCEPT {other})")
        }
        sizes = "SELECT id, sz FROM {}.{}_docsize"
        differing |= {
            row
            for one, other in permutations((sizes.format("temp", "made"), sizes.format("main", "words")))
            for row, _ in run(f"{one} EXCEPT {other}")
        }
        # Where one differs, each word's weight is another one, and so are all ranks.
        return differing or _searched_amiss(connection, texts)
    finally:
        for table in ("made_places", "stored_places", "made", "whole_words", "whole"):
            run(f"DROP TABLE IF EXISTS temp.{table}")


def _searched_amiss(connection: Connection, texts: Mapping[int, str]) -> set[int]:
    """The rows that a search for any one word finds otherwise than it should."""
    run = connection.execute
    # Not stems, of which a search would take the stem again.
    run("CREATE VIRTUAL TABLE temp.whole USING fts5 (text, content = '', tokenize = 'unicode61')")
    run("CREATE VIRTUAL TABLE temp.whole_words USING fts5vocab (temp, whole, row)")
    connection.executemany("INSERT INTO temp.whole (rowid, text) VALUES (?, ?)", texts.items())
    amiss: set[int] = set()
    for (word,) in run("SELECT term FROM temp.whole_words").fetchall():
        phrase = f'"{word}"'
        expected, found = (
            # With the rank, which reads the places as well.
            set(run(f"SELECT rowid, bm25({name}) FROM {table} WHERE {name} MATCH ?", (phrase,)))
            for table, name in (("temp.made", "made"), ("main.words", "words"))
        )
        amiss |= {row for row, _ in expected ^ found}
    return amiss
