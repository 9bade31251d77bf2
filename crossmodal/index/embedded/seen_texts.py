"""The text in photos: what was read in each, apart from its captions, and found by its words.

A text belongs to the content that was read, so it is read once, a changed photo again, and it stays while the
photo is in the trash. A photo without text has an empty one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crossmodal.index.embedded.connections import storable
from crossmodal.index.embedded.dialect import Connection
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
    f"SELECT 1 FROM documents WHERE modality = '{IMAGE}' AND id = CAST(? AS TEXT) AND digest = ?"
    " UNION ALL SELECT 1 FROM trash WHERE photo = CAST(? AS TEXT) AND digest = ?"
)

_NUMBER = "SELECT number FROM seen_texts WHERE photo = CAST(? AS TEXT)"

# How often a question's words occur in a text counts less than how many of them do.
_SEARCH = (
    "SELECT photo, bm25, seen_texts.text FROM ({ranked}) AS best"
    " JOIN ({having}) AS found ON found.row = best.row"
    " JOIN seen_texts ON seen_texts.number = best.row"
    " JOIN documents ON documents.id = photo AND documents.modality = 'image'"
    " AND documents.digest = seen_texts.digest ORDER BY bm25 DESC, photo LIMIT ?"
)


def unread_photos(connection: Connection, after: int, limit: int) -> list[UnreadPhoto]:
    """The first ``limit`` photos behind the row ``after`` in which nobody has looked for text yet."""
    found = connection.execute(
        f"SELECT row, id, digest {_UNREAD} AND row > ? ORDER BY row LIMIT ?", (after, limit)
    )
    return [UnreadPhoto(*each) for each in found]


def put_texts(connection: Connection, texts: Sequence[SeenText]) -> None:
    """Stores what was read, in the place of what was read of these photos before.

    Photos that were deleted or changed while they were read are passed over.
    """
    there = [each for each in texts if _is_there(connection, each)]
    delete_texts(connection, [each.photo for each in there])
    for each in there:
        connection.execute(
            "INSERT INTO seen_texts (photo, digest, text) VALUES (CAST(? AS TEXT), ?, ?)",
            (storable(each.photo), each.digest, each.text),
        )
        if words := _searchable(each.text):
            (number,) = connection.execute(_NUMBER, (storable(each.photo),)).fetchone()
            connection.dialect.add_words(connection, "seen_words", [(number, words)])


def delete_texts(connection: Connection, photos: Iterable[str]) -> None:
    """Forgets what was read in these photos."""
    for photo in photos:
        found = connection.execute(
            "SELECT number, text FROM seen_texts WHERE photo = CAST(? AS TEXT)", (storable(photo),)
        ).fetchone()
        if found is None:
            continue
        number, text = found
        if words := _searchable(text):
            connection.dialect.remove_words(connection, "seen_words", [(number, words)])
        connection.execute("DELETE FROM seen_texts WHERE number = ?", (number,))


def matching_texts(connection: Connection, text: str, limit: int) -> list[TextHit]:
    """The ``limit`` photos whose text fits the words of ``text`` best: BM25 falls, ties are in order of id.

    At least half of the words have to be there: a question is about what photos show, and a page of print
    has one or the other of its words by chance.
    """
    words = list(dict.fromkeys(words_of_query(text)))[:_MOST_WORDS]
    if not words or limit < 1:
        return []
    ranked, wanted = connection.dialect.ranked("seen_words", words)
    having, needed = connection.dialect.having("seen_words", words, (len(words) + 1) // 2)
    found = connection.execute(_SEARCH.format(ranked=ranked, having=having), (*wanted, *needed, limit))
    return [TextHit(*hit) for hit in found]


def text_of(connection: Connection, photo: str) -> str | None:
    """What was read in a photo as it is now; None where nobody has looked yet."""
    found = connection.execute(
        f"SELECT seen_texts.text {_CURRENT} AND documents.id = CAST(? AS TEXT)", (storable(photo),)
    ).fetchone()
    return None if found is None else str(found[0])


def has_texts(connection: Connection) -> bool:
    """Whether words of any photo can be searched, also of one that went to the trash."""
    # Only what has words stands there, so that nothing is gone through where no photo has any.
    return connection.execute("SELECT 1 FROM seen_words LIMIT 1").fetchone() is not None


def count_texts(connection: Connection) -> TextCounts:
    """In how many photos text was looked for, how many have some, and how many wait."""
    read, with_text = connection.execute(
        f"SELECT count(*), count(nullif(seen_texts.text, '')) {_CURRENT}"
    ).fetchone()
    (waiting,) = connection.execute(f"SELECT count(*) {_UNREAD}").fetchone()
    return TextCounts(read, with_text, waiting)


def _is_there(connection: Connection, text: SeenText) -> bool:
    return connection.execute(_THERE, (storable(text.photo), text.digest) * 2).fetchone() is not None


def _searchable(text: str) -> str:
    return " ".join(words_of_text(text))
