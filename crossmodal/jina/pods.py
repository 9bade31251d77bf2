"""The layout pods: a Flow whose steps run as jina's executors, one process each, shard and replica.

The process that asks, such as the one that serves HTTP, imports jina and docarray as well: it speaks to the
Flow as jina's own client does. In the default layout no process imports them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import re
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, Self

from crossmodal import errors
from crossmodal.deadlines import check_deadline, current_deadline
from crossmodal.documents import Document
from crossmodal.errors import (
    CrossmodalError,
    DeadlinePassed,
    FlowFailure,
    ModelError,
    ServiceError,
    StoreError,
)
from crossmodal.filters import Filter
from crossmodal.flow.topology import FlowKind, flow_file, read_topology
from crossmodal.images.budget import process_budget
from crossmodal.images.limits import MEGABYTE
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.jina.child import Child
from crossmodal.jina.delivery import DEADLINE_PARAMETER, REQUEST_IDS_PARAMETER, Answer, LostShards, deliver
from crossmodal.jina.launch import FLOW_LOG, TOKEN_KEY, import_jina, make_run_token, quiet_jina, require_jina
from crossmodal.jina.placement import require_private
from crossmodal.models import DEFAULT_MODEL, identify_model
from crossmodal.request_ids import REQUEST_IDS
from crossmodal.settings import Settings
from crossmodal.steps.step import Operation

__all__ = ["PodsFlow", "open_pods"]

_CHECK_SECONDS = 0.5

# A Flow has so long to answer, and more for each document that is in it: as much as a large model takes for a
# photo on a slow machine. A process that is stopped or stuck would hold a request for ever.
_ANSWER_SECONDS = 20.0
_DOCUMENT_SECONDS = 5.0

# How jina says which step it was, among addresses that are nobody's business.
_UNREACHABLE = re.compile(r"(?:Communication error|Connection) with deployment (\w+)")

# What the sender still has, and the last step has not sent back.
_RETAINED = frozenset({"id", "modality", "seeks", "text", "content", "record", "wanted"})
_ANSWERED = tuple(field.name for field in fields(Document) if field.name not in _RETAINED)


def open_pods(kind: FlowKind, settings: Settings) -> PodsFlow:
    """Starts one of the two Flows as processes of jina; ``settings`` say which model and how many shards.

    Raises ServiceError where jina is missing or a process doesn't start, and for the index Flow StoreLocked,
    StoreUnwritable and StoreFormat.
    """
    require_jina("--layout pods", "The default layout works without it.")
    if kind == "index":
        _require_writable(settings)
    # The loaders decode within one budget.
    budget = process_budget((settings.decode_memory or 0) * MEGABYTE)
    variables = {**settings.flow_environment(), **budget.variables, FLOW_LOG: settings.log}
    partial = kind == "query" and settings.lost_shards == "partial"
    return PodsFlow(kind, flow_file(kind), variables, partial=partial)


class PodsFlow:
    """The Flow ``kind`` that the YAML file ``path`` describes, with ``variables`` in it, as jina's processes.

    Safe to use from any number of threads; requests that write may overtake each other. With ``partial``, a
    document may come without what some of the shards know of it. Raises ServiceError where a process doesn't
    start.
    """

    def __init__(
        self, kind: FlowKind, path: Path, variables: Mapping[str, str], *, partial: bool = False
    ) -> None:
        self._kind = kind
        self._topology = read_topology(path, variables)
        self._lost = LostShards(self._topology) if partial else None
        _require_literal(variables)
        require_private(path, self._topology, os.environ)
        # The process removes it, and where it is killed this one does.
        self._temporary = tempfile.TemporaryDirectory(prefix="crossmodal-flow-", ignore_cleanup_errors=True)
        environment = {**os.environ, **variables}
        quiet_jina(environment)
        token = make_run_token(environment)
        child: Child | None = None
        try:
            child = self._child = Child(
                "crossmodal.jina.flow_process",
                kind,
                str(path),
                self._temporary.name,
                name=f"The {kind} Flow",
                environment=environment,
                hold_stderr=True,
            )
            # While it starts: that takes more than a second.
            import_jina()
            self._client = _Client(int(self._child.wait_ready()), token)
        except BaseException:
            if child is not None:
                child.kill()
            self._temporary.cleanup()
            raise
        # The documents that are in the Flow now.
        self._documents = 0
        self._counting = threading.Lock()
        # One loop for all threads: jina's client takes one thread at a time.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{kind}-client", daemon=True)
        self._thread.start()

    def run(
        self,
        operation: Operation,
        docs: Sequence[Document],
        parameters: Mapping[str, Any] | None = None,
        *,
        ticket: int | None = None,
    ) -> list[Document]:
        """What comes out of the last step; the documents are the ones given, with what the steps added.

        Raises ServiceError where a process has ended, FlowFailure where the Flow fails on the request,
        DeadlinePassed where it doesn't answer.
        """
        if not docs:
            return []
        sent = {name: _for_wire(value) for name, value in (parameters or {}).items()}
        sent[REQUEST_IDS_PARAMETER] = list(REQUEST_IDS.get())
        if (deadline := current_deadline()) is not None and isfinite(deadline.overdue):
            sent[DEADLINE_PARAMETER] = -deadline.overdue
        answered = deliver(docs, self._topology, lambda some: self._send(operation, some, sent), self._lost)
        for doc in docs:
            if (answer := answered.get(doc.id)) is not None:
                for name in _ANSWERED:
                    if (value := getattr(answer, name)) is not None:
                        setattr(doc, name, value)
        passed = [doc for doc in docs if doc.id in answered]
        return passed if len(passed) == len(docs) else passed + self._topology.refuse(docs)

    def prepare(self) -> None:
        """Nothing to do: the processes have loaded what they need when they say that they are ready."""

    def take_ticket(self) -> None:
        """None: every process takes requests as they come."""

    def check(self) -> None:
        """Raises ServiceError where a process of the Flow has ended."""
        self._child.check()

    def close(self) -> None:
        """Ends the Flow, after what is under way."""
        if self._loop.is_closed():
            return
        try:
            self._child.stop()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _send(
        self, operation: Operation, docs: Sequence[Document], parameters: Mapping[str, Any]
    ) -> dict[str, Answer]:
        seconds = _ANSWER_SECONDS + _DOCUMENT_SECONDS * self._count(len(docs))
        deadline = time.monotonic() + seconds
        asking = asyncio.run_coroutine_threadsafe(self._client.post(operation, docs, parameters), self._loop)
        try:
            while not concurrent.futures.wait([asking], timeout=_CHECK_SECONDS).done:
                check_deadline()
                self.check()
                if time.monotonic() > deadline:
                    raise DeadlinePassed(
                        f"The {self._kind} Flow did not answer within {seconds:.0f} seconds; one of its "
                        "processes is stuck or far behind."
                    )
            return asking.result()
        except (ConnectionError, FlowFailure) as error:
            # One that ends takes the others with it in a moment, and then it is known which one it was.
            self._child.wait_ended(2 * _CHECK_SECONDS)
            self.check()
            if isinstance(error, FlowFailure):
                raise
            named = _UNREACHABLE.search(str(error))
            why = f"{named[1]} cannot be reached." if named else error
            raise ServiceError(f"The {self._kind} Flow does not answer: {why}") from error
        finally:
            self._count(-len(docs))
            asking.cancel()

    def _count(self, more: int) -> int:
        """How many documents are in the Flow, with so many more."""
        with self._counting:
            self._documents += more
            return self._documents


class _Client:
    """jina's own client of the gateway at the local ``port``."""

    def __init__(self, port: int, token: str) -> None:
        jina = import_jina()
        self._metadata = ((TOKEN_KEY, token),)
        self._client = jina.Client(host="127.0.0.1", port=port, protocol="grpc", asyncio=True)
        self._refused = jina.excepts.BaseJinaException

    async def post(
        self, operation: Operation, docs: Sequence[Document], parameters: Mapping[str, Any]
    ) -> dict[str, Answer]:
        """One request; raises ConnectionError where the gateway doesn't answer, and FlowFailure."""
        from docarray import DocList

        from crossmodal.jina.documents import MediaDocument, read_messages, write_message

        messages = []
        try:
            async for response in self._client.post(
                f"/{operation}",
                inputs=DocList[MediaDocument]([write_message(doc) for doc in docs]),
                request_size=len(docs),
                parameters=dict(parameters),
                return_type=DocList[MediaDocument],
                return_responses=True,
                continue_on_error=True,
                stream=False,
                metadata=self._metadata,
            ):
                status = response.header.status
                if status.code == status.ERROR:
                    raise _failure(status)
                messages += response.docs
        except self._refused as error:
            raise FlowFailure(f"The Flow failed on a request: {error}") from error
        answers, visited = read_messages(messages, parameters, indexing=False)
        return {doc.id: Answer(doc, visited[doc.id]) for doc in answers}


def _failure(status: Any) -> CrossmodalError:
    """The error that a step raised, as it would be in this process."""
    kind = getattr(errors, status.exception.name, None)
    if isinstance(kind, type) and issubclass(kind, (StoreError, ModelError, DeadlinePassed)):
        return kind(*status.exception.args)
    return FlowFailure(f"The Flow failed on a request: {status.description}")


def _for_wire(value: Any) -> Any:
    return value.to_json() if isinstance(value, Filter) else value


def _require_literal(variables: Mapping[str, str]) -> None:
    """Raises ServiceError where jina, which expands all text that it passes on, would make another of it."""
    for value in variables.values():
        if os.path.expandvars(value) != value or "${{" in value:
            raise ServiceError(
                f"{value} cannot be used, because jina takes a part of it for the name of a variable; choose "
                "a path without a dollar sign."
            )


def _require_writable(settings: Settings) -> None:
    """Opens and closes the index as a writer: what is wrong is one sentence here."""
    identity = identify_model(settings.model or DEFAULT_MODEL, cache=settings.model_cache)
    EmbeddedStore.open_writer(settings.workspace, identity=identity, objects=settings.objects).close()
