"""What went wrong with a request as a whole, said where the server's output goes."""

from __future__ import annotations

import logging
from typing import Any

from jina import Executor

from crossmodal.errors import CrossmodalError

__all__ = ["ReportingExecutor"]

_logger = logging.getLogger(__name__)


class ReportingExecutor(Executor):
    """An executor that logs what its handlers raise; jina would, but is kept quiet about everything."""

    async def __acall__(self, req_endpoint: str, **kwargs: Any) -> Any:
        """Calls the handler of an endpoint, as jina does for every request."""
        try:
            return await super().__acall__(req_endpoint, **kwargs)
        except CrossmodalError as error:
            _logger.error("A request to %s failed: %s", req_endpoint, error)
            raise
        except Exception:
            _logger.exception("A request to %s failed.", req_endpoint)
            raise
