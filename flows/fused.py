"""A whole Flow inside one executor process: the same YAML, the same executors, no hops between them.

Documents are passed by reference. Where jina would give each branch and each shard its own copy, this
gives it a shallow one, and joins the copies by jina's rule: field by field, None never overwrites.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml
from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from executors.merge import join
from executors.reporting import ReportingExecutor
from flows.topology import GATEWAY, Step, read_topology

# Both branches of a photo have to store the same one of two versions that are under way at once.
_IN_ORDER = ("/index", "/delete")


class FusedFlow(ReportingExecutor):
    """Runs the steps of the Flow at ``flow``, in order.

    Several requests are under way at once: one is decoded while another is encoded and a third is written,
    and an executor with an attribute ``concurrency`` works on that many of them. The others, above all those
    that write, get one request at a time. Requests to /index and /delete leave each step in the order in
    which they came to it; any other stays in one thread along a chain of steps, as going from thread to
    thread takes longer than most of them.
    """

    def __init__(self, flow: str, variables: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._topology = read_topology(Path(flow), variables)
        self._singles = tuple((step,) for step in self._topology.steps)
        self._chains = _chains(self._topology.steps)
        self._steps: dict[str, _RunningStep] = {}
        # One for each chain: whoever waits for a step of his own must not keep another chain's threads.
        self._threads: dict[str, ThreadPoolExecutor] = {}
        try:
            for step in self._topology.steps:
                self._steps[step.name] = _RunningStep(step)
        except BaseException:
            self.close()
            raise
        for chain in self._chains:
            places = sum(self._steps[step.name].places for step in chain)
            self._threads[chain[0].name] = ThreadPoolExecutor(places, thread_name_prefix="chain")

    @requests(on="/index")
    async def index(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Indexes the documents of one request."""
        return await self._walk("/index", docs, parameters)

    @requests(on="/search")
    async def search(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Searches for the documents of one request."""
        return await self._walk("/search", docs, parameters)

    @requests(on="/delete")
    async def delete(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Deletes the documents of one request."""
        return await self._walk("/delete", docs, parameters)

    @requests(on="/encode")
    async def encode(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Encodes the documents of one request."""
        return await self._walk("/encode", docs, parameters)

    @requests(on="/status")
    async def status(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Tells how the documents of one request would be searched for."""
        return await self._walk("/status", docs, parameters)

    async def _walk(
        self, endpoint: str, docs: DocList[MediaDocument], parameters: Mapping[str, Any]
    ) -> DocList:
        done: dict[str, asyncio.Task[DocList]] = {}

        async def run(chain: Sequence[Step]) -> DocList:
            needs = chain[0].needs
            inputs = [docs if name == GATEWAY else await done[name] for name in needs]
            # Only a fork needs copies of its own; a chain hands over what it has.
            forks = any(_fan_out(self._topology.steps, name) > 1 for name in needs)
            joined = join(inputs) if len(inputs) > 1 else inputs[0]
            taken = [_copy(doc) if forks else doc for doc in joined if chain[0].takes(doc)]
            if not taken:
                return DocList[MediaDocument]()
            return await self._pass(chain, endpoint, DocList[MediaDocument](taken), parameters)

        for chain in self._singles if endpoint in _IN_ORDER else self._chains:
            done[chain[-1].name] = asyncio.ensure_future(run(chain))
        await asyncio.gather(*done.values())
        return done[self._topology.last.name].result()

    async def _pass(
        self, chain: Sequence[Step], endpoint: str, docs: DocList, parameters: Mapping[str, Any]
    ) -> DocList:
        if len(chain) == 1:
            return await self._steps[chain[0].name].call(endpoint, docs, parameters)

        def pass_along() -> DocList:
            passed = docs
            for step in chain:
                taken = DocList[MediaDocument]([doc for doc in passed if step.takes(doc)])
                passed = self._steps[step.name].work(endpoint, taken, parameters) if taken else taken
            return passed

        return await asyncio.get_running_loop().run_in_executor(self._threads[chain[0].name], pass_along)

    def close(self) -> None:
        """Closes every executor, the last one first."""
        for threads in self._threads.values():
            threads.shutdown()
        for step in reversed(self._steps.values()):
            step.close()


class _RunningStep:
    """The instances of one step: its shards, each with its replicas."""

    def __init__(self, step: Step) -> None:
        self._shards: list[_RunningShard] = []
        for number in range(step.shards):
            self._shards.append(_RunningShard(step, number))
        # Done when the request in order that came last, and so all before it, have left this step.
        self._left: asyncio.Future[None] | None = None

    @property
    def places(self) -> int:
        """How many requests each shard works on at once."""
        return self._shards[0].places

    def work(self, endpoint: str, docs: DocList, parameters: Mapping[str, Any]) -> DocList:
        """What the step makes of ``docs``, in the thread that calls; for a step of one shard."""
        (shard,) = self._shards
        return shard.work(endpoint, docs, parameters)

    async def call(self, endpoint: str, docs: DocList, parameters: Mapping[str, Any]) -> DocList:
        """What the step makes of ``docs``; where order matters, not before those that came earlier."""
        if endpoint not in _IN_ORDER:
            return await self._call_shards(endpoint, docs, parameters)
        before, self._left = self._left, asyncio.get_running_loop().create_future()
        left = self._left
        try:
            answer = await self._call_shards(endpoint, docs, parameters)
            if before is not None:
                await asyncio.shield(before)
            return answer
        finally:
            if before is None or before.done():
                left.set_result(None)
            else:
                # Failed or was cancelled: those behind it wait for those before it all the same.
                before.add_done_callback(lambda _: left.set_result(None))

    async def _call_shards(self, endpoint: str, docs: DocList, parameters: Mapping[str, Any]) -> DocList:
        """Calls every shard once and joins what they answer."""
        if len(self._shards) == 1:
            return await self._shards[0].call(endpoint, docs, parameters)
        copies = [DocList[MediaDocument]([_copy(doc) for doc in docs]) for _ in self._shards]
        return join(
            await asyncio.gather(
                *(
                    shard.call(endpoint, copy, parameters)
                    for shard, copy in zip(self._shards, copies, strict=True)
                )
            )
        )

    def close(self) -> None:
        """Closes every instance, after what it is working on."""
        for shard in self._shards:
            shard.close()


class _RunningShard:
    """The replicas of one shard of a step, each with a place for every request that it works on at once."""

    def __init__(self, step: Step, number: int) -> None:
        self._instances: list[Executor] = []
        self._idle: SimpleQueue[Executor] = SimpleQueue()
        for _ in range(step.replicas):
            instance = _load(step, number)
            self._instances.append(instance)
            for _ in range(getattr(instance, "concurrency", 1)):
                self._idle.put(instance)
        self.places = self._idle.qsize()
        self._threads = ThreadPoolExecutor(self.places, thread_name_prefix=step.name)

    async def call(self, endpoint: str, docs: DocList, parameters: Mapping[str, Any]) -> DocList:
        """``work`` in a thread of the shard's own."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self.work, endpoint, docs, parameters
        )

    def work(self, endpoint: str, docs: DocList, parameters: Mapping[str, Any]) -> DocList:
        """What an idle replica makes of ``docs``; waits until there is one."""
        instance = self._idle.get()
        try:
            handled = instance.requests.get(endpoint) or instance.requests.get("/default")
            if handled is None:
                # As jina does it: whoever has nothing to do at an endpoint passes everything on.
                return docs
            return handled.fn(instance, docs=docs, parameters=parameters) or docs
        finally:
            self._idle.put(instance)

    def close(self) -> None:
        """Closes every instance, after what it is working on."""
        self._threads.shutdown()
        for instance in self._instances:
            instance.close()


def _chains(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], ...]:
    """The steps put together to chains: each hands over to the next one only, and none has several shards."""
    chains: list[list[Step]] = []
    for step in steps:
        needs = step.needs[0]
        before = next((chain for chain in chains if chain[-1].name == needs), None)
        if (
            before is not None
            and len(step.needs) == 1
            and _fan_out(steps, needs) == 1
            and step.shards == before[-1].shards == 1
        ):
            before.append(step)
        else:
            chains.append([step])
    return tuple(map(tuple, chains))


def _fan_out(steps: tuple[Step, ...], name: str) -> int:
    return sum(name in step.needs for step in steps)


def _copy(doc: MediaDocument) -> MediaDocument:
    # construct() skips validation, which would copy the bytes of every photo.
    copied: MediaDocument = MediaDocument.construct(**doc.__dict__)
    return copied


def _load(step: Step, shard: int) -> Executor:
    described = yaml.safe_load(step.config.read_text(encoding="utf-8"))
    folder = step.config.parent
    module = import_module(f"executors.{folder.name}.{Path(described['py_modules'][0]).stem}")
    return getattr(module, described["jtype"])(
        **{**described.get("with", {}), **step.uses_with},
        metas={"name": step.name},
        runtime_args={"shard_id": shard, "shards": step.shards, "replicas": step.replicas},
    )
