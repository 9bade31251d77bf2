"""``mcp``: the index as tools for the agent that starts this program."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossmodal.cli.local_engine import engine_for
from crossmodal.engine.engine import Engine
from crossmodal.log import open_log
from crossmodal.settings import Settings

if TYPE_CHECKING:
    from crossmodal.query.request import SearchOutcome, SearchRequest
    from crossmodal.workspace import Workspace

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Answers the agent until it closes stdin (exit code 0); nothing but the protocol goes to stdout.

    Raises MissingExtra, StoreMissing where there is no index, and ModelMismatch.
    """
    # Only now: without the extra that is told at once.
    from crossmodal.server.mcp.protocol import open_protocol, require_sdk
    from crossmodal.server.mcp.stdio import serve_stdio

    require_sdk("crossmodal mcp")
    open_log("off")
    with engine_for(settings) as engine:
        # Before the agent is answered: it could do nothing about a model that cannot be loaded.
        engine.prepare()
        print(f"Answering an agent from the index in {settings.workspace}.", file=sys.stderr, flush=True)
        asyncio.run(serve_stdio(open_protocol(_Index(engine))))
    return 0


@dataclass(frozen=True, slots=True)
class _Index:
    """The index of this process, as tools ask it."""

    engine: Engine

    @property
    def workspace(self) -> Workspace:
        return self.engine.workspace

    async def search(self, request: SearchRequest) -> SearchOutcome:
        outcomes, _ = await asyncio.to_thread(self.engine.search, [request])
        return outcomes[0]
