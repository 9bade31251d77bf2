"""One shard of a vector index, as the steps of photos and of captions both use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import Document
from crossmodal.errors import DataError
from crossmodal.match import Match
from crossmodal.records import Modality, Record
from crossmodal.search import SearchOptions, save_vectors
from crossmodal.steps.embeddings import unit_vector
from crossmodal.steps.ranking import add_scores
from crossmodal.steps.step import StepContext, fail_all, filter_of, pending, top_k_of
from crossmodal.steps.store_shard import StoreShard
from crossmodal.stores import Store

if TYPE_CHECKING:
    from crossmodal.search import VectorIndex

__all__ = ["VectorShard", "fill_matches"]


class VectorShard(StoreShard):
    """A shard of the vectors of ``modality``, and in the query Flow the index that searches them.

    ``index`` and ``index_options`` say how (``SearchOptions.of``, which raises SettingsError).
    """

    _index: VectorIndex

    def __init__(
        self,
        context: StepContext,
        workspace: str,
        name: str,
        modality: Modality,
        *,
        index: str,
        index_options: Mapping[str, Any] | None,
        **named: Any,
    ) -> None:
        self._options = SearchOptions.of(index, index_options)
        self._modality = modality
        super().__init__(context, workspace, name, **named)

    def open(self) -> None:
        """Opens the store, and the index over it where this shard is for reading."""
        super().open()
        if not self.writable:
            # faiss is loaded only to search.
            from crossmodal.search import VectorIndex

            try:
                self._index = VectorIndex(self.store, folder=self.path, options=self._options)
            except BaseException:
                # The next search tries again.
                self.store.close()
                raise

    def reopen_if_superseded(self) -> None:
        """Goes over to the index that was made where this one was deleted while it was being served."""
        if self.store.superseded:
            self._index.close()
        super().reopen_if_superseded()

    def put_vectors(self, docs: Sequence[Document], *, documents: bool) -> None:
        """Stores the vectors of this shard's documents, and the documents themselves where asked."""
        mine, vectors = self._usable(self.mine(docs))
        if mine:
            records = [_record(doc) if documents else _identity_only(_record(doc)) for doc in mine]
            self.put(mine, records, vectors)

    def search(self, docs: Sequence[Document], parameters: Mapping[str, Any]) -> list[Document]:
        """Gives each document its best ``top_k`` of this shard, ids and cosines only; returns those.

        ``parameters`` hold ``top_k`` and ``filter``. A document with ``wanted`` gets the scores of the whole
        shard instead, from which the last step ranks. Raises StoreError where the index cannot be read.
        """
        todo = pending(docs)
        self.reopen_if_superseded()
        try:
            top_k, wanted = top_k_of(parameters), filter_of(parameters)
            ranking, queries = self._usable([doc for doc in todo if doc.wanted is not None])
            if ranking:
                add_scores(ranking, *self._index.scores(queries), shard=self.number)
            searching, queries = self._usable([doc for doc in todo if doc.wanted is None])
            found = self._index.search(queries, top_k, wanted) if searching else []
        except DataError as error:
            fail_all(todo, error)
            return []
        for doc, best in zip(searching, found, strict=True):
            doc.matches = [Match(id, self._modality, score) for id, score in best]
        return searching

    def status(self, docs: Sequence[Document]) -> None:
        """Adds to each document how this shard answers searches."""
        self.reopen_if_superseded()
        status = self._index.status()
        for doc in pending(docs):
            doc.shard_states = [{"modality": self._modality, "shard": self.number, **status}]

    def _usable(self, docs: Sequence[Document]) -> tuple[list[Document], NDArray[np.float32]]:
        """The documents with an embedding that fits this index, and those: float32 (n, dimension).

        The others get an error of their own, so that their request goes on without them.
        """
        dimension = self.store.dimension
        usable, vectors = list[Document](), list[NDArray[np.float32]]()
        for doc in docs:
            try:
                vectors.append(unit_vector(doc.embedding, dimension=dimension))
            except DataError as error:
                doc.error = str(error)
            else:
                usable.append(doc)
        return usable, np.stack(vectors) if vectors else np.empty((0, dimension or 1), np.float32)

    def close(self) -> None:
        """Writes the derived search file (writer only) and lets go of the store."""
        try:
            if not self.writable:
                self._index.close()
            elif not self.store.superseded:
                save_vectors(self.store, self.path)
        finally:
            super().close()


def fill_matches(doc: Document, store: Store) -> None:
    """Adds to each match what ``store`` knows of it, and drops those that it doesn't know.

    Those are another shard's, or of a write that was killed between the vectors and the photos.
    """
    matches = doc.matches or []
    filled = []
    for match, record in zip(matches, store.get([match.id for match in matches]), strict=True):
        if record is not None:
            match.describe(record)
            filled.append(match)
    doc.matches = filled


def _record(doc: Document) -> Record:
    assert doc.record is not None, "documents to index come with their record"
    return doc.record


def _identity_only(record: Record) -> Record:
    """What a store of vectors alone keeps: what a filter looks at, and whether the document has changed."""
    return Record(id=record.id, modality=record.modality, tags=record.tags, content_hash=record.content_hash)
