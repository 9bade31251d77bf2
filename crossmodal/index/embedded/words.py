"""Captions found by their words, and photos by their files' names: BM25 in the table ``words`` of FTS5.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with FTS5's k1 = 1.2
and b = 0.75. Words are those of ``tokens``, reduced to their English stems (Porter, 1980); English function
words are left out of captions and queries, so that they neither match nor add to a caption's length.
"""

from __future__ import annotations

from crossmodal.index.embedded.dialect import Connection
from crossmodal.index.embedded.tokens import words_of_file, words_of_query, words_of_text
from crossmodal.index.protocols import WordHit
from crossmodal.records import IMAGE, Record, file_name

__all__ = ["search_words", "searchable"]

# FTS5 joins phrases in time that grows with their number; a sentence has far fewer.
_MOST_WORDS = 256

# The best rows first, and only of those the documents.
_SEARCH = (
    "SELECT documents.modality, documents.id,"
    " CASE documents.modality WHEN 'image' THEN documents.id ELSE documents.photo_id END, best.bm25 FROM"
    " ({ranked}) AS best JOIN documents ON documents.row = best.row ORDER BY best.bm25 DESC"
)


def searchable(record: Record) -> str | None:
    """The words by which a document is found: a caption's, or those of a photo's file; None without any."""
    if record.modality == IMAGE:
        # Never of where it lies now, which changes without its being written again.
        named = [layer.get("file") for layer in (record.tags, record.metadata)]
        name = next((each for each in named if isinstance(each, str)), file_name(record.own_uri, None))
        return " ".join(words_of_file(name or "")) or None
    return " ".join(words_of_text(record.text or "")) or None


def search_words(connection: Connection, text: str, limit: int) -> list[WordHit]:
    """The ``limit`` documents that fit the words of ``text`` best: BM25 falls, ties are in order of id.

    Quotation marks and operators have no meaning. A text without words that count finds nothing.
    """
    words = list(dict.fromkeys(words_of_query(text)))[:_MOST_WORDS]
    if not words or limit < 1:
        return []
    fetched = limit + 50
    while True:
        ranked, given = connection.dialect.ranked("words", words, fetched)
        found = [WordHit(*hit) for hit in connection.execute(_SEARCH.format(ranked=ranked), given)]
        # Of documents with equal scores any are returned, and the order of ids decides here: all that tie
        # with the last one wanted have to be there.
        if len(found) < fetched or found[-1].bm25 < found[limit - 1].bm25:
            break
        fetched *= 4
    return sorted(found, key=lambda hit: (-hit.bm25, hit.id, hit.modality))[:limit]
