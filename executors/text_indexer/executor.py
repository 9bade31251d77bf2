"""The step that stores and searches captions: their embeddings and their texts in one."""

from typing import Any

from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from executors.flow_step import FlowStep
from executors.steps import told_on_failure
from executors.vector_shard import VectorShard, fill_matches


class TextIndexer(FlowStep):
    """One shard of the captions."""

    step = "text_indexer"

    def __init__(
        self,
        index_path: str,
        model: str,
        model_cache: str,
        writable: bool = False,
        index: str = "auto",
        index_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with told_on_failure("text_indexer"):
            self._shard = VectorShard(
                index_path,
                "text_indexer",
                model=model,
                model_cache=model_cache,
                writable=writable,
                index=index,
                index_options=index_options,
                runtime_args=self.runtime_args,
            )
        self.shard = self._shard.number

    @requests(on="/index")
    def index(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Stores captions and vectors of the documents that belong to this shard."""
        self._shard.put_vectors(docs, documents=True)
        return self.visited(docs)

    @requests(on="/delete")
    def delete(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Deletes the captions that belong to this shard."""
        self._shard.delete(docs)
        return self.visited(docs)

    @requests(on="/search")
    def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Finds the best captions of this shard, with their texts."""
        for doc in self._shard.search(docs, parameters):
            fill_matches(doc, self._shard.store)
        return self.visited(docs)

    @requests(on="/status")
    def status(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Tells how this shard answers searches."""
        self._shard.status(docs)
        return self.visited(docs)

    def close(self) -> None:
        """Lets go of the store."""
        self._shard.close()
