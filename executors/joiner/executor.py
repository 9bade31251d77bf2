"""The step where the branches of a Flow meet."""

from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from executors.steps import keep_best, top_k_of


class Joiner(Executor):
    """Passes on what the branches left, with the matches of all shards merged and cut."""

    @requests(on="/index")
    def index(self, docs: DocList[MediaDocument], **kwargs) -> DocList[MediaDocument]:
        """Answers with outcome and error only; nobody needs the embeddings back."""
        for doc in docs:
            doc.embedding = None
        return docs

    @requests(on="/search")
    def search(self, docs: DocList[MediaDocument], parameters, **kwargs) -> DocList[MediaDocument]:
        """Merges the matches of all shards: best first, cut to ``top_k``."""
        keep_best(docs, top_k_of(parameters))
        for doc in docs:
            doc.embedding = None
        return docs
