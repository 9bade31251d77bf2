"""One request and its reply, as both clients share them: what is sent, what failures mean, when to retry."""

from __future__ import annotations

import json
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from crossmodal.client.decoding import SHOWN_CHARACTERS
from crossmodal.errors import ApiError, ClientError, ServerUnavailable

if TYPE_CHECKING:
    import httpx2

__all__ = [
    "TIMEOUT_SECONDS",
    "Call",
    "Failure",
    "Retries",
    "base_address",
    "client_options",
    "encode_json",
    "lost_connection",
    "refusal",
]

Answer = TypeVar("Answer")

TIMEOUT_SECONDS = 30.0

# A server that is starting, busy or behind a proxy that doesn't reach it. RFC 9110, RFC 6585.
_UNAVAILABLE = frozenset({502, 503, 504})
_TEMPORARY = _UNAVAILABLE | {429}


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request, which can be repeated without harm, and how the body of its reply is read.

    ``options`` are those of the HTTP library: ``params``, ``content`` with ``headers``, or ``files``.
    """

    method: str
    path: str
    read: Callable[[bytes], Answer]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, whether another may succeed, and the seconds that the server asks to wait."""

    error: ClientError
    temporary: bool
    server_delay: float | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is attempted, at most ``attempts`` times (at least 1), and the delays in between.

    The delay before attempt n + 1 is ``first_delay`` * 2**(n - 1) seconds, at most ``longest_delay``, half of
    it random, so that clients that failed together don't return together. A delay that the server asks for
    is the least delay; where it is longer than ``longest_delay``, the call fails at once.
    """

    attempts: int = 5
    first_delay: float = 0.25
    longest_delay: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_delay < 0 or self.longest_delay < self.first_delay:
            raise ValueError(
                f"{self} cannot be followed: at least one attempt, and 0 <= first_delay <= longest_delay."
            )

    def wait(self, failed: int, server_delay: float | None = None) -> float | None:
        """Seconds to wait after ``failed`` failed attempts; None where there is no other attempt.

        ``server_delay`` is how long the server asks to wait.
        """
        if failed >= self.attempts or (server_delay or 0) > self.longest_delay:
            return None
        # 2.0**failed overflows for numbers of attempts that would take centuries.
        longest = min(self.longest_delay, self.first_delay * 2.0 ** min(failed - 1, 64))
        return max(server_delay or 0, longest * random.uniform(0.5, 1))


def base_address(url: str) -> str:
    """``url`` without a slash at its end; raises ClientError where it is no HTTP address."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        usable = False
    if not usable:
        raise ClientError(f"{url!r} is no address of a server; write it like http://localhost:45678.")
    if parts.query or parts.fragment:
        raise ClientError(f"{url!r} has more than an address and a path; leave out what follows ? or #.")
    return url.rstrip("/")


def client_options(
    base: str, timeout: float, headers: Mapping[str, str] | None, key: str | None, tls_ca: str | Path | None
) -> dict[str, Any]:
    """The arguments of the HTTP library's client; raises ClientError for an unusable key or ``tls_ca``."""
    if key is not None and not (key and all("!" <= character <= "~" for character in key)):
        raise ClientError(
            f"The key of {len(key)} characters cannot be sent: it has to be printable ASCII without spaces."
        )
    return {
        "base_url": base,
        "timeout": timeout,
        "headers": {
            "Accept": "application/json, application/problem+json;q=0.9, */*;q=0.1",
            "User-Agent": "crossmodal-client",
            **({} if key is None else {"Authorization": f"Bearer {key}"}),
            **(headers or {}),
        },
        **({} if tls_ca is None else {"verify": _trusting(tls_ca)}),
    }


def _trusting(tls_ca: str | Path) -> ssl.SSLContext:
    """Knows servers by the certificates in that file alone."""
    try:
        return ssl.create_default_context(cafile=tls_ca)
    except OSError as error:
        raise ClientError(
            f"The certificates in {tls_ca} cannot be read ({error.strerror or error}); it has to be a PEM "
            "file."
        ) from None


def encode_json(value: Any) -> bytes:
    """``value`` as JSON; raises ClientError for what JSON or UTF-8 cannot represent."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ClientError(f"The request cannot be written as JSON: {error}.") from None


def refusal(response: httpx2.Response, base: str, tried: str) -> Failure:
    """What a reply means whose status is not 2xx; ``tried`` says how many attempts there were."""
    try:
        problem = json.loads(response.content)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "title" in problem:
        error = ApiError(
            response.status_code, str(problem["title"]), str(problem.get("detail") or ""), problem
        )
    else:
        shown = " ".join(response.content[:SHOWN_CHARACTERS].decode(errors="replace").split())
        error = ApiError(response.status_code, "The server refused the request", shown)
    temporary, delay = response.status_code in _TEMPORARY, _retry_after(response.headers)
    if response.status_code in _UNAVAILABLE:
        return Failure(
            ServerUnavailable(f"The server at {base} is not ready{tried}: {error}"), temporary, delay
        )
    return Failure(error, temporary, delay)


def lost_connection(error: httpx2.RequestError, timeout: float, base: str, tried: str) -> Failure:
    """What it means that there is no reply; ``tried`` says how many attempts there were."""
    import httpx2

    reason = str(error) or type(error).__name__
    temporary = isinstance(
        error, httpx2.ConnectTimeout | httpx2.NetworkError | httpx2.RemoteProtocolError | httpx2.ProxyError
    )
    if isinstance(error, httpx2.TimeoutException) and not temporary:
        # Another attempt would wait as long again, and the server has enough to do already.
        reason = f"there was no answer within {timeout:g} seconds (a client's timeout= is the limit)"
    return Failure(ServerUnavailable(f"The server at {base} cannot be reached{tried}: {reason}."), temporary)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3: a number or a date) asks to wait, else None."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
