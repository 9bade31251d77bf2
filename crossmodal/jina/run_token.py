"""The token without which no process of a Flow takes a call: of one run, or shared with other hosts.

jina's servers answer whoever connects: they take documents, tell versions and addresses of the machine, and
delete any file that a call of their ``restore`` names. jina hands executors' servers no interceptors, so in
the processes of a Flow the two functions of gRPC that make servers and channels are replaced by these, which
jina then calls. Health and reflection stay open, as jina asks for both without metadata.
"""

from __future__ import annotations

import hmac
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]

from crossmodal.errors import ServiceError
from crossmodal.hosts import is_loopback
from crossmodal.jina.interceptors import CallCheck, Refusal
from crossmodal.jina.launch import RUN_TOKEN, TOKEN_FILE, TOKEN_KEY, read_shared_token

__all__ = ["guard_grpc"]

# A host that is cut off shows after some seconds instead of minutes, and so does one that is back.
_TO_OTHER_HOSTS = (
    ("grpc.keepalive_time_ms", 3000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    # Also the time that one attempt to connect has.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

# A server takes pings more often than every five minutes for an attack otherwise.
_FROM_OTHER_HOSTS = (("grpc.http2.min_ping_interval_without_data_ms", 1000),)


def guard_grpc() -> None:
    """From now on, servers and channels that this process makes demand and send the token.

    So do those of processes forked from it. The tokens come from the environment: that of the run, and the
    one shared with other hosts in a file. Does nothing the second time. Raises ServiceError where the file
    cannot be used; a server without any token is refused when it is made.
    """
    if isinstance(grpc.aio.server, partial) and grpc.aio.server.func is _make_server:
        return
    tokens = _Tokens(os.environ.pop(RUN_TOKEN, None), read_shared_token(os.environ))
    grpc.aio.server = partial(_make_server, grpc.aio.server, tokens)
    channels = _Channels(grpc.aio.insecure_channel, grpc.aio.secure_channel, tokens)
    grpc.aio.insecure_channel, grpc.aio.secure_channel = channels.insecure, channels.secure


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The token of this run, and the one that hosts share."""

    run: str | None
    shared: str | None

    def why_not(self, metadata: Mapping[str, str | bytes]) -> Refusal | None:
        """None for a call with one of them; the time that takes doesn't tell how much of it is right."""
        given = metadata.get(TOKEN_KEY, "")
        offered = given if isinstance(given, bytes) else given.encode()
        known = [token.encode() for token in (self.run, self.shared) if token]
        # All of them, whichever fits.
        if sum(hmac.compare_digest(offered, token) for token in known):
            return None
        return (
            grpc.StatusCode.UNAUTHENTICATED,
            f"This port is for the processes of one Flow: the call brings no {TOKEN_KEY} that it knows.",
        )


class _Bearer(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the token to every call; documents and questions for endpoints are sent by such ones."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: Any, request: Any
    ) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), (TOKEN_KEY, self._token))
        return await continuation(details._replace(metadata=metadata), request)


def _make_server(original: Callable[..., Any], tokens: _Tokens, *args: Any, **options: Any) -> Any:
    if not (tokens.run or tokens.shared):
        _fail(
            "A process of a Flow takes no calls without a token: "
            f"set {TOKEN_FILE} to a file that holds the one of the Flow that calls it."
        )
    options["interceptors"] = [CallCheck(tokens.why_not), *(options.get("interceptors") or ())]
    options["options"] = [*_FROM_OTHER_HOSTS, *(options.get("options") or ())]
    server = original(*args, **options)
    server.add_insecure_port = partial(_add_local_port, server.add_insecure_port)
    return server


def _add_local_port(original: Callable[[str], int], address: str) -> int:
    host = address.rpartition(":")[0].strip("[]")
    if not is_loopback(host):
        _fail(
            f"A process of a Flow does not listen on {address} without TLS; listen on 127.0.0.1, behind "
            "something that ends TLS where other hosts call it."
        )
    return original(address)


class _Channels:
    """The channels that jina makes, with the token that the other end knows; one for each other host.

    Where a call fails, jina makes a channel anew, and has forgotten by then that it was with TLS. The one
    that there is connects again by itself, and meanwhile calls fail at once instead of waiting for that.
    """

    def __init__(self, insecure: Callable[..., Any], secure: Callable[..., Any], tokens: _Tokens) -> None:
        self._insecure, self._secure = insecure, secure
        self._tokens = tokens
        self._to_others: dict[str, Any] = {}

    def insecure(self, target: str, *args: Any, **options: Any) -> Any:
        if (known := self._to_others.get(target)) is not None:
            return known
        if not is_loopback(target.rpartition(":")[0].strip("[]")):
            return self.secure(target, grpc.ssl_channel_credentials(), *args, **options)
        return self._insecure(target, *args, **_with_token(options, self._tokens.run))

    def secure(self, target: str, credentials: Any, *args: Any, **options: Any) -> Any:
        if (known := self._to_others.get(target)) is None:
            # Of an option that is there twice, gRPC takes the first.
            options["options"] = [*_TO_OTHER_HOSTS, *(options.get("options") or ())]
            with_token = _with_token(options, self._tokens.shared)
            known = self._to_others[target] = self._secure(target, credentials, *args, **with_token)
        return known


def _with_token(options: Mapping[str, Any], token: str | None) -> dict[str, Any]:
    given: Sequence[Any] = options.get("interceptors") or ()
    return {**options, "interceptors": [*given, _Bearer(token)] if token else list(given) or None}


def _fail(sentence: str) -> None:
    # jina, kept quiet, would end without a word.
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    raise ServiceError(sentence)
