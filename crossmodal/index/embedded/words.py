"""Captions found by their words: BM25 in the table ``words`` of SQLite's FTS5.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with FTS5's k1 = 1.2
and b = 0.75. Words are folded to lower case and plain letters and reduced to their English stems (Porter,
1980); English function words are left out of captions and queries, so that they neither match nor add to a
caption's length.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from crossmodal.index.protocols import WordHit
from crossmodal.records import TEXT, Record

__all__ = ["search_words", "searchable"]

# The list that Lucene leaves out of English text.
_LISTED = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with"
)
_FUNCTION_WORDS = frozenset(_LISTED.split())

_WORD = re.compile(r"[^\W_]+")

# Longer ones aren't words.
_LONGEST_WORD_BYTES = 64

# FTS5 joins phrases in time that grows with their number; a sentence has far fewer.
_MOST_WORDS = 256

# The best rows first, and only of those the documents.
_SEARCH = (
    "SELECT documents.id, documents.photo_id, -best.rank FROM"
    " (SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?) AS best"
    " JOIN documents ON documents.row = best.rowid ORDER BY best.rank"
)


def searchable(record: Record) -> str | None:
    """The words by which a caption is found; None for a photo, and where there are none."""
    if record.modality != TEXT or not record.text:
        return None
    return " ".join(_words(record.text)) or None


def search_words(connection: sqlite3.Connection, text: str, limit: int) -> list[WordHit]:
    """The ``limit`` captions that fit the words of ``text`` best: BM25 falls, ties are in order of id.

    Quotation marks and operators have no meaning. A text without words that count finds nothing.
    """
    words = list(dict.fromkeys(_words(text)))[:_MOST_WORDS]
    if not words or limit < 1:
        return []
    query = " OR ".join(f'"{word}"' for word in words)
    fetched = limit + 50
    while True:
        found = [WordHit(*hit) for hit in connection.execute(_SEARCH, (query, fetched))]
        # Of captions with equal scores FTS5 returns any, and the order of ids decides here: all that tie with
        # the last one wanted have to be there.
        if len(found) < fetched or found[-1].bm25 < found[limit - 1].bm25:
            break
        fetched *= 4
    return sorted(found, key=lambda hit: (-hit.bm25, hit.id))[:limit]


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.encode("utf-8", "replace").decode().lower()):
        if word not in _FUNCTION_WORDS and len(word.encode()) <= _LONGEST_WORD_BYTES:
            yield word
