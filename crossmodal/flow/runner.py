"""Runs a Flow's YAML in this process: plain objects, passed on by reference, in the thread that asks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Any, Protocol, Self

from crossmodal.deadlines import check_deadline
from crossmodal.documents import Document
from crossmodal.errors import CrossmodalError, ServiceError
from crossmodal.flow.topology import GATEWAY, StepEntry, Topology, load_step
from crossmodal.models.registry import LoadedEncoders
from crossmodal.steps.joining import join, merge_shards
from crossmodal.steps.step import WRITES, Operation, Step, StepContext

__all__ = ["Flow", "LocalFlow"]


class Flow(Protocol):
    """Whatever takes documents through a Flow: this process, or jina's processes."""

    def run(
        self,
        operation: Operation,
        docs: Sequence[Document],
        parameters: Mapping[str, Any] | None = None,
        *,
        ticket: int | None = None,
    ) -> list[Document]:
        """What comes out of the last step. Safe from any number of threads.

        ``ticket`` is the place in the order of writes that ``take_ticket`` gave.
        """
        ...

    def take_ticket(self) -> int | None:
        """A place in the order of writes; its owner must run with it, or those behind wait for ever."""
        ...

    def prepare(self) -> None:
        """Loads all that the first request would load."""
        ...

    def check(self) -> None:
        """Raises ServiceError where a process that the Flow needs has ended, or what it writes to is gone."""
        ...

    def close(self) -> None:
        """Ends the Flow, after what is under way."""
        ...


class LocalFlow:
    """The Flow that ``topology`` describes, in this process.

    Each step works on as many requests at once as it says; a request stays in the thread of its caller.
    Raises what keeps a step from being made: ModelError, StoreError, SettingsError, ServiceError.
    """

    def __init__(self, topology: Topology, *, loaded: LoadedEncoders | None = None) -> None:
        self._topology = topology
        self._order = _Tickets()
        self._steps: list[_RunningStep] = []
        loaded = loaded or LoadedEncoders()
        try:
            for entry in topology.steps:
                self._steps.append(_RunningStep(entry, loaded))
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Loads all that the first request would load."""
        for step in self._steps:
            step.prepare()

    def check(self) -> None:
        """Raises ServiceError where a store that a step writes to was deleted or replaced on disk."""
        if any(step.superseded for step in self._steps):
            raise ServiceError("The index was deleted or replaced on disk; open it again.")

    def take_ticket(self) -> int | None:
        """A place in the order of writes."""
        return self._order.take()

    def run(
        self,
        operation: Operation,
        docs: Sequence[Document],
        parameters: Mapping[str, Any] | None = None,
        *,
        ticket: int | None = None,
    ) -> list[Document]:
        """What comes out of the last step: the documents given, or copies of them where there are shards."""
        parameters = parameters or {}
        if operation in WRITES and ticket is None:
            ticket = self._order.take()
        passed: dict[str, Sequence[Document]] = {GATEWAY: docs}
        done = 0
        try:
            for step in self._steps:
                check_deadline()
                entry = step.entry
                if len(entry.needs) == 1:
                    arriving = passed[entry.needs[0]]
                else:
                    arriving = join([passed[name] for name in entry.needs])
                taken = [doc for doc in arriving if entry.takes(doc)] if entry.when else list(arriving)
                passed[entry.name] = step.run(operation, taken, parameters, ticket)
                done += 1
        finally:
            if ticket is not None:
                # After a failure those behind must not wait for this one at the steps that it never came to.
                for step in self._steps[done:]:
                    step.skip(ticket)
        answered = list(passed[self._topology.last.name])
        return answered if len(answered) == len(docs) else answered + self._topology.refuse(docs)

    def close(self) -> None:
        """Closes every step, the last one first."""
        for step in reversed(self._steps):
            step.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class _RunningStep:
    """A step with one instance for each of its shards."""

    def __init__(self, entry: StepEntry, loaded: LoadedEncoders) -> None:
        self.entry = entry
        self._instances: list[Step] = []
        try:
            for shard in range(entry.shards):
                context = StepContext(entry.name, shard, entry.shards, loaded)
                self._instances.append(load_step(entry, context))
        except BaseException:
            self.close()
            raise
        self._turns = _Turns() if self._instances[0].writes else None
        # How many requests it works on at once is known when it is first asked: for that, a step may have to
        # load its model.
        self._places: AbstractContextManager[Any] | None = None
        self._making_places = threading.Lock()

    @property
    def superseded(self) -> bool:
        return any(instance.superseded for instance in self._instances)

    def prepare(self) -> None:
        for instance in self._instances:
            instance.prepare()

    def run(
        self, operation: Operation, docs: list[Document], parameters: Mapping[str, Any], ticket: int | None
    ) -> Sequence[Document]:
        with nullcontext() if self._turns is None or ticket is None else self._turns.turn(ticket):
            return self._work(operation, docs, parameters) if docs else docs

    def skip(self, ticket: int) -> None:
        """Lets those behind ``ticket`` go on, who would wait for it here."""
        if self._turns is not None:
            self._turns.give_up(ticket)

    def _work(
        self, operation: Operation, docs: list[Document], parameters: Mapping[str, Any]
    ) -> Sequence[Document]:
        with self._places or self._make_places():
            if len(self._instances) == 1:
                returned = getattr(self._instances[0], operation)(docs, parameters)
                return docs if returned is None else returned
            # Each shard works on documents of its own, as it would in a process of its own.
            parts = []
            for instance in self._instances:
                copies = [copy(doc) for doc in docs]
                returned = getattr(instance, operation)(copies, parameters)
                parts.append(copies if returned is None else returned)
            joined = join(parts)
            merge_shards(joined, parameters)
            return joined

    def _make_places(self) -> AbstractContextManager[Any]:
        """What gives each request one of the places that the step has, or lets all of them in."""
        with self._making_places:
            if self._places is None:
                concurrency = self._instances[0].concurrency
                self._places = (
                    nullcontext()
                    if concurrency is None
                    else threading.Semaphore(concurrency * self.entry.replicas)
                )
            return self._places

    def close(self) -> None:
        failed: Exception | None = None
        for instance in self._instances:
            try:
                instance.close()
            except CrossmodalError as error:
                # The other shards have files to close as well.
                failed = failed or error
        if failed is not None:
            print(f"error: {failed}", file=sys.stderr)


class _Tickets:
    """Numbers in the order in which requests came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0

    def take(self) -> int:
        with self._lock:
            taken, self._next = self._next, self._next + 1
            return taken


class _Turns:
    """Lets requests in one after the other, in the order of their tickets."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0
        self._given_up: set[int] = set()

    @contextmanager
    def turn(self, ticket: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._next == ticket)
        try:
            yield
        finally:
            self._pass_on(ticket)

    def give_up(self, ticket: int) -> None:
        """Notes that ``ticket`` will not come; harmless for one that has been here."""
        with self._changed:
            if ticket < self._next:
                return
            self._given_up.add(ticket)
            if ticket != self._next:
                return
        self._pass_on(ticket)

    def _pass_on(self, ticket: int) -> None:
        with self._changed:
            self._next = ticket + 1
            while self._next in self._given_up:
                self._given_up.discard(self._next)
                self._next += 1
            self._changed.notify_all()
