"""One shard of a vector index, as the image and the text indexer both use it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from docarray import DocList

from crossmodal.documents import MatchDocument, MediaDocument
from crossmodal.errors import CrossmodalError, StoreError
from crossmodal.models import identify_model
from crossmodal.records import Record
from crossmodal.search import ExactIndex
from crossmodal.stores import Store
from crossmodal.workspace import Workspace, shard_of
from executors.steps import fail_all, pending

_SEARCH_FILE = "search.faiss"


class VectorShard:
    """The documents of one shard: in the index Flow its only writer, in the query Flow one of its readers.

    Raises ModelMismatch where another model built the index, StoreLocked where another process writes.
    """

    def __init__(
        self, workspace: str, name: str, *, model: str, model_cache: str, writable: bool, runtime_args: Any
    ) -> None:
        self.number = int(getattr(runtime_args, "shard_id", 0) or 0)
        self._shards = int(getattr(runtime_args, "shards", 1) or 1)
        self._path = Workspace(Path(workspace)).store_path(name, self.number, self._shards)
        self._identity = identify_model(model, cache=Path(model_cache))
        self._writable = writable
        self._open()

    def _open(self) -> None:
        opening = Store.open_writer if self._writable else Store.open_reader
        self.store = opening(self._path, identity=self._identity)
        self._index = ExactIndex(self.store, search_file=self._path / _SEARCH_FILE)

    def put(self, docs: DocList[MediaDocument], *, documents: bool) -> None:
        """Stores the vectors of this shard's documents, and the documents themselves where asked.

        Sets ``outcome`` after the commit, so an answered document is a durable one.
        """
        mine = [doc for doc in pending(docs) if shard_of(str(doc.id), self._shards) == self.number]
        if mine:
            records = [doc.to_record() if documents else _identity_only(doc) for doc in mine]
            vectors = np.stack([np.asarray(doc.embedding, dtype=np.float32) for doc in mine])
            try:
                outcomes = self.store.put(records, vectors)
            except CrossmodalError as error:
                fail_all(mine, error, abort=isinstance(error, StoreError))
            else:
                for doc, outcome in zip(mine, outcomes, strict=True):
                    doc.outcome = outcome
        for doc in docs:
            doc.embedding = None

    def search(self, docs: Iterable[MediaDocument], top_k: int) -> list[MediaDocument]:
        """Gives each document its best ``top_k`` of this shard, ids and scores only."""
        todo = [doc for doc in docs if doc.error is None]
        if not todo:
            return []
        queries = np.stack([np.asarray(doc.embedding, dtype=np.float32) for doc in todo])
        try:
            if self.store.superseded:
                # The index was deleted and made anew while this process was serving the old one.
                self.store.close()
                self._open()
            found = self._index.search(queries, top_k)
        except CrossmodalError as error:
            fail_all(todo, error)
            return []
        for doc, ranked in zip(todo, found, strict=True):
            doc.matches = DocList[MatchDocument]([MatchDocument(id=id, score=score) for id, score in ranked])
        return todo

    def close(self) -> None:
        """Writes the derived search file (writer only) and lets go of the store."""
        try:
            if self._writable:
                self._index.save()
        finally:
            self.store.close()

    def __enter__(self) -> VectorShard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
            match.tags = dict(record.tags)
            filled.append(match)
    doc.matches = DocList[MatchDocument](filled)


def _identity_only(doc: MediaDocument) -> Record:
    """What a store of vectors alone keeps: enough to know whether the document has changed."""
    return Record(
        id=str(doc.id),
        modality="image" if doc.modality == "image" else "text",
        content_hash=doc.content_hash or "",
    )


__all__ = ["VectorShard", "fill_matches"]
