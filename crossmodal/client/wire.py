"""What both clients have to do with the HTTP library, which is imported when a client is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crossmodal.client.exchange import Call, Lost, Reply

if TYPE_CHECKING:
    import httpx2

__all__ = ["READY_PAUSE_SECONDS", "TIMEOUT_SECONDS", "client_options", "lost", "reply_of", "request_options"]

TIMEOUT_SECONDS = 30.0
READY_PAUSE_SECONDS = 0.2


def client_options(base: str, timeout: float, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """The arguments of the HTTP library's client."""
    return {
        "base_url": base,
        "timeout": timeout,
        "headers": {
            "Accept": "application/json, application/problem+json;q=0.9, */*;q=0.1",
            "User-Agent": "crossmodal-client",
            **(headers or {}),
        },
    }


def request_options(call: Call[Any]) -> dict[str, Any]:
    """The arguments of one request."""
    options: dict[str, Any] = {"method": call.method, "url": call.path}
    if call.query:
        options["params"] = dict(call.query)
    if call.body is not None:
        options["content"] = call.body
        options["headers"] = {"Content-Type": call.mime_type}
    if call.parts:
        options["files"] = [(part.field, (part.name, part.content, part.mime_type)) for part in call.parts]
    return options


def reply_of(response: httpx2.Response) -> Reply:
    """The reply, of which the library has read the body."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def lost(error: httpx2.RequestError, timeout: float) -> Lost:
    """Why there is no reply, and whether another attempt may get one."""
    import httpx2

    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        # Trying again would wait as long again, and the server has enough to do already.
        return Lost(
            f"there was no answer within {timeout:g} seconds (a client's timeout= is the limit)", False
        )
    again = isinstance(
        error, httpx2.ConnectTimeout | httpx2.NetworkError | httpx2.RemoteProtocolError | httpx2.ProxyError
    )
    return Lost(str(error) or type(error).__name__, again)
