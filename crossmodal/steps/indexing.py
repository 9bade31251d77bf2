"""The steps that store and search: photos' vectors, captions, and the photos themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from crossmodal.documents import Document
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.steps.step import Step, StepContext, pending
from crossmodal.steps.store_shard import StoreShard
from crossmodal.steps.vector_shard import VectorShard, fill_matches
from crossmodal.workspace import IMAGE_CONTENTS, IMAGE_VECTORS, TEXTS

__all__ = ["ImageKeyValueIndexer", "ImageVectorIndexer", "TextIndexer"]


class _Indexer(Step):
    """One shard of a store: what steps of vectors and of photos do alike."""

    writes = True
    _shard: StoreShard

    @property
    def superseded(self) -> bool:
        """Whether the store that it writes to was deleted or replaced on disk."""
        return self._shard.writable and self._shard.store.superseded

    def delete(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Deletes those of the documents that belong to this shard."""
        self._shard.delete(docs)

    def close(self) -> None:
        """Lets go of the store."""
        self._shard.close()


class _VectorIndexer(_Indexer):
    """One shard of the vectors of one modality."""

    store: ClassVar[str]
    modality: ClassVar[Modality]
    _shard: VectorShard

    def __init__(
        self,
        context: StepContext,
        *,
        index_path: str,
        model: str,
        model_cache: str,
        writable: bool = False,
        index: str = "auto",
        index_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(context)
        self._shard = VectorShard(
            context,
            index_path,
            self.store,
            self.modality,
            model=model,
            model_cache=model_cache,
            writable=writable,
            index=index,
            index_options=index_options,
        )

    def status(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Tells how this shard answers searches."""
        self._shard.status(docs)


class ImageVectorIndexer(_VectorIndexer):
    """One shard of the photos' vectors."""

    store = IMAGE_VECTORS
    modality = IMAGE

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Stores the vectors of the documents that belong to this shard."""
        self._shard.put_vectors(docs, documents=False)

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Finds the best photos of this shard; the next step knows what they are."""
        self._shard.search(docs, parameters)


class TextIndexer(_VectorIndexer):
    """One shard of the captions: their vectors and their texts in one."""

    store = TEXTS
    modality = TEXT

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Stores captions and vectors of the documents that belong to this shard."""
        self._shard.put_vectors(docs, documents=True)

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Finds the best captions of this shard, with their texts."""
        for doc in self._shard.search(docs, parameters):
            fill_matches(doc, self._shard.store)


class ImageKeyValueIndexer(_Indexer):
    """One shard of the photos by id: originals with a thumbnail, or with ``keep: uri`` thumbnails only."""

    spent = ("content", "thumbnail", "pixels", "frame")

    def __init__(
        self,
        context: StepContext,
        *,
        index_path: str,
        model: str,
        model_cache: str,
        keep: str = "original",
        writable: bool = False,
    ) -> None:
        super().__init__(context)
        self._keep_original = keep == "original"
        self._shard = StoreShard(
            context, index_path, IMAGE_CONTENTS, model=model, model_cache=model_cache, writable=writable
        )

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Stores each photo of this shard, with the thumbnail that the loader made."""
        mine = self._shard.mine(docs)
        self._shard.put(mine, [self._record(doc) for doc in mine])

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Adds to the matches what this shard knows of its photos."""
        self._shard.reopen_if_superseded()
        for doc in pending(docs):
            if doc.matches is not None:
                fill_matches(doc, self._shard.store)

    def _record(self, doc: Document) -> Record:
        assert doc.record is not None, "documents to index come with their record"
        content = doc.record.content if self._keep_original else None
        return replace(doc.record, content=content, thumbnail=doc.thumbnail)
