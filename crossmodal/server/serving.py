"""What the routes of one gateway share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from crossmodal.documents import MediaDocument
from crossmodal.workspace import Workspace
from crossmodal.server.metrics import Metrics
from crossmodal.engine import SearchService
from flows.service import FlowKind
from crossmodal.flow.topology import Topology

__all__ = ["Answered", "Options", "Serving", "Writer"]

Answered = dict[str, MediaDocument]


@dataclass(frozen=True, slots=True)
class Options:
    """What a gateway is told at its start beside the variables of its Flow.

    ``writer_channel`` is where the parent process hears that an index Flow is wanted; None where there is
    nobody to ask. ``writing_reason`` says why writing is not allowed.
    """

    writing_allowed: bool = False
    writing_reason: str = ""
    writer_channel: str | None = None
    layout: str = "fused"
    shards: int = 1
    model_cache: str = ""
    host: str = "127.0.0.1"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Options:
        """The options in the plain values that came through jina."""
        return cls(**values)


class Writer(Protocol):
    """Whatever brings documents into the index: this gateway's own Flow, or the one started on demand."""

    @property
    def state(self) -> Literal["idle", "starting", "running"]:
        """Whether an index Flow is up at this moment."""

    async def index(self, docs: Sequence[MediaDocument]) -> Answered:
        """Index documents; the answers, by id, have ``outcome`` or ``error``."""

    async def delete(self, docs: Sequence[MediaDocument]) -> Answered:
        """Delete documents by id and modality; ``outcome`` is "deleted" or None."""


@dataclass
class Serving:
    """One running gateway: the index, the Flow behind it, and who may write.

    ``stream`` sends documents through the gateway's own Flow: (documents, endpoint, parameters) to answers by
    id. ``search`` is None where the Flow is the index Flow.
    """

    kind: FlowKind
    model: str
    keep: str
    options: Options
    topologies: Mapping[FlowKind, Topology]
    workspace: Workspace
    stream: Callable[[list[MediaDocument], str, dict[str, Any]], Awaitable[Answered]]
    writer: Writer | None
    search: SearchService | None
    metrics: Metrics
    page: Path
    started: float = field(default_factory=time.time)
