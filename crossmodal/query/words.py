"""Captions found by their words: BM25 over all text stores of an index, held in memory by tantivy.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with tantivy's
k1 = 1.2 and b = 0.75. Words are folded to lower case and plain letters and reduced to their English stems;
English function words don't count.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal.stores import Store, VectorSnapshot

__all__ = ["WordHit", "WordIndex"]

_ANALYZER = "captions"

# What a writer collects before it makes a segment; tantivy's least is 3 MB a thread.
_WRITER_BYTES = 15_000_000

# Bytes of a word, longer ones aren't words.
_LONGEST_WORD = 64

# tantivy counts deleted documents in its statistics until segments are merged. Above this share of them the
# index is made anew, so that the weight of a word drifts no further than its logarithm by 0.05.
_MOST_DEAD = 0.05

# BM25 is a sum of float32, whose order depends on how documents lie in segments: equal captions could differ
# in the last digits otherwise.
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class WordHit:
    """A caption that has a word of the query: its id, its photo's id if it has one, and its BM25 score."""

    id: str
    photo_id: str | None
    bm25: float


@dataclass(slots=True)
class _Followed:
    """A store and how far its rows are in the index."""

    store: Store
    store_id: str
    sequence: int
    next_row: int


class WordIndex:
    """The words of all captions in the stores that ``stores()`` returns, which it follows as they change.

    All shards share one index, so that the weight of a word doesn't depend on how captions are spread.
    ``stores`` is called at each search. Made at the first search: 35,000 captions took 4 seconds of one core
    and 37 MiB. Safe to use from several threads.
    """

    def __init__(self, stores: Callable[[], Iterable[Store]]) -> None:
        self._stores = stores
        self._lock = threading.Lock()
        self._followed: dict[Path, _Followed] = {}
        self._index: Any = None
        self._analyzer: Any = None
        self._schema: Any = None
        self._added = 0
        self._removed = 0

    def __len__(self) -> int:
        with self._lock:
            self._refresh()
            return int(self._index.searcher().num_docs)

    def search(self, text: str, limit: int) -> list[WordHit]:
        """The ``limit`` captions that fit the words of ``text`` best: BM25 falls, ties are in order of id.

        Quotation marks and operators have no meaning. A text without words that count finds nothing.
        """
        from tantivy import Occur, Query

        with self._lock:
            self._refresh()
            searcher, schema = self._index.searcher(), self._schema
            words = dict.fromkeys(self._analyzer.analyze(_encodable(text)))
        if not words or limit < 1:
            return []
        query = Query.boolean_query(
            [(Occur.Should, Query.term_query(schema, "text", word, "freq")) for word in words]
        )
        fetched = limit + 50
        while True:
            found = searcher.search(query, fetched)
            scores = [round(score, _DECIMALS) for score, _ in found.hits]
            # Of captions with equal scores tantivy returns any, and the order of ids decides here: all that
            # tie with the last one wanted have to be there.
            if len(scores) < fetched or scores[-1] < scores[limit - 1]:
                break
            fetched *= 4
        hits = []
        last = scores[min(limit, len(scores)) - 1] if scores else 0.0
        for score, (_, address) in zip(scores, found.hits, strict=True):
            if score >= last:
                id, photo_id = json.loads(searcher.doc(address).get_first("document"))
                hits.append(WordHit(id, photo_id, score))
        return sorted(hits, key=lambda hit: (-hit.bm25, hit.id))[:limit]

    def _refresh(self) -> None:
        """Take over what the stores have committed since."""
        stores = {store.path: store for store in self._stores()}
        try:
            if self._index is None or stores.keys() != self._followed.keys() or not self._follow(stores):
                self._rebuild(stores)
        except BaseException:
            # Half of a change may be in the index: the next search makes it anew.
            self._index = None
            raise

    def _follow(self, stores: dict[Path, Store]) -> bool:
        """Add new rows and take out dead ones; False where everything has to be read again."""
        changed = [
            (store, self._followed[path])
            for path, store in stores.items()
            if store is not self._followed[path].store or store.sequence != self._followed[path].sequence
        ]
        if not changed:
            return True
        writer = self._index.writer(_WRITER_BYTES, 1)
        for store, known in changed:
            with store.vector_snapshot() as snapshot:
                died = snapshot.deaths_after(known.sequence) if snapshot.store_id == known.store_id else None
                if died is None:
                    writer.rollback()
                    return False
                # Rows that came and went between two searches were never here.
                gone = [row for row in died.tolist() if row < known.next_row]
                for row in gone:
                    writer.delete_documents_by_term("row", _row_key(snapshot, row))
                self._removed += len(gone)
                self._add(writer, store, snapshot, known.next_row)
                self._followed[store.path] = _followed(store, snapshot)
        if self._removed > _MOST_DEAD * self._added:
            writer.rollback()
            return False
        self._commit(writer)
        return True

    def _rebuild(self, stores: dict[Path, Store]) -> None:
        from tantivy import Filter, Index, SchemaBuilder, TextAnalyzerBuilder, Tokenizer

        builder = SchemaBuilder()
        builder.add_text_field("row", tokenizer_name="raw", index_option="basic")
        builder.add_text_field("text", tokenizer_name=_ANALYZER, index_option="freq")
        builder.add_bytes_field("document", stored=True)
        self._schema = builder.build()
        analysis = TextAnalyzerBuilder(Tokenizer.simple())
        for step in (
            Filter.remove_long(_LONGEST_WORD),
            Filter.lowercase(),
            Filter.ascii_fold(),
            Filter.stopword("english"),
            Filter.stemmer("english"),
        ):
            analysis = analysis.filter(step)
        self._analyzer = analysis.build()
        self._index = Index(self._schema)
        self._index.register_tokenizer(_ANALYZER, self._analyzer)
        self._followed = {}
        self._added = self._removed = 0
        writer = self._index.writer(_WRITER_BYTES, 1)
        for path, store in stores.items():
            with store.vector_snapshot() as snapshot:
                self._add(writer, store, snapshot, 0)
                self._followed[path] = _followed(store, snapshot)
        self._commit(writer)

    def _add(self, writer: Any, store: Store, snapshot: VectorSnapshot, first_row: int) -> None:
        from tantivy import Document

        for block in snapshot.blocks(first_row):
            for row, text, document in _captions(store, block.rows.tolist(), block.ids):
                writer.add_document(
                    Document(row=_row_key(snapshot, row), text=_encodable(text), document=document)
                )
                self._added += 1

    def _commit(self, writer: Any) -> None:
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()


def _captions(store: Store, rows: Sequence[int], ids: Sequence[str]) -> Iterator[tuple[int, str, bytes]]:
    for row, id, record in zip(rows, ids, store.get(ids), strict=True):
        # None: deleted since the snapshot was taken; its death is read at the next search.
        if record is not None and record.text:
            # As ASCII: an id may hold what no UTF-8 can.
            yield row, record.text, json.dumps([id, record.photo_id]).encode()


def _followed(store: Store, snapshot: VectorSnapshot) -> _Followed:
    return _Followed(store, snapshot.store_id, snapshot.sequence, snapshot.next_row)


def _row_key(snapshot: VectorSnapshot, row: int) -> str:
    return f"{snapshot.store_id}:{row}"


def _encodable(text: str) -> str:
    """``text`` without halves of characters, which have no UTF-8."""
    return text.encode("utf-8", "replace").decode()
