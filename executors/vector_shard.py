"""One shard of a vector index, as the image and the text indexer both use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from docarray import DocList
from numpy.typing import NDArray

from crossmodal.documents import MatchDocument, MediaDocument, tags_for_wire, tags_from_wire
from crossmodal.errors import CrossmodalError, DataError
from crossmodal.records import Record
from crossmodal.search import SearchOptions, save_vectors
from crossmodal.stores import Store
from executors.embeddings import unit_vector
from executors.ranking import add_scores
from executors.steps import fail_all, filter_of, pending, top_k_of
from executors.store_shard import StoreShard
from executors.visits import visit_name


class VectorShard(StoreShard):
    """A shard with its vectors, and in the query Flow the index that searches them.

    ``index`` and ``index_options`` say how (``SearchOptions.of``, which raises SettingsError).
    """

    def __init__(
        self, *arguments: Any, index: str, index_options: Mapping[str, Any] | None, **named: Any
    ) -> None:
        self._options = SearchOptions.of(index, index_options)
        super().__init__(*arguments, **named)

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

    def put_vectors(self, docs: DocList[MediaDocument], *, documents: bool) -> None:
        """Stores the vectors of this shard's documents, and the documents themselves where asked."""
        mine, vectors = self._usable(self.mine(docs))
        if mine:
            records = [doc.to_record() if documents else _identity_only(doc) for doc in mine]
            self.put(mine, records, vectors)
        for doc in docs:
            doc.embedding = None

    def search(
        self, docs: DocList[MediaDocument], parameters: Mapping[str, Any] | None
    ) -> list[MediaDocument]:
        """Gives each document its best ``top_k`` of this shard, ids and scores only; returns those documents.

        ``parameters`` hold ``top_k`` and ``filter``. A document with ``wanted`` gets the scores of the whole
        shard instead, from which the last step ranks.
        """
        todo = pending(docs)
        try:
            self.reopen_if_superseded()
            top_k, wanted = top_k_of(parameters), filter_of(parameters)
            ranking, queries = self._usable([doc for doc in todo if doc.wanted is not None])
            if ranking:
                add_scores(ranking, *self._index.scores(queries), shard=self.number)
            searching, queries = self._usable([doc for doc in todo if doc.wanted is None])
            found = self._index.search(queries, top_k, wanted) if searching else []
        except CrossmodalError as error:
            fail_all(todo, error)
            return []
        for doc, best in zip(searching, found, strict=True):
            doc.matches = DocList[MatchDocument]([MatchDocument(id=id, score=score) for id, score in best])
        return searching

    def status(self, docs: DocList[MediaDocument]) -> None:
        """Adds to each document a match that tells how this shard answers searches, as its tags."""
        todo = pending(docs)
        try:
            self.reopen_if_superseded()
            status = tags_for_wire(self._index.status())
        except CrossmodalError as error:
            fail_all(todo, error)
            return
        name = visit_name(self.name, self.number)
        for doc in todo:
            doc.matches = DocList[MatchDocument]([MatchDocument(id=name, score=0.0, tags=status)])

    def _usable(self, docs: Sequence[MediaDocument]) -> tuple[list[MediaDocument], NDArray[np.float32]]:
        """The documents with an embedding that fits this index, and those: float32 (n, dimension).

        The others get an error of their own, so that their request goes on without them.
        """
        dimension = self.store.dimension
        usable, vectors = list[MediaDocument](), list[NDArray[np.float32]]()
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
            if self.writable:
                save_vectors(self.store, self.path)
            else:
                self._index.close()
        finally:
            super().close()


def fill_matches(doc: MediaDocument, store: Store) -> None:
    """Adds to each match what ``store`` knows of it, and drops those that it doesn't know.

    Those are another shard's, or of a write that was killed between the vectors and the photos.
    """
    matches = list(doc.matches or [])
    filled: list[MatchDocument] = []
    for match, record in zip(matches, store.get([str(match.id) for match in matches]), strict=True):
        if record is not None:
            match.modality = record.modality
            match.text = record.text
            match.uri = record.uri
            match.mime_type = record.mime_type
            match.photo_id = record.photo_id
            match.tags = tags_for_wire(record.tags)
            filled.append(match)
    doc.matches = DocList[MatchDocument](filled)


def _identity_only(doc: MediaDocument) -> Record:
    """What a store of vectors alone keeps: what a filter looks at, and whether the document has changed."""
    return Record(
        id=str(doc.id),
        modality="image" if doc.modality == "image" else "text",
        tags=tags_from_wire(doc.tags),
        content_hash=doc.content_hash or "",
    )


__all__ = ["VectorShard", "fill_matches"]
