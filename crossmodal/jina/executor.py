"""The adapter between jina and the steps: one executor class for all of them."""

# No `from __future__ import annotations`: jina reads the types of the handlers from their annotations.

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from docarray import DocList
from jina import Executor, requests

from crossmodal.deadlines import Deadline, until
from crossmodal.errors import CrossmodalError
from crossmodal.flow.topology import make_step
from crossmodal.jina.delivery import DEADLINE_PARAMETER, REQUEST_IDS_PARAMETER, visited_name
from crossmodal.jina.documents import MediaDocument, read_messages, write_message
from crossmodal.jina.run_token import guard_grpc
from crossmodal.request_ids import REQUEST_IDS
from crossmodal.steps.step import Operation, StepContext

__all__ = ["StepExecutor"]

# Each document of these carries a record.
_OF_RECORDS: tuple[Operation, ...] = ("index", "update", "forget")

_logger = logging.getLogger(__name__)


class StepExecutor(Executor):
    """Runs the step that ``with: {step: WHERE:CLASS}`` in a ``config.yml`` names, one request at a time.

    Its other arguments are the step's. ``folder`` is where the folders of the config files lie, each with the
    name that ``metas`` says; the file that jina loads sets it. Errors are logged here, as jina is kept quiet
    about everything.
    """

    folder: ClassVar[Path]

    def __init__(
        self,
        step: str,
        metas: dict[str, Any] | None = None,
        requests: dict[str, Any] | None = None,
        runtime_args: dict[str, Any] | None = None,
        dynamic_batching: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            metas=metas, requests=requests, runtime_args=runtime_args, dynamic_batching=dynamic_batching
        )
        # jina makes the server of this process afterwards, also where its own command runs a single executor.
        guard_grpc()
        given = runtime_args or {}
        # Of a replica it is the step's name in the Flow's YAML, a slash and the replica's.
        name = (given.get("name") or self.metas.name).split("/")[0]
        shard, shards = given.get("shard_id", 0), given.get("shards", 1)
        self._sharded = shards > 1
        self._visited_name = visited_name(name, shard, shards)
        try:
            config = self.folder / self.metas.name / "config.yml"
            self._step = make_step(config, StepContext(name, shard, shards), options)
            # A process serves from its start, and what it would miss is an error now.
            self._step.prepare()
        except CrossmodalError as error:
            print(f"{self._visited_name}: {error}", file=sys.stderr, flush=True)
            raise

    @requests(on="/index")
    def index(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Brings documents into the index."""
        return self._run("index", docs, parameters)

    @requests(on="/update")
    def update(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Stores what is new of documents of which the index has the content."""
        return self._run("update", docs, parameters)

    @requests(on="/forget")
    def forget(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Forgets files that are gone."""
        return self._run("forget", docs, parameters)

    @requests(on="/delete")
    def delete(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Deletes documents from the index."""
        return self._run("delete", docs, parameters)

    @requests(on="/search")
    def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Gives queries their matches."""
        return self._run("search", docs, parameters)

    @requests(on="/rerank")
    def rerank(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Says how well the documents that queries want fit them."""
        return self._run("rerank", docs, parameters)

    @requests(on="/encode")
    def encode(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Gives documents their embeddings."""
        return self._run("encode", docs, parameters)

    @requests(on="/status")
    def status(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Adds what a shard knows of itself."""
        return self._run("status", docs, parameters)

    def _run(
        self, operation: Operation, messages: DocList[MediaDocument], parameters: Mapping[str, Any]
    ) -> DocList[MediaDocument]:
        # Of this thread, which works on one request after the other.
        REQUEST_IDS.set(tuple(map(str, parameters.get(REQUEST_IDS_PARAMETER) or ())))
        try:
            docs, visited = read_messages(messages, parameters, indexing=operation in _OF_RECORDS)
            with until(_deadline_of(parameters)):
                returned = getattr(self._step, operation)(docs, parameters) if docs else None
            passed_on = docs if returned is None else returned
            for doc in passed_on:
                for name in self._step.spent:
                    setattr(doc, name, None)
            return DocList[MediaDocument](
                [
                    write_message(
                        doc,
                        visited=[*visited.get(doc.id, ()), self._visited_name],
                        unmerged=self._sharded,
                    )
                    for doc in passed_on
                ]
            )
        except CrossmodalError as error:
            _logger.error("%s failed on a request to /%s: %s", self._visited_name, operation, error)
            raise
        except Exception:
            _logger.exception("%s failed on a request to /%s.", self._visited_name, operation)
            raise

    def close(self) -> None:
        """Lets go of the step's files and threads."""
        try:
            self._step.close()
        except CrossmodalError as error:
            print(f"error: {error}", file=sys.stderr)


def _deadline_of(parameters: Mapping[str, Any]) -> Deadline | None:
    seconds = parameters.get(DEADLINE_PARAMETER)
    return Deadline(float(seconds)) if isinstance(seconds, int | float) else None
