"""The step that keeps the photos themselves, and adds them to the matches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from crossmodal.errors import CrossmodalError, DataError, StoreError
from crossmodal.images import MAX_PIXELS, make_thumbnail
from crossmodal.models import identify_model
from crossmodal.records import Record
from crossmodal.stores import Store
from crossmodal.workspace import IMAGE_CONTENTS, Workspace, shard_of
from executors.steps import fail_all, keep_best, pending, told_on_failure, top_k_of, visited
from executors.vector_shard import fill_matches


class ImageKeyValueIndexer(Executor):
    """One shard of the photos by id: originals with a thumbnail, or with ``keep: uri`` thumbnails only."""

    def __init__(
        self,
        index_path: str,
        model: str,
        model_cache: str,
        keep: str = "original",
        max_pixels: int = MAX_PIXELS,
        writable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._keep_original = keep == "original"
        self._max_pixels = int(max_pixels)
        self._shard = int(getattr(self.runtime_args, "shard_id", 0) or 0)
        self._shards = int(getattr(self.runtime_args, "shards", 1) or 1)
        self._path = Workspace(Path(index_path)).store_path(IMAGE_CONTENTS, self._shard, self._shards)
        with told_on_failure("image_kv_indexer"):
            self._identity = identify_model(model, cache=Path(model_cache))
            opening = Store.open_writer if writable else Store.open_reader
            self._store = opening(self._path, identity=self._identity)

    @requests(on="/index")
    def index(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Stores each photo of this shard that can be shown; making the thumbnail is what proves it."""
        todo = [doc for doc in pending(docs) if shard_of(str(doc.id), self._shards) == self._shard]
        records = [self._record(doc) for doc in todo]
        good = [(doc, record) for doc, record in zip(todo, records, strict=True) if record]
        if good:
            try:
                outcomes = self._store.put([record for _, record in good])
            except CrossmodalError as error:
                fail_all([doc for doc, _ in good], error, abort=isinstance(error, StoreError))
            else:
                for (doc, _), outcome in zip(good, outcomes, strict=True):
                    doc.outcome = outcome
        for doc in docs:
            doc.blob = None
        return visited(docs, "image_kv_indexer", self._shard)

    @requests(on="/search")
    def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Merges the matches of all vector shards and adds what this shard knows of its photos."""
        todo = pending(docs)
        keep_best(docs, top_k_of(parameters))
        try:
            if self._store.superseded:
                # The index was deleted and made anew while this process was serving the old one.
                self._store.close()
                self._store = Store.open_reader(self._path, identity=self._identity)
            for doc in todo:
                fill_matches(doc, self._store)
        except StoreError as error:
            fail_all(todo, error)
        return visited(docs, "image_kv_indexer", self._shard)

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

    def _record(self, doc: MediaDocument) -> Record | None:
        try:
            thumbnail = make_thumbnail(doc.blob or b"", max_pixels=self._max_pixels)
        except DataError as error:
            doc.error = str(error)
            return None
        record = doc.to_record()
        return replace(record, content=record.content if self._keep_original else None, thumbnail=thumbnail)
