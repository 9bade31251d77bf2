"""Keeps the server's own paths out of what it answers; its log has them."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossmodal.access.own_paths import OwnPaths

__all__ = ["PATHS_HIDDEN", "HiddenPaths"]

# Where in the state of a request it stands that its answer hides them itself, as it holds what users wrote.
PATHS_HIDDEN = "paths_hidden"

# What is read as text by whoever asked; photos and the page's files hold no paths of this machine.
_TEXTS = ("application/json", "application/problem+json", "application/x-ndjson", "text/plain", "text/html")


class HiddenPaths:
    """Answers errors, of status 400 and above, without paths of this machine, as ``OwnPaths`` writes them.

    Sentences about a full disk or a damaged index name files, for the person who started the server. A
    stranger needs no map of the machine. Other answers hold what users have written, ids and tags with paths
    of their own among it, and pass as they are: what writes a sentence of an error into one hides its paths.
    """

    def __init__(self, app: ASGIApp, names: OwnPaths) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def hide(message: Message) -> None:
            nonlocal start
            hides_itself = scope.get("state", {}).get(PATHS_HIDDEN, False)
            if message["type"] == "http.response.start" and _is_error_text(message) and not hides_itself:
                # Its length is known with its body.
                start = message
                return
            if start is not None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    message = self._hidden(start, message)
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, hide)

    def _hidden(self, start: Message, message: Message) -> Message:
        answered = message.get("body", b"")
        body = self._names.hide_in(answered)
        if body == answered:
            # Of HEAD the length is that of a body which is not sent.
            return message
        MutableHeaders(scope=start)["Content-Length"] = str(len(body))
        return {**message, "body": body}


def _is_error_text(message: Message) -> bool:
    if message["status"] < 400:
        return False
    headers = Headers(raw=message["headers"])
    return headers.get("content-type", "").startswith(_TEXTS) and "content-encoding" not in headers
