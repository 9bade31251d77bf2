"""Searches beyond the queue, refused before most of the server has looked at them.

A refusal that costs a tenth of an answer leaves nothing of the server at ten times what it can answer. So
what is the same for all of them is made once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.server.access.gate import Authenticator
from crossmodal.server.admission import Admission
from crossmodal.server.admission_control import is_sentence

__all__ = ["Shedding"]

# Answers for older clients have an id each.
_PATH = "/v1/search"

# A refusal says how much is under way; what it says is no older than this.
_SAME_SECONDS = 1.0

# What makes an answer another one: a page that asks, a deadline of one's own.
_TELLING = frozenset(
    {
        *(b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"),
        b"request-timeout",
    }
)


@dataclass(slots=True)
class _Answer:
    """The messages of one answer, made at ``at`` of ``time.monotonic``."""

    at: float
    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"]) if self.messages else 0


class Shedding:
    """Answers searches for which there is no place with what ``app`` answered the last one.

    Only those of the native API that are refused for nothing else, and alike: they pass the gate of
    ``authenticator``, and come from no web page. All others, and once a second one of these, ``app`` looks
    at. To stand behind what gives requests an id, an address and a line in the log.
    """

    def __init__(self, app: ASGIApp, admission: Admission, authenticator: Authenticator) -> None:
        self._app = app
        self._admission = admission
        self._authenticator = authenticator
        self._latest: _Answer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request, or passes it on."""
        if (
            scope["type"] != "http"
            or not self._admission.overloaded
            or scope["path"] != _PATH
            or scope["query_string"]
            or not is_sentence(scope)
            or not _TELLING.isdisjoint(name for name, _ in scope["headers"])
            or self._authenticator.refusal(scope) is not None
        ):
            await self._app(scope, receive, send)
            return
        latest, now = self._latest, time.monotonic()
        if latest is None or now - latest.at >= _SAME_SECONDS:
            await self._pass_on(scope, receive, send, _Answer(now))
            return
        self._admission.sentences.shed += 1
        for message in latest.messages:
            # What is outside of this may change it.
            await send(dict(message))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, answer: _Answer) -> None:
        """Passes the request on, and keeps the answer where it is a refusal."""

        async def keep(message: Message) -> None:
            answer.messages.append(dict(message))
            await send(message)

        await self._app(scope, receive, keep)
        if answer.status == 429:
            self._latest = answer
