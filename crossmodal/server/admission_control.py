"""What stands before the routes: a place for each request that reads, a deadline, and the client's end."""

from __future__ import annotations

import asyncio
import math
from contextlib import AbstractContextManager, ExitStack, nullcontext

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal import limits
from crossmodal.deadlines import Deadline, until
from crossmodal.errors import DeadlinePassed, Overloaded, RequestError
from crossmodal.server.admission import Admission
from crossmodal.server.routes import SEARCHES, refusal

__all__ = ["AdmissionControl", "is_sentence"]

# Bodies smaller than this are sentences; what they ask for is known before they are read.
_SMALL_BODY = 64 << 10

_HEADER = b"request-timeout"

# What an operator or a load balancer asks must always be answered.
_EXEMPT = ("/healthz", "/readyz", "/metrics")


class AdmissionControl:
    """Lets requests in as ``admission`` has room; ends them at their deadline or the client's end."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with 400, 429 or 504."""
        if scope["type"] != "http" or scope["path"] in _EXEMPT:
            await self._app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                seconds, named = self._seconds(scope)
                # Refuses as it is entered, which must not climb past the middleware before this.
                held.enter_context(self._places(scope))
            except RequestError as error:
                await refusal(scope, error.status, str(error))(scope, receive, send)
                return
            deadline = Deadline(seconds)
            held.enter_context(until(deadline))
            exchange = _Exchange(self._app, self._admission, deadline, restarts=not named)
            await exchange.run(scope, receive, send)

    def _seconds(self, scope: Scope) -> tuple[float, bool]:
        """The request's deadline, and whether the client named it."""
        given = next((value for name, value in scope["headers"] if name == _HEADER), None)
        if given is None:
            return self._admission.seconds, False
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise RequestError(
                f"The header Request-Timeout is {limits.quoted(given.decode('latin-1'))}; it has to be a "
                "number of seconds above 0."
            )
        return min(seconds, self._admission.seconds), True

    def _places(self, scope: Scope) -> AbstractContextManager[None]:
        """The places of a request that reads; others take theirs once it is known what they are."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return self._admission.reads.take()
        if self._admission.overloaded and is_sentence(scope):
            self._admission.sentences.refuse()
        return nullcontext()


def is_sentence(scope: Scope) -> bool:
    """Whether the request is a search, by its headers one that brings no photo."""
    if scope["path"] not in SEARCHES or scope["method"] != "POST":
        return False
    length = form = b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-type":
            form = value
    small = length.isdigit() and len(length) < 9 and int(length) <= _SMALL_BODY
    return small and not form.startswith(b"multipart/")


class _Exchange:
    """One request under its deadline: counts its body, notices that its client hangs up."""

    def __init__(self, app: ASGIApp, admission: Admission, deadline: Deadline, *, restarts: bool) -> None:
        self._app = app
        self._admission = admission
        self._deadline = deadline
        self._restarts = restarts
        self._timeout = asyncio.timeout(deadline.seconds)
        self._held = 0
        self._started = False
        self._finished = False
        self._hung_up = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        try:
            async with self._timeout:
                await self._app(scope, self._next_part, self._note_start)
        except TimeoutError:
            if not self._timeout.expired():
                raise
            self._deadline.give_up()
            if self._hung_up.is_set():
                self._admission.hung_up += 1
                return
            self._admission.timed_out += 1
            if self._started:
                # The client has a part of the answer, and learns by its end that it is not whole.
                raise
            error = DeadlinePassed(
                f"There was no answer within {self._deadline.seconds:g} seconds, and the work was given up. "
                "--request-timeout of the server is the limit; the header Request-Timeout asks for less."
            )
            await refusal(scope, 504, str(error))(scope, self._next_part, send)
        finally:
            self._admission.body_bytes -= self._held
            if self._watching is not None:
                self._watching.cancel()

    async def _note_start(self, message: Message) -> None:
        self._started = True
        more = message.get("more_body", False)
        self._finished = message["type"] == "http.response.body" and not more
        if more:
            # A client may take its time for what is large, as long as it reads on.
            self._restart()
        await self._send(message)

    def _restart(self) -> None:
        if self._restarts:
            self._deadline.restart()
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._deadline.seconds)

    async def _next_part(self) -> Message:
        if self._watching is not None:
            # The body is whole: all that can still come is the client's end.
            await self._hung_up.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            self._restart()
            if not message.get("more_body", False):
                self._watching = asyncio.create_task(self._watch())
        return message

    def _count(self, size: int) -> None:
        held = min(size, limits.LINE.most - self._held)
        if self._admission.body_bytes + held > limits.BODIES_TOGETHER.most:
            reading = self._admission.body_bytes >> 20
            raise Overloaded(
                f"This server is busy: it reads {reading:,} MiB of requests and takes on "
                f"{limits.BODIES_TOGETHER.most >> 20:,} MiB. {limits.BODIES_TOGETHER.advice}"
            )
        self._held += held
        self._admission.body_bytes += held

    async def _watch(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._finished:
            self._hung_up.set()
            self._timeout.reschedule(asyncio.get_running_loop().time())
