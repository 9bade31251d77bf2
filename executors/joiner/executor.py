"""The step where the branches of a Flow meet."""

from typing import Any

from docarray import DocList
from jina import requests

from crossmodal.documents import ALONE, PACKED, MediaDocument, pack_matches
from executors.flow_step import FlowStep
from executors.merge import join
from executors.ranking import rank_wanted
from executors.steps import keep_best


class Joiner(FlowStep):
    """Passes on what the branches left, with the matches of all shards merged and cut."""

    step = "joiner"

    @requests(on=["/index", "/delete"])
    def index(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Answers with what became of each document, and sends nothing of the document itself back."""
        return self.visited(DocList[MediaDocument]([_outcome(doc) for doc in join([docs])]))

    @requests(on=["/encode", "/status"])
    def encode(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Answers with the embeddings, or with what each shard tells of itself."""
        return self.visited(join([docs]))

    @requests(on="/search")
    def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Merges what all shards found: the best ``top_k``, or the ranks of what a document wants.

        With the parameter ``packed`` the matches of each document are one field (``pack_matches``), and with
        ``alone`` embeddings come back.
        """
        joined = join([docs])
        keep_best(joined, parameters)
        rank_wanted(joined)
        if parameters.get(PACKED):
            for doc in joined:
                pack_matches(doc)
        return self.visited(joined if parameters.get(ALONE) else _without_embeddings(joined))


def _outcome(doc: MediaDocument) -> MediaDocument:
    return MediaDocument(
        id=doc.id,
        modality=doc.modality,
        outcome=doc.outcome,
        error=doc.error,
        aborted=doc.aborted,
        trail=doc.trail,
    )


def _without_embeddings(docs: DocList[MediaDocument]) -> DocList[MediaDocument]:
    for doc in docs:
        doc.embedding = None
    return docs
