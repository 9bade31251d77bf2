"""A whole Flow inside one executor process: the same YAML, the same executors, no hops between them.

Documents are passed by reference. Where jina would give each branch and each shard its own copy, this
gives it a shallow one, and joins the copies by jina's rule: field by field, None never overwrites.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from executors.merge import join
from flows.topology import GATEWAY, Step, read_topology

# Both branches of a photo have to store the same one of two versions that are under way at once.
_IN_ORDER = ("/index", "/delete")


class FusedFlow(Executor):
    """Runs the steps of the Flow at ``flow``, in order.

    Several requests are under way at once: one is decoded while another is encoded and a third is written,
    and an executor with an attribute ``concurrency`` works on that many of them. The others, above all those
    that write, get one request at a time. Requests to /index and /delete leave each step in the order in
    which they came to it.
    """

    def __init__(self, flow: str, variables: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._topology = read_topology(Path(flow), variables)
        self._steps: dict[str, _RunningStep] = {}
        try:
            for step in self._topology.steps:
                self._steps[step.name] = _RunningStep(step)
        except BaseException:
            self.close()
            raise

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

        async def run(step: Step) -> DocList:
            inputs = [docs if name == GATEWAY else await done[name] for name in step.needs]
            # Only a fork needs copies of its own; a chain hands over what it has.
            forks = any(_fan_out(self._topology.steps, name) > 1 for name in step.needs)
            joined = join(inputs) if len(inputs) > 1 else inputs[0]
            taken = [_copy(doc) if forks else doc for doc in joined if step.takes(doc)]
            if not taken:
                return DocList[MediaDocument]()
            return await self._steps[step.name].call(endpoint, DocList[MediaDocument](taken), parameters)

        for step in self._topology.steps:
            done[step.name] = asyncio.ensure_future(run(step))
        await asyncio.gather(*done.values())
        return done[self._topology.last.name].result()

    def close(self) -> None:
        """Closes every executor, the last one first."""
        for step in reversed(self._steps.values()):
            step.close()


class _RunningStep:
    """The instances of one step: its shards, each with its replicas."""

    def __init__(self, step: Step) -> None:
        self._instances: list[Executor] = []
        self._idle: list[asyncio.Queue[Executor]] = []
        for shard in range(step.shards):
            idle: asyncio.Queue[Executor] = asyncio.Queue()
            for _ in range(step.replicas):
                instance = _load(step, shard)
                self._instances.append(instance)
                for _ in range(getattr(instance, "concurrency", 1)):
                    idle.put_nowait(instance)
            self._idle.append(idle)
        places = sum(idle.qsize() for idle in self._idle)
        self._threads = ThreadPoolExecutor(places, thread_name_prefix=step.name)
        # Done when the request in order that came last, and so all before it, have left this step.
        self._left: asyncio.Future[None] | None = None

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
        """Calls every shard once, each on an idle replica, and joins what they answer."""
        if len(self._idle) == 1:
            return await self._call_shard(self._idle[0], endpoint, docs, parameters)
        copies = [DocList[MediaDocument]([_copy(doc) for doc in docs]) for _ in self._idle]
        return join(
            await asyncio.gather(
                *(
                    self._call_shard(idle, endpoint, copy, parameters)
                    for idle, copy in zip(self._idle, copies, strict=True)
                )
            )
        )

    async def _call_shard(
        self, idle: asyncio.Queue[Executor], endpoint: str, docs: DocList, parameters: Mapping[str, Any]
    ) -> DocList:
        instance = await idle.get()
        handled = instance.requests.get(endpoint) or instance.requests.get("/default")
        if handled is None:
            # As jina does it: whoever has nothing to do at an endpoint passes everything on.
            idle.put_nowait(instance)
            return docs
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, partial(handled.fn, instance, docs=docs, parameters=parameters)
        )
        # Not in a `finally`: a request that is cancelled leaves its thread at work in this instance.
        work.add_done_callback(lambda _: idle.put_nowait(instance))
        return await asyncio.shield(work) or docs

    def close(self) -> None:
        """Closes every instance, after what it is working on."""
        self._threads.shutdown()
        for instance in self._instances:
            instance.close()


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
