"""What every executor of this project is: a step that leaves its name on the documents it sees."""

from typing import Any, ClassVar

from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from executors.reporting import ReportingExecutor
from executors.visits import visit_name

__all__ = ["ENDPOINTS", "FlowStep"]

ENDPOINTS = ("/index", "/delete", "/search", "/encode", "/status")


class FlowStep(ReportingExecutor):
    """An executor that answers at every endpoint, so that a document's trail is whole at each of them.

    A subclass says its name in ``step`` (that of its folder), its number in ``shard`` where it is sharded,
    and handles those endpoints where it has work to do; jina lets it inherit this handler for the others.
    """

    step: ClassVar[str]
    shard: int | None = None

    @requests(on=ENDPOINTS)
    def pass_on(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Hands the documents on as they are."""
        return self.visited(docs)

    def visited(self, docs: DocList[MediaDocument]) -> DocList[MediaDocument]:
        """The same documents, with this step (or this shard of it) added to the trail of each."""
        name = visit_name(self.step, self.shard)
        for doc in docs:
            doc.trail = [*(doc.trail or ()), name]
        return docs
