"""The text in photos: what was read in each, apart from its captions, and found by its words.

A text belongs to the content that was read, so it is read once, a changed photo again, and it stays while the
photo is in the trash. A photo without text has an empty one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.schema import IS_VIDEO
from crossmodal.index.embedded.tokens import words_of_query, words_of_text
from crossmodal.index.protocols import SeenText, TextCounts, TextHit, UnreadPhoto
from crossmodal.records import IMAGE

__all__ = [
    "count_texts",
    "delete_texts",
    "has_texts",
    "matching_texts",
    "put_texts",
    "text_of",
    "unread_photos",
]

# A question has fewer.
_MOST_WORDS = 64

# What was read of a photo's content as it is now.
_CURRENT = (
    "FROM documents JOIN seen_texts ON seen_texts.photo = documents.id AND seen_texts.digest ="
    f" documents.digest WHERE documents.modality = '{IMAGE}'"
)

# Of the moments of a video only thumbnails are kept, too small to read.
_UNREAD = (
    f"FROM documents WHERE modality = '{IMAGE}' AND digest IS NOT NULL"
    f" AND NOT {IS_VIDEO} AND NOT EXISTS"
    " (SELECT 1 FROM seen_texts WHERE photo = documents.id AND seen_texts.digest = documents.digest)"
)

# A photo with that content, also one in the trash, which may come back.
_THERE = (
    f"SELECT 1 FROM documents WHERE modality = '{IMAGE}' AND id = CAST(?1 AS TEXT) AND digest = ?2"
    " UNION ALL SELECT 1 FROM trash WHERE photo = CAST(?1 AS TEXT) AND digest = ?2"
)

# How often a question's words occur in a text counts less than how many of them do.
_SEARCH = (
    "WITH found AS (SELECT number, count(*) AS words FROM ({each}) GROUP BY number HAVING words >= ?)"
    " SELECT photo, -rank AS bm25, seen_texts.text FROM"
    " (SELECT rowid, rank FROM seen_words WHERE seen_words MATCH ?) AS best"
    " JOIN found ON found.number = best.rowid JOIN seen_texts ON seen_texts.number = best.rowid"
    f" JOIN documents ON documents.id = photo AND documents.modality = '{IMAGE}'"
    " AND documents.digest = seen_texts.digest ORDER BY bm25 DESC, photo LIMIT ?"
)
_EACH = "SELECT rowid AS number FROM seen_words WHERE seen_words MATCH ?"


def unread_photos(connection: sqlite3.Connection, after: int, limit: int) -> list[UnreadPhoto]:
    """The first ``limit`` photos behind the row ``after`` in which nobody has looked for text yet."""
    found = connection.execute(
        f"SELECT row, id, digest {_UNREAD} AND row > ? ORDER BY row LIMIT ?", (after, limit)
    )
    return [UnreadPhoto(*each) for each in found]


def put_texts(connection: sqlite3.Connection, texts: Sequence[SeenText]) -> None:
    """Stores what was read, in the place of what was read of these photos before.

    Photos that were deleted or changed while they were read are passed over.
    """
    there = [each for each in texts if _is_there(connection, each)]
    delete_texts(connection, [each.photo for each in there])
    for each in there:
        added = connection.execute(
            "INSERT INTO seen_texts (photo, digest, text) VALUES (CAST(? AS TEXT), ?, ?)",
            (storable(each.photo), each.digest, each.text),
        )
        if words := _searchable(each.text):
            connection.execute("INSERT INTO seen_words (rowid, text) VALUES (?, ?)", (added.lastrowid, words))


def delete_texts(connection: sqlite3.Connection, photos: Iterable[str]) -> None:
    """Forgets what was read in these photos."""
    for photo in photos:
        found = connection.execute(
            "SELECT number, text FROM seen_texts WHERE photo = CAST(? AS TEXT)", (storable(photo),)
        ).fetchone()
        if found is None:
            continue
        number, text = found
        # FTS5 takes words out of its index only where it is told what they are.
        if words := _searchable(text):
            connection.execute(
                "INSERT INTO seen_words (seen_words, rowid, text) VALUES ('delete', ?, ?)", (number, words)
            )
        connection.execute("DELETE FROM seen_texts WHERE number = ?", (number,))


def matching_texts(connection: sqlite3.Connection, text: str, limit: int) -> list[TextHit]:
    """The ``limit`` photos whose text fits the words of ``text`` best: BM25 falls, ties are in order of id.

    At least half of the words have to be there: a question is about what photos show, and a page of print
    has one or the other of its words by chance.
    """
    words = list(dict.fromkeys(words_of_query(text)))[:_MOST_WORDS]
    if not words or limit < 1:
        return []
    phrases = [f'"{word}"' for word in words]
    search = _SEARCH.format(each=" UNION ALL ".join([_EACH] * len(phrases)))
    least = (len(words) + 1) // 2
    found = connection.execute(search, (*phrases, least, " OR ".join(phrases), limit))
    return [TextHit(*hit) for hit in found]


def text_of(connection: sqlite3.Connection, photo: str) -> str | None:
    """What was read in a photo as it is now; None where nobody has looked yet."""
    found = connection.execute(
        f"SELECT seen_texts.text {_CURRENT} AND documents.id = CAST(? AS TEXT)", (storable(photo),)
    ).fetchone()
    return None if found is None else str(found[0])


def has_texts(connection: sqlite3.Connection) -> bool:
    """Whether words of any photo can be searched, also of one that went to the trash."""
    # Only what has words stands there, so that nothing is gone through where no photo has any.
    return connection.execute("SELECT 1 FROM seen_words LIMIT 1").fetchone() is not None


def count_texts(connection: sqlite3.Connection) -> TextCounts:
    """In how many photos text was looked for, how many have some, and how many wait."""
    read, with_text = connection.execute(
        f"SELECT count(*), ifnull(sum(seen_texts.text != ''), 0) {_CURRENT}"
    ).fetchone()
    (waiting,) = connection.execute(f"SELECT count(*) {_UNREAD}").fetchone()
    return TextCounts(read, with_text, waiting)


def _is_there(connection: sqlite3.Connection, text: SeenText) -> bool:
    return connection.execute(_THERE, (storable(text.photo), text.digest)).fetchone() is not None


def _searchable(text: str) -> str:
    return " ".join(words_of_text(text))
