"""One shard of a store, as every indexing step uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import Document
from crossmodal.errors import CrossmodalError, StoreError
from crossmodal.models import identify_model
from crossmodal.records import Record
from crossmodal.steps.step import StepContext, fail_all, pending
from crossmodal.stores import Store
from crossmodal.workspace import Workspace, shard_of

__all__ = ["StoreShard"]


class StoreShard:
    """One shard of the store ``name``: in the index Flow its only writer, in the query Flow a reader.

    Raises ModelMismatch where another model built the index, StoreLocked where another process writes.
    """

    def __init__(
        self, context: StepContext, workspace: str, name: str, *, model: str, model_cache: str, writable: bool
    ) -> None:
        self.number, self._shards = context.shard, context.shards
        self.path = Workspace(Path(workspace)).store_path(name, self.number, self._shards)
        self._identity = identify_model(model, cache=Path(model_cache))
        self.writable = writable
        self.open()

    def open(self) -> None:
        """Opens the store."""
        opening = Store.open_writer if self.writable else Store.open_reader
        self.store = opening(self.path, identity=self._identity)

    def reopen_if_superseded(self) -> None:
        """Goes over to the index that was made where this one was deleted while it was being served."""
        if self.store.superseded:
            self.store.close()
            self.open()

    def mine(self, docs: Sequence[Document]) -> list[Document]:
        """The documents of this shard that no earlier step has given an error."""
        if self._shards == 1:
            return pending(docs)
        return [doc for doc in pending(docs) if shard_of(doc.id, self._shards) == self.number]

    def put(
        self,
        docs: Sequence[Document],
        records: Sequence[Record],
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Stores what ``records`` and ``vectors`` say of ``docs``, in one transaction.

        Sets ``outcome`` after the commit, so an answered document is a durable one.
        """
        if not docs:
            return
        try:
            outcomes = self.store.put(records, vectors)
        except CrossmodalError as error:
            fail_all(docs, error, abort=isinstance(error, StoreError))
        else:
            for doc, outcome in zip(docs, outcomes, strict=True):
                doc.settle(outcome)

    def delete(self, docs: Sequence[Document]) -> None:
        """Deletes those of this shard in one transaction, then sets ``outcome`` of those that there were."""
        mine = self.mine(docs)
        if not mine:
            return
        try:
            deleted = set(self.store.delete(doc.id for doc in mine))
        except CrossmodalError as error:
            fail_all(mine, error, abort=isinstance(error, StoreError))
            return
        for doc in mine:
            if doc.id in deleted:
                doc.settle("deleted")

    def close(self) -> None:
        """Lets go of the store."""
        self.store.close()
