"""One call and its reply, as both clients share it: what is sent, and what an answer means."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from crossmodal.client.retries import UNAVAILABLE, Retries, retry_after
from crossmodal.errors import ApiError, ClientError, DataError, ServerUnavailable

__all__ = [
    "Call",
    "FilePart",
    "Lost",
    "Reply",
    "after_failure",
    "base_address",
    "encode_json",
    "read_json",
    "understood",
]

Answer = TypeVar("Answer")

# What a sentence repeats of an answer that isn't one of this API.
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class FilePart:
    """One part of a form: the field, the file's name (None where it is no file), the bytes and their type."""

    field: str
    name: str | None
    content: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the HTTP status, the headers with names in lower case, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Why there is no reply, in words, and whether another attempt may get one."""

    reason: str
    again: bool


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request, which can be made again without harm, and how its reply is read.

    ``body`` goes with ``mime_type``; ``parts`` make a form instead. ``query`` is what follows the question
    mark.
    """

    method: str
    path: str
    read: Callable[[Reply], Answer]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    mime_type: str | None = None
    parts: Sequence[FilePart] = ()


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


def encode_json(value: Any) -> bytes:
    """``value`` as JSON; raises ClientError for what JSON or UTF-8 has no form for."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ClientError(f"The request cannot be written as JSON: {error}.") from None


def read_json(parse: Callable[[Mapping[str, Any]], Answer]) -> Callable[[Reply], Answer]:
    """A reader of replies that hold a JSON object, which ``parse`` makes an answer of."""

    def read(reply: Reply) -> Answer:
        try:
            value = json.loads(reply.body)
            if not isinstance(value, dict):
                raise TypeError("not an object")
            return parse(value)
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            shown = reply.body[:_SHOWN_CHARACTERS].decode(errors="replace")
            missing = f" ({error.args[0]!r} is missing)" if isinstance(error, KeyError) else ""
            raise ClientError(
                f"This is no answer of the search API{missing}: {shown!r}. Does the address lead to another "
                "server, or to another version?"
            ) from None

    return read


def understood(call: Call[Answer], reply: Reply) -> Answer:
    """What the reply says; raises ApiError where it is a problem, ClientError where it is no answer."""
    if 200 <= reply.status < 300:
        return call.read(reply)
    raise _problem(reply)


def after_failure(failure: Reply | Lost, made: int, retries: Retries, base: str) -> float:
    """Seconds to wait before the call is made again, after ``made`` attempts of which the last failed so.

    Raises ServerUnavailable or ApiError where it is not made again.
    """
    tried = "" if made == 1 else f" (tried {made} times)"
    if isinstance(failure, Lost):
        wait = retries.wait(made) if failure.again else None
        if wait is None:
            raise ServerUnavailable(f"The server at {base} cannot be reached{tried}: {failure.reason}.")
        return wait
    wait = retries.wait(made, retry_after(failure.headers))
    if wait is None:
        problem = _problem(failure)
        if failure.status in UNAVAILABLE:
            raise ServerUnavailable(f"The server at {base} is not ready{tried}: {problem}")
        raise problem
    return wait


def _problem(reply: Reply) -> ApiError:
    try:
        problem = json.loads(reply.body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "title" not in problem:
        shown = " ".join(reply.body[:_SHOWN_CHARACTERS].decode(errors="replace").split())
        return ApiError(reply.status, "The server refused the request", shown)
    return ApiError(reply.status, str(problem["title"]), str(problem.get("detail") or ""), problem)
