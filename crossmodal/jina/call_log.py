"""What became of each request over gRPC: its line in the log, its audit line, its place in the metrics."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from crossmodal.log import REQUEST_LOGGER
from crossmodal.request_ids import REQUEST_IDS, request_id

__all__ = ["CallLog", "SeenCall", "SeenRequest"]

_logger = logging.getLogger(REQUEST_LOGGER)

# Where the processes of a server add up what they count; prometheus_client reads it when it is imported.
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(slots=True)
class SeenCall:
    """One call: its own ``id`` where its metadata bring one, who makes it, and with which key."""

    id: str | None
    method: str
    address: str
    key: str | None = None

    @property
    def who(self) -> dict[str, str]:
        """The fields of a line that say who it was."""
        return {"address": self.address, **({} if self.key is None else {"key": self.key})}


@dataclass(slots=True)
class SeenRequest:
    """One of the requests of a call. ``status`` is gRPC's name of it, or ERROR where the answer has one.

    ``refusal`` says in a word why it was refused.
    """

    call: SeenCall
    id: str
    endpoint: str = "other"
    queries: int = 0
    began: float | None = None
    status: str = "CANCELLED"
    refusal: str | None = None

    def begin(self, given_id: str) -> None:
        """Notes that the work on it begins; ``given_id`` is the message's own."""
        self.began = time.perf_counter()
        if self.call.id is None:
            self.id = request_id(given_id)
        REQUEST_IDS.set((self.id,))


_CALL: ContextVar[SeenCall | None] = ContextVar("grpc_call", default=None)


class CallLog:
    """Gives each request an id, and notes what became of it; for one event loop.

    The id is the call's own ``x-request-id`` in its metadata, else the message's, where that is of a plain
    kind, else a new one. A refused request has an audit line too. Neither sentences nor keys are logged.
    """

    def __init__(self) -> None:
        self._requests: Counter | None = None
        # Nobody reads what is counted in this process alone.
        if os.environ.get(_METRICS_FOLDER):
            self._requests = Counter(
                "crossmodal_grpc_requests",
                "gRPC requests by endpoint and status",
                ["endpoint", "status"],
                registry=CollectorRegistry(),
            )

    def begin_call(self, method: str, metadata: dict[str, str | bytes], address: str) -> SeenCall:
        """Notes the call that this task answers from now on."""
        given = str(metadata.get("x-request-id", ""))
        call = SeenCall(given if given and request_id(given) == given else None, method, address)
        _CALL.set(call)
        REQUEST_IDS.set((call.id or request_id(""),))
        return call

    def refuse(self, call: SeenCall, reason: str, status: str) -> None:
        """Notes that a call was refused before any of its requests was read."""
        self._count("other", status)
        self._audit(call, REQUEST_IDS.get()[0], reason, status)

    @contextmanager
    def request(self) -> Iterator[SeenRequest]:
        """One request of the call, which has its line when the context ends."""
        call = _CALL.get() or SeenCall(None, "", "")
        seen = SeenRequest(call, call.id or request_id(""))
        arrived = time.perf_counter()
        REQUEST_IDS.set((seen.id,))
        try:
            yield seen
        finally:
            ended = time.perf_counter()
            self._count(seen.endpoint, seen.status)
            line: dict[str, Any] = {
                "method": "gRPC",
                "route": seen.endpoint,
                "status": seen.status,
                "ms": round((ended - arrived) * 1000, 1),
                "queries": seen.queries,
                "wait_ms": round(((seen.began or ended) - arrived) * 1000, 1),
                "id": seen.id,
                **call.who,
            }
            _logger.info("request", extra={"fields": line})
            if seen.refusal is not None:
                self._audit(call, seen.id, seen.refusal, seen.status)

    def _count(self, endpoint: str, status: str) -> None:
        if self._requests is not None:
            self._requests.labels(endpoint, status).inc()

    def _audit(self, call: SeenCall, id: str, reason: str, status: str) -> None:
        fields = {"action": "refused", "reason": reason, "method": call.method, "status": status, "id": id}
        _logger.info("audit", extra={"fields": {**fields, **call.who}})
