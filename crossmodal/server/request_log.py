"""The outermost layer: an id for each request, its lines in the log, and its place in the metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.access.policy import Caller
from crossmodal.log import REQUEST_LOGGER
from crossmodal.request_ids import REQUEST_IDS, request_id
from crossmodal.server.forwarding import may_write
from crossmodal.server.metrics import Metrics
from crossmodal.server.observation import OBSERVED, Observation
from crossmodal.server.refusal_lines import RefusalLines
from crossmodal.server.routes import problem, problem_of, problem_response
from crossmodal.server.traces import Traces

__all__ = ["RequestLog"]

_logger = logging.getLogger(REQUEST_LOGGER)

# A search that takes longer has a line of its own.
_SLOW_MS = 1000.0

# What is told apart in the metrics where whoever refused gave no word of its own.
_REFUSALS = {401: "key", 403: "forbidden", 429: "busy"}

# The client has gone before its answer.
_GONE = 499

_ENDING = "This server is being ended, and the request was not done by then; send it again."


class RequestLog:
    """Gives each request an id, and notes what became of it.

    The id is the client's own ``X-Request-Id`` where that is at most 128 characters of a plain kind, else a
    new one; every answer has it. A request is a line of the log; a write and a refused try are an audit line
    too, and a search of more than a second one that says where the time went. Of what only reads and is
    refused because the server is busy, a few requests a second have lines, and one line sums up the others.
    Neither sentences nor query strings are logged, nor any header.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: Traces | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces
        self._refusal_lines = RefusalLines(_logger)
        # Routes that have been found, by method and path.
        self._paths: dict[tuple[str, str], str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, whatever happens, and then notes it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        seen = Observation(request_id(Headers(scope=scope).get("x-request-id", "")))
        names = OBSERVED.set(seen), REQUEST_IDS.set((seen.id,))
        started, started_ns = time.perf_counter(), time.time_ns()
        status = sent = 0

        async def note(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *(pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"),
                    (b"x-request-id", seen.id.encode()),
                ]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, note)
        except asyncio.CancelledError:
            # The server ends, and waits no longer for this client.
            if status:
                raise
            await problem_response(problem(503, _ENDING))(scope, receive, note)
        except Exception as error:
            _logger.exception("a request failed outside of its route:")
            if status:
                # The answer is under way, and can only be cut off.
                raise
            await problem_response(problem_of(error))(scope, receive, note)
        finally:
            OBSERVED.reset(names[0])
            REQUEST_IDS.reset(names[1])
            # Where nothing was answered, the client has hung up.
            status = status or _GONE
            if not seen.elsewhere:
                route = self._route_of(scope)
                trace = self._trace(scope, route, seen, status, started_ns)
                total_ms = (time.perf_counter() - started) * 1000
                self._finish(scope, route, seen, status, sent, total_ms, trace)

    def _route_of(self, scope: Scope) -> str:
        """The path of its route, also where what stands before those has answered; "other" without any."""
        known = self._paths.get((scope["method"], scope["path"]))
        if known is not None:
            return known
        if (route := scope.get("route")) is None:
            routes = scope["app"].routes if "app" in scope else ()
            route = next((each for each in routes if each.matches(scope)[0] is Match.FULL), None)
        path = str(getattr(route, "path", "other"))
        if path == scope["path"]:
            # As many as there are routes without a part that varies.
            self._paths[scope["method"], path] = path
        return path

    def _trace(
        self, scope: Scope, route: str, seen: Observation, status: int, started_ns: int
    ) -> dict[str, str]:
        if self._traces is None:
            return {}
        attributes = {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": status,
        }
        return {"trace": self._traces.add(scope, seen, started_ns, time.time_ns(), attributes)}

    def _finish(
        self,
        scope: Scope,
        route: str,
        seen: Observation,
        status: int,
        sent: int,
        total_ms: float,
        trace: dict[str, str],
    ) -> None:
        refusal = seen.refusal or _REFUSALS.get(status)
        self._metrics.count_request("cancelled" if status == _GONE else route, status)
        if refusal != "busy":
            self._metrics.count_stages(seen.stages)
        if refusal is not None:
            self._metrics.count_refused(refusal)
        if not _logger.isEnabledFor(logging.INFO):
            return
        if refusal == "busy" and not may_write(scope) and not self._refusal_lines.are_own(_address_of(scope)):
            return
        who = {**_who(scope, seen), **trace}
        stages = {f"{stage}_ms": round(taken, 1) for stage, taken in seen.stages.items()}
        searched = {"queries": seen.queries, "shared": seen.shared} if seen.queries else {}
        what: dict[str, Any] = {
            "method": scope["method"],
            "route": route,
            "status": status,
        }
        line = {**what, "ms": round(total_ms, 1), "bytes": sent, **searched, **stages, **who}
        _logger.info("request", extra={"fields": line})
        if seen.queries and total_ms > _SLOW_MS:
            slow = {"ms": round(total_ms, 1), **searched, "characters": seen.characters, **stages, **who}
            _logger.warning("slow search", extra={"fields": slow})
        if seen.action is not None or refusal is not None:
            _logger.info("audit", extra={"fields": {**_audited(seen, refusal), **what, **who}})


def _audited(seen: Observation, refusal: str | None) -> dict[str, Any]:
    if refusal is not None:
        return {"action": "refused", "reason": refusal}
    return {
        "action": seen.action,
        "ids": [id[:80] for id in seen.ids],
        "documents": seen.outcomes.total(),
        "outcomes": dict(seen.outcomes),
    }


def _who(scope: Scope, seen: Observation) -> dict[str, Any]:
    who: dict[str, Any] = {"id": seen.id, "address": _address_of(scope)}
    caller: Caller | None = scope["state"].get("caller")
    if caller is not None and caller.name is not None:
        who["key"] = caller.name
    return who


def _address_of(scope: Scope) -> str:
    """The address that a request came from, as proxies and other serving processes say it."""
    client = scope.get("client")
    return str(client[0] if client and client[0] else "unix")
