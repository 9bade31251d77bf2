"""Whether requests can be answered now, tried on the Flow itself."""

from __future__ import annotations

import asyncio

from crossmodal.documents import MediaDocument
from crossmodal.errors import ServiceError
from crossmodal.records import TEXT
from crossmodal.server.serving import Serving

__all__ = ["require_ready"]

# A Flow that doesn't answer one word within this is not ready.
_READY_SECONDS = 5.0


async def require_ready(serving: Serving) -> None:
    """Sends a word through the query Flow's encoder and looks at the index.

    Raises StoreMissing where there is no index, ServiceError where the Flow doesn't answer.
    """
    await asyncio.to_thread(serving.workspace.require)
    if serving.kind != "query":
        return
    probe = MediaDocument(id="ready", modality=TEXT, text="ready")
    try:
        async with asyncio.timeout(_READY_SECONDS):
            answered = await serving.stream([probe], "/encode", {})
    except TimeoutError:
        raise ServiceError(f"The Flow did not answer within {_READY_SECONDS:.0f} seconds.") from None
    error = answered["ready"].error
    if error is not None:
        raise ServiceError(error)
