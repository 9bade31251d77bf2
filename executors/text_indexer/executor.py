"""The step that stores and searches captions: their embeddings and their texts in one."""

from typing import Any

from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from executors.steps import told_on_failure, top_k_of, visited
from executors.vector_shard import VectorShard, fill_matches


class TextIndexer(Executor):
    """One shard of the captions."""

    def __init__(
        self, index_path: str, model: str, model_cache: str, writable: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with told_on_failure("text_indexer"):
            self._shard = VectorShard(
                index_path,
                "text_indexer",
                model=model,
                model_cache=model_cache,
                writable=writable,
                runtime_args=self.runtime_args,
            )

    @requests(on="/index")
    def index(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Stores captions and vectors of the documents that belong to this shard."""
        self._shard.put_vectors(docs, documents=True)
        return visited(docs, "text_indexer", self._shard.number)

    @requests(on="/search")
    def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Finds the best captions of this shard, with their texts."""
        for doc in self._shard.search(docs, top_k_of(parameters)):
            fill_matches(doc, self._shard.store)
        return visited(docs, "text_indexer", self._shard.number)

    def close(self) -> None:
        """Lets go of the store."""
        self._shard.close()
