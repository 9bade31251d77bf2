"""Photos at URLs that clients name: fetched from the internet only, and bounded in all that they take."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from crossmodal.errors import FetchError, Overloaded, SettingsError
from crossmodal.hosts import in_url, is_own, is_public
from crossmodal.images import sniff_mime_type
from crossmodal.images.formats import READABLE_TYPES
from crossmodal.settings import MAX_PORT

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["MAX_URLS", "FetchedPhotos", "Resolver", "UrlPhotos", "is_web_url"]

# In one request.
MAX_URLS = 16

# Of what one fetch may take: from the wait for a free place to the last byte, and until a host answers.
_SECONDS = 10.0
_CONNECT_SECONDS = 3.0

_MAX_REDIRECTS = 3
_MAX_CHARACTERS = 2048

# Each holds a photo in memory.
_AT_ONCE = 4

# So many requests may hold as much as one may name.
_REQUESTS_HELD = 2

# Of one name; further ones are for hosts with many, of which most don't answer.
_MAX_ADDRESSES = 4

_PORTS = {"http": 80, "https": 443}

_HEADERS = (
    ("Accept", "image/*"),
    # What is unpacked may be a thousand times as large as what came.
    ("Accept-Encoding", "identity"),
    ("User-Agent", "crossmodal-search"),
    ("Connection", "close"),
)

# The characters of RFC 3986 and no others: spaces, control characters and backslashes mean other things to
# other readers. There is no user and no password.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?](?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?"
    r"(?:#(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?",
    re.IGNORECASE | re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# Resolvers read 2130706433, 0x7f.1 and 0177.0.0.1 as IPv4 addresses.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# One sentence for all, or it would tell which names and addresses there are in the server's own network.
_REFUSED = "The photo's URL leads to no address on the internet; photos are fetched from nowhere else."
_UNREACHABLE = "The photo's URL could not be fetched: its host did not answer, or not as HTTP and TLS ask."
_MALFORMED = (
    "The photo's URL is not of the form https://HOST/PATH: http or https, without a user or a password, the "
    "host a name (IDNA encoded) or an address as usual, characters beyond those of RFC 3986 percent-encoded."
)

# The addresses of a name, all of them; raises OSError where there are none. May block.
Resolver = Callable[[str], Sequence[str]]

# What became of each URL.
FetchedPhotos = Mapping[str, bytes | FetchError]


def is_web_url(value: str) -> bool:
    """Whether a string is meant as an http or https URL; it may still be one that is refused."""
    return value[:6].lower().startswith(("http:", "https:"))


class UrlPhotos:
    """Fetches photos by URL; for one event loop.

    Only http and https are spoken, on their own ports. A name is resolved once, and the connection is made to
    the address that was checked (TLS certificates are still checked against the name). Every address of the
    name has to be on the internet (``hosts.is_public``) and not this machine's; redirects, three at most, are
    checked in the same way. Neither proxies of the environment nor cookies are used, and nothing is
    decompressed.

    ``hosts``, if there are any, are the only ones that are asked: ``NAME``, ``*.NAME`` for those below it, or
    either with ``:PORT`` for that port. A photo may have ``max_bytes`` bytes, and those of a request twice as
    many together. ``resolve`` and ``tls`` stand for the machine's resolver and certificates.

    Raises SettingsError for a host that is none.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        hosts: Sequence[str] = (),
        resolve: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        seconds: float = _SECONDS,
    ) -> None:
        import httpx2

        self._hosts = tuple(map(_allowed_host, hosts))
        self._max_bytes = max_bytes
        self._resolve = resolve or _resolved
        # Now: reading the machine's certificates takes a fifth of a second.
        self._tls = tls or httpx2.create_ssl_context()
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._together = _Together(_REQUESTS_HELD * 2 * max_bytes)
        # Threads of its own: a name server that doesn't answer would hold up all else that runs in threads.
        self._resolving = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="resolve")

    @asynccontextmanager
    async def fetched(self, urls: Sequence[str]) -> AsyncIterator[FetchedPhotos]:
        """The photo, or the error, of each URL; of those beyond the first MAX_URLS an error.

        As long as the context lasts they count among those that all requests hold together. Raises Overloaded
        where these would be too many.
        """
        wanted = list(dict.fromkeys(urls))
        refusal = FetchError(
            f"The request names {len(wanted)} URLs of photos; the limit is {MAX_URLS}. Send several requests."
        )
        left = _Allowance(2 * self._max_bytes, self._together)
        try:
            outcomes = await asyncio.gather(*(self._outcome(url, left) for url in wanted[:MAX_URLS]))
            photos: dict[str, bytes | FetchError] = dict.fromkeys(wanted, refusal)
            for url, outcome in zip(wanted, outcomes, strict=False):
                if isinstance(outcome, Overloaded):
                    raise outcome
                photos[url] = outcome
            yield photos
        finally:
            left.give_back()

    def close(self) -> None:
        """Ends the threads."""
        self._resolving.shutdown(wait=False, cancel_futures=True)

    async def _outcome(self, url: str, left: _Allowance) -> bytes | FetchError | Overloaded:
        try:
            return await self._fetch(url, left)
        except (FetchError, Overloaded) as error:
            return error

    async def _fetch(self, url: str, left: _Allowance) -> bytes:
        """The bytes of the photo at ``url``, as they were sent.

        Raises FetchError where the URL is refused or no photo came from it. The sentence never tells what
        came instead, nor which addresses of the server's own network exist.
        """
        try:
            async with asyncio.timeout(self._seconds), self._places:
                for _ in range(_MAX_REDIRECTS + 1):
                    place = _parsed(url)
                    content = await self._ask(place, left)
                    if isinstance(content, bytes):
                        return content
                    url = content.of(url)
        except TimeoutError:
            raise FetchError(
                f"The photo did not come from its URL within {self._seconds:g} seconds."
            ) from None
        raise FetchError(
            f"The photo's URL is redirected more than {_MAX_REDIRECTS} times; send the last one."
        )

    async def _ask(self, place: _Place, left: _Allowance) -> bytes | _Redirect:
        import httpx2

        self._require_allowed(place)
        for address in await self._public_addresses(place.host):
            try:
                async with self._answer(place, address) as answer:
                    return await self._read(answer, left)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
            except httpx2.TransportError:
                break
        raise FetchError(_UNREACHABLE)

    def _require_allowed(self, place: _Place) -> None:
        if not self._hosts and place.port != _PORTS[place.scheme]:
            raise FetchError(
                f"The photo's URL names port {place.port}; only 80 by http and 443 by https are asked."
            )
        if self._hosts and not any(allowed.covers(place) for allowed in self._hosts):
            raise FetchError(
                "The photo's URL leads to a host or a port that this server does not fetch from; "
                "--fetch-from says which ones it does."
            )

    async def _public_addresses(self, host: str) -> Sequence[str]:
        """The addresses to connect to, each of them public; raises FetchError where one is not, or none."""
        addresses: Sequence[str]
        if _is_address(host):
            addresses = (host,)
        else:
            try:
                loop = asyncio.get_running_loop()
                addresses = await loop.run_in_executor(self._resolving, self._resolve, host)
            except (OSError, UnicodeError):
                addresses = ()
        if not addresses or not all(map(is_public, addresses)) or any(map(is_own, addresses)):
            raise FetchError(_REFUSED)
        return addresses[:_MAX_ADDRESSES]

    @asynccontextmanager
    async def _answer(self, place: _Place, address: str) -> AsyncIterator[httpx2.Response]:
        """The answer of the one machine at ``address``; raises httpx2.TransportError."""
        import httpx2

        request = httpx2.Request(
            "GET",
            httpx2.URL(
                scheme=place.scheme, host=address, port=place.port, raw_path=place.target.encode("ascii")
            ),
            headers=[("Host", place.host_header), *_HEADERS],
            extensions={"sni_hostname": place.host, "timeout": {"connect": _CONNECT_SECONDS}},
        )
        # Below httpx2's client, which keeps cookies, follows redirects and asks the environment for proxies.
        transport = httpx2.AsyncHTTPTransport(
            verify=self._tls, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        async with transport:
            answer = await transport.handle_async_request(request)
            try:
                yield answer
            finally:
                await answer.aclose()

    async def _read(self, answer: httpx2.Response, left: _Allowance) -> bytes | _Redirect:
        if answer.status_code in (301, 302, 303, 307, 308):
            return _Redirect(answer.headers.get("location", ""))
        if answer.status_code != 200:
            raise FetchError(f"The photo's URL was answered with the status {answer.status_code}, not 200.")
        if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise FetchError("The photo came compressed from its URL, although that was not asked for.")
        length = answer.headers.get("content-length", "0")
        self._require_room(int(length) if length.isdecimal() else 0)
        content = bytearray()
        async for chunk in answer.aiter_raw():
            content += chunk
            self._require_room(len(content))
            left.take(len(chunk))
        photo = bytes(content)
        if sniff_mime_type(photo) not in READABLE_TYPES:
            raise FetchError("What came from the photo's URL is no photo in a format that can be read.")
        return photo

    def _require_room(self, size: int) -> None:
        if size > self._max_bytes:
            raise FetchError(
                f"The photo at the URL has more than {self._max_bytes:,} bytes, the limit for one."
            )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URL leads: ``host`` in lower case, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def host_header(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return in_url(self.host) + port


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str

    def of(self, url: str) -> str:
        """The URL that it leads to from ``url``."""
        try:
            return urljoin(url, self.location)
        except ValueError:
            raise FetchError(_MALFORMED) from None


@dataclass(slots=True)
class _Allowance:
    """How many bytes the photos of one request may still take; what they take counts among ``together``."""

    left: int
    together: _Together
    taken: int = 0

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise FetchError("The photos at the URLs of this request are too large together; send several.")
        self.together.take(size)
        self.taken += size

    def give_back(self) -> None:
        self.together.held -= self.taken
        self.taken = 0


@dataclass(slots=True)
class _Together:
    """The bytes of photos that all requests hold, at most ``most``."""

    most: int
    held: int = 0

    def take(self, size: int) -> None:
        if self.held + size > self.most:
            raise Overloaded(
                f"This server is busy: it holds {self.held >> 20:,} MiB of photos by URL and takes on "
                f"{self.most >> 20:,} MiB. Try again in a moment."
            )
        self.held += size


@dataclass(frozen=True, slots=True)
class _AllowedHost:
    """``name``, or with ``below`` those below it, at ``port``; without one at that of the scheme."""

    name: str
    below: bool
    port: int | None

    def covers(self, place: _Place) -> bool:
        if place.port != (self.port or _PORTS[place.scheme]):
            return False
        return place.host.endswith("." + self.name) if self.below else place.host == self.name


def _parsed(url: str) -> _Place:
    if len(url) > _MAX_CHARACTERS:
        raise FetchError(f"The photo's URL has {len(url):,} characters; the limit is {_MAX_CHARACTERS:,}.")
    match = _URL.fullmatch(url)
    host = None if match is None else _plain_host(match["host"])
    if match is None or host is None:
        raise FetchError(_MALFORMED)
    scheme = match["scheme"].lower()
    target = match["target"] or "/"
    return _Place(
        scheme, host, int(match["port"] or _PORTS[scheme]), target if target[0] == "/" else "/" + target
    )


def _plain_host(host: str) -> str | None:
    """``host`` in its one spelling; None for what is neither a name nor an address as usual."""
    host = host.lower()
    try:
        if host.startswith("["):
            return str(IPv6Address(host[1:-1]))
        labels = host.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            return str(IPv4Address(host))
    except ValueError:
        return None
    return host if all(map(_LABEL.fullmatch, labels)) else None


def _is_address(host: str) -> bool:
    """Whether a host that ``_plain_host`` gave is an address."""
    return ":" in host or host.rpartition(".")[2].isdecimal()


def _allowed_host(text: str) -> _AllowedHost:
    below = text.startswith("*.")
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text[2:] if below else text)
    host = None if match is None else _plain_host(match[1])
    port = None if match is None or match[2] is None else int(match[2])
    if host is None or (below and _is_address(host)) or (port is not None and not 1 <= port <= MAX_PORT):
        raise SettingsError(
            f"--fetch-from {text!r} is no host; write NAME, *.NAME for all below it, or either with :PORT."
        )
    return _AllowedHost(host, below, port)


def _resolved(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
