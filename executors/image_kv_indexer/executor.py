"""The step that keeps the photos themselves, and adds them to the matches."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.errors import DataError, StoreError
from crossmodal.images import MAX_PIXELS, make_thumbnail
from crossmodal.models.runtimes.machine import available_cores
from crossmodal.records import Record
from crossmodal.workspace import IMAGE_CONTENTS
from executors.flow_step import FlowStep
from executors.steps import fail_all, keep_best, pending, told_on_failure
from executors.store_shard import StoreShard
from executors.vector_shard import fill_matches


class ImageKeyValueIndexer(FlowStep):
    """One shard of the photos by id: originals with a thumbnail, or with ``keep: uri`` thumbnails only."""

    step = "image_kv_indexer"

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
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="thumbnail")
        with told_on_failure("image_kv_indexer"):
            self._shard = StoreShard(
                index_path,
                IMAGE_CONTENTS,
                model=model,
                model_cache=model_cache,
                writable=writable,
                runtime_args=self.runtime_args,
            )
        self.shard = self._shard.number

    @requests(on="/index")
    def index(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Stores each photo of this shard that can be shown; making the thumbnail is what proves it."""
        mine = self._shard.mine(docs)
        records = self._threads.map(self._record, mine)
        made = [(doc, record) for doc, record in zip(mine, records, strict=True) if record]
        self._shard.put([doc for doc, _ in made], [record for _, record in made])
        for doc in docs:
            doc.blob = None
        return self.visited(docs)

    @requests(on="/delete")
    def delete(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Deletes the photos that belong to this shard, with their thumbnails."""
        self._shard.delete(docs)
        return self.visited(docs)

    @requests(on="/search")
    def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Merges the matches of all vector shards and adds what this shard knows of its photos."""
        todo = [doc for doc in pending(docs) if doc.matches is not None]
        keep_best(docs, parameters)
        try:
            self._shard.reopen_if_superseded()
            for doc in todo:
                fill_matches(doc, self._shard.store)
        except StoreError as error:
            fail_all(todo, error)
        return self.visited(docs)

    def close(self) -> None:
        """Lets go of the store."""
        self._threads.shutdown()
        self._shard.close()

    def _record(self, doc: MediaDocument) -> Record | None:
        try:
            thumbnail = make_thumbnail(doc.blob or b"", max_pixels=self._max_pixels)
        except DataError as error:
            doc.error = str(error)
            return None
        record = doc.to_record()
        return replace(record, content=record.content if self._keep_original else None, thumbnail=thumbnail)
