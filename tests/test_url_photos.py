"""Photos by URL: fetched from the internet, never from inside, and bounded.

Two machines in network namespaces stand for both: what the inside may not reach answers there with a
photo and counts who came.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from photo_hosts import PHOTO, SECRET, PhotoHost, SecretHost, make_certificate
from two_networks import (
    INSIDE,
    INSIDE_6,
    NEIGHBOURS,
    NEIGHBOURS_6,
    OUTSIDE,
    OUTSIDE_6,
    PRIVATE,
    PRIVATE_6,
    Machine,
    two_networks,
)

from crossmodal.errors import FetchError, Overloaded, SettingsError
from crossmodal.hosts import in_url
from crossmodal.url_photos import MAX_URLS, UrlPhotos

NOWHERE = "leads to no address on the internet"
MALFORMED = "is not of the form"
NOT_ALLOWED = "does not fetch from; --fetch-from"


# Believes no certificate, and is made sooner than one that reads the machine's.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Net:
    """The machine inside with its secrets, and the hosts outside, on ports 80, 443 and 8443."""

    inside: Machine
    outside: PhotoHost
    secure: PhotoHost
    odd: PhotoHost
    secret: list[SecretHost]
    certificate: Path

    def fetch(self, *urls: str, **arguments: Any) -> list[bytes | FetchError]:
        """What UrlPhotos on the machine inside makes of the URLs."""
        names = {"photos.example": [OUTSIDE], "host.photos.example": [OUTSIDE], "six.example": [OUTSIDE_6]}
        return fetch_on(self.inside, *urls, **{"resolve": resolver(names), **arguments})

    def require_untouched(self) -> None:
        """Nothing inside was asked for anything."""
        assert [host.requests for host in self.secret] == [[], []]

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


def fetch_on(machine: Machine, *urls: str, **arguments: Any) -> list[bytes | FetchError]:
    async def work() -> list[bytes | FetchError]:
        photos = UrlPhotos(**{"max_bytes": 1 << 20, "tls": NO_AUTHORITIES, **arguments})
        try:
            async with photos.fetched(urls) as fetched:
                return [fetched[url] for url in urls]
        finally:
            photos.close()

    return machine.run(asyncio.run, work())


def resolver(names: dict[str, list[str]], asked: list[str] | None = None) -> Callable[[str], list[str]]:
    def resolve(name: str) -> list[str]:
        if asked is not None:
            asked.append(name)
        if name not in names:
            raise OSError("Name or service not known")
        return names[name]

    return resolve


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    with two_networks() as made:
        yield made


@pytest.fixture(scope="module")
def servers(machines: tuple[Machine, Machine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    inside, outside = machines
    certificate = make_certificate(tmp_path_factory.mktemp("tls"), "DNS:photos.example", f"IP:{OUTSIDE}")
    hosts = [
        outside.run(PhotoHost, 80),
        outside.run(PhotoHost, 443, certificate),
        outside.run(PhotoHost, 8443),
    ]
    secret = [inside.run(SecretHost, 80), inside.run(SecretHost, 8443)]
    yield Net(inside, *hosts, secret, certificate)
    for host in (*hosts, *secret):
        host.close()


@pytest.fixture
def net(servers: Net) -> Iterator[Net]:
    for host in (servers.outside, servers.secure, servers.odd, *servers.secret):
        host.requests.clear()
    yield servers
    servers.require_untouched()


def refusal(fetched: bytes | FetchError) -> str:
    assert isinstance(fetched, FetchError), f"{len(fetched)} bytes came"
    assert SECRET.decode() not in str(fetched)
    return str(fetched)


@pytest.mark.parametrize(
    "url",
    [
        f"http://{OUTSIDE}/photo.jpg",
        f"http://[{OUTSIDE_6}]/photo.jpg",
        "http://photos.example/photo.jpg?size=large&x=%20#part",
        "HTTP://Photos.Example:80/photo.jpg",
        "http://six.example/photo",
        f"http://{OUTSIDE}/redirect?to=http://photos.example/photo.jpg",
        f"http://{OUTSIDE}/photo#@127.0.0.1/",
        f"http://{OUTSIDE}/photo/@127.0.0.1/",
        "http://photos.example/redirect?to=/redirect&to=/redirect&to=/photo.jpg",
        "http://photos.example/redirect?to=//six.example/photo&status=307",
    ],
)
def test_a_photo_comes_from_the_internet(net: Net, url: str) -> None:
    assert net.fetch(url) == [PHOTO]


def test_the_request_names_the_host_and_says_little_else(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:80")
    assert net.fetch("http://photos.example/redirect?to=/photo.jpg#there") == [PHOTO]
    (first, _), (second, headers) = net.outside.requests
    assert (first, second) == ("/redirect?to=/photo.jpg", "/photo.jpg")
    assert headers == {
        "Host": "photos.example",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "User-Agent": "crossmodal-search",
        "Connection": "close",
    }


def test_tls_is_checked_against_the_name_and_not_the_address(net: Net) -> None:
    trusted = net.tls()
    names = resolver({"photos.example": [OUTSIDE], "other.example": [OUTSIDE]})
    good, literal, other = net.fetch(
        "https://photos.example/photo.jpg",
        f"https://{OUTSIDE}/photo.jpg",
        "https://other.example/photo.jpg",
        tls=trusted,
        resolve=names,
    )
    assert (good, literal) == (PHOTO, PHOTO)
    assert "could not be fetched" in refusal(other)
    for doubted in (NO_AUTHORITIES, None):
        assert "could not be fetched" in refusal(
            net.fetch("https://photos.example/photo.jpg", tls=doubted)[0]
        )
    assert [path for path, _ in net.secure.requests] == ["/photo.jpg", "/photo.jpg"]


def test_a_name_is_resolved_once_and_what_it_says_later_does_not_count(net: Net) -> None:
    answers = iter([[OUTSIDE], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(name: str) -> list[str]:
        asked.append(name)
        return next(answers)

    assert net.fetch("http://photos.example/photo.jpg", resolve=rebinding) == [PHOTO]
    assert asked == ["photos.example"]
    # A redirect is another connection, for which the name is checked again.
    answers = iter([[OUTSIDE], ["127.0.0.1"]])
    (refused,) = net.fetch("http://photos.example/redirect?to=http://photos.example/photo", resolve=rebinding)
    assert NOWHERE in refusal(refused)


@pytest.mark.parametrize(
    "others", [[OUTSIDE, "127.0.0.1"], ["10.0.0.1", OUTSIDE], [OUTSIDE, "::1"], [OUTSIDE, NEIGHBOURS[0]], []]
)
def test_a_name_with_one_address_that_is_not_public_is_refused(net: Net, others: list[str]) -> None:
    (refused,) = net.fetch("http://photos.example/photo", resolve=resolver({"photos.example": others}))
    assert NOWHERE in refusal(refused)
    assert net.outside.requests == []


def test_the_next_address_of_a_name_is_asked_where_one_does_not_answer(net: Net) -> None:
    names = resolver({"photos.example": ["2606:4700::1111", "1.1.1.1", OUTSIDE]})
    assert net.fetch("http://photos.example/photo", resolve=names) == [PHOTO]


ADDRESSES = (
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    *PRIVATE,
    "::1",
    "::",
    *PRIVATE_6,
    INSIDE,
    INSIDE_6,
    *NEIGHBOURS,
    *NEIGHBOURS_6,
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_inside_is_reached_neither_itself_nor_by_name_nor_by_redirect(
    net: Net, address: str
) -> None:
    names = resolver({"inside.example": [address], "photos.example": [OUTSIDE]})
    sentences = {
        refusal(fetched)
        for fetched in net.fetch(
            f"http://{in_url(address)}/photo",
            "http://inside.example/photo",
            f"http://{OUTSIDE}/redirect?to=http://{quote(in_url(address))}/photo",
            f"http://{OUTSIDE}/redirect?to=/redirect&to=http://inside.example/photo",
            "http://does-not-exist.example/photo",
            resolve=names,
        )
    }
    # One sentence for all: it doesn't tell what there is.
    assert len(sentences) == 1
    assert NOWHERE in sentences.pop()
    assert {headers["Host"] for _, headers in net.outside.requests} == {OUTSIDE}


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_inside_could_be_reached_if_it_were_not_refused(servers: Net, address: str) -> None:
    with servers.inside.run(urllib.request.urlopen, f"http://{in_url(address)}/photo", timeout=5) as answer:
        assert answer.read().startswith(PHOTO)


# Spellings of addresses inside, of other schemes, and of URLs that readers don't agree on.
TRICKS = {
    "decimal": "http://2130706433/",
    "octal": "http://0177.0.0.1/",
    "octal, one number": "http://017700000001/",
    "hexadecimal": "http://0x7f000001/",
    "hexadecimal, in parts": "http://0x7f.0x0.0x0.0x1/",
    "hexadecimal, last part": "http://127.0.0.0x1/",
    "hexadecimal without digits": "http://127.0.0.0x/",
    "short": "http://127.1/",
    "shorter": "http://0/",
    "three parts": "http://127.0.1/",
    "leading zeros": "http://127.000.000.001/",
    "too many parts": "http://127.0.0.1.1/",
    "a part too large": "http://383.0.0.1/",
    "a number too large": "http://4294967297/",
    "a dot behind": "http://127.0.0.1./",
    "localhost": "http://localhost/",
    "localhost with a dot": "http://localhost./",
    "below localhost": "http://www.localhost/",
    "a name of our own network": "http://metadata.google.internal/computeMetadata/v1/",
    "mapped": "http://[::ffff:127.0.0.1]/",
    "mapped, hexadecimal": "http://[::ffff:7f00:1]/",
    "mapped, public": f"http://[::ffff:{OUTSIDE}]/photo",
    "compatible": "http://[::127.0.0.1]/",
    "6to4": "http://[2002:7f00:1::1]/",
    "nat64": "http://[64:ff9b::127.0.0.1]/",
    "nat64, local": "http://[64:ff9b:1::127.0.0.1]/",
    "teredo": "http://[2001:0:7f00:1::1]/",
    "a zone": "http://[fe80::1%25lo]/",
    "a zone, raw": "http://[fe80::1%lo]/",
    "a future address": "http://[v1.127.0.0.1]/",
    "brackets around a name": "http://[localhost]/",
    "an open bracket": "http://[::1/",
    "a user": f"http://user@{OUTSIDE}/photo",
    "a password": f"http://user:password@{OUTSIDE}/photo",
    "a user like a host": f"http://{OUTSIDE}@127.0.0.1/",
    "a user like a host and a port": f"http://{OUTSIDE}:80@127.0.0.1/",
    "no user": f"http://@{OUTSIDE}/photo",
    "a backslash": f"http://{OUTSIDE}\\@127.0.0.1/",
    "backslashes": "http:\\\\127.0.0.1\\",
    "one slash": "http:/127.0.0.1/",
    "no slash": "http:127.0.0.1",
    "three slashes": "http:///127.0.0.1/",
    "no host": "http://",
    "no host, a port": "http://:80/",
    "a line break in the path": f"http://{OUTSIDE}/photo\r\nHost: 127.0.0.1",
    "a line break in the host": "http://127.0.0.1\r\n.example/",
    "another request": f"http://{OUTSIDE}/photo HTTP/1.1\r\n\r\nGET /secret",
    "a tab": "http://127.0\t.0.1/",
    "a space": f"http://{OUTSIDE} .127.0.0.1/",
    "NUL": f"http://{OUTSIDE}\0.example/",
    "NUL, escaped": f"http://{OUTSIDE}%00.example/",
    "an escaped host": "http://%31%32%37.0.0.1/",
    "an escaped dot": "http://127%2e0.0.1/",
    "circled digits": "http://①②⑦.⓪.⓪.①/",
    "full-width digits": "http://\uff11\uff12\uff17.0.0.1/",
    "an ideographic full stop": "http://127。0。0。1/",
    "a soft hyphen": "http://local\u00adhost/",
    "right to left": "http://\u202elocalhost/",
    "an umlaut": "http://bücher.example/",
    "half of a surrogate pair": "http://photos.example/\ud800",
    "a label of 64 letters": f"http://{'a' * 64}.example/",
    "an empty label": "http://photos..example/",
    "a dot in front": "http://.photos.example/",
    "a hyphen in front": "http://-photos.example/",
    "a name too long": f"http://{'a.' * 150}example/",
    "a port of letters": f"http://{OUTSIDE}:http/",
    "a port too large": f"http://{OUTSIDE}:65616/photo",
    "a negative port": f"http://{OUTSIDE}:-1/",
    "port 0": f"http://{OUTSIDE}:0/",
    "SSH's port": f"http://{OUTSIDE}:22/",
    "an odd port": f"http://{OUTSIDE}:8443/photo",
    "https's port by http": f"http://{OUTSIDE}:443/photo",
    "http's port by https": f"https://{OUTSIDE}:80/photo",
    "too long": f"http://{OUTSIDE}/photo?{'a' * 2048}",
    "a bad escape": f"http://{OUTSIDE}/photo%zz",
    "quotes": f'http://{OUTSIDE}/photo"onload=',
    "file": "file:///etc/passwd",
    "file, a host": "file://localhost/etc/passwd",
    "ftp": f"ftp://{OUTSIDE}/photo",
    "gopher": f"gopher://{OUTSIDE}:80/_GET%20/photo",
    "dict": f"dict://{OUTSIDE}:80/photo",
    "a socket": "http+unix://%2Frun%2Fdocker.sock/images/json",
    "ws": f"ws://{OUTSIDE}/photo",
    "jar": f"jar:http://{OUTSIDE}/photo!/",
    "view-source": f"view-source:http://{OUTSIDE}/photo",
    "data": "data:image/jpeg;base64,/9j/",
    "javascript": "javascript:alert(1)",
    "a path": "/etc/passwd",
    "no scheme": f"//{OUTSIDE}/photo",
    "a space in front": f" http://{OUTSIDE}/photo",
    "https to localhost": "https://localhost/",
}


@pytest.mark.parametrize("url", TRICKS.values(), ids=TRICKS)
def test_a_trick_gets_a_sentence_and_reaches_nothing(net: Net, url: str) -> None:
    direct = refusal(net.fetch(url)[0])
    assert any(
        reason in direct for reason in (NOWHERE, MALFORMED, "names port", "characters; the limit is 2,048")
    )
    assert net.outside.requests == net.odd.requests == []


# Of a redirect's, these are usual, or can't be sent.
NO_REDIRECTS = {"a path", "no scheme", "a space in front"} | {
    name for name, url in TRICKS.items() if not url.isascii() or not url.isprintable()
}


@pytest.mark.parametrize("name", [name for name in TRICKS if name not in NO_REDIRECTS])
def test_a_trick_reaches_nothing_by_redirect_either(net: Net, name: str) -> None:
    refusal(net.fetch(f"http://{OUTSIDE}/redirect?to={quote(TRICKS[name], safe='')}", seconds=20)[0])
    assert net.odd.requests == []


@pytest.mark.parametrize(
    ("path", "reason"),
    {
        "missing": "the status 404, not 200",
        "loop": "redirected more than 3 times",
        "redirect?to=/redirect&to=/redirect&to=/redirect&to=/photo": "redirected more than 3 times",
        "nowhere": "redirected more than 3 times",
        "redirect?to=file:///etc/passwd": MALFORMED,
        "redirect?to=http://[": MALFORMED,
        "endless": "more than 1,048,576 bytes",
        "large": "more than 1,048,576 bytes",
        "digits": "could not be fetched",
        "negative": "could not be fetched",
        "short": "could not be fetched",
        "bomb": "came compressed",
        "page": "is no photo",
        "drawing": "is no photo",
        "empty": "is no photo",
        "headers": "could not be fetched",
        "garbage": "could not be fetched",
    }.items(),
)
def test_a_hostile_host_gets_no_further_than_its_answer(net: Net, path: str, reason: str) -> None:
    assert reason in refusal(net.fetch(f"http://{OUTSIDE}/{path}")[0])


@pytest.mark.parametrize("path", ["drip", "hints", "silence"])
def test_a_slow_host_is_left_after_the_time_that_it_has(net: Net, path: str) -> None:
    sentence = refusal(net.fetch(f"http://{OUTSIDE}/{path}", seconds=0.5)[0])
    assert sentence == "The photo did not come from its URL within 0.5 seconds."


def test_a_name_server_that_does_not_answer_takes_no_longer(net: Net) -> None:
    ended = threading.Event()

    def waits(name: str) -> list[str]:
        ended.wait(30)
        return [OUTSIDE]

    try:
        assert "within 0.5 seconds" in refusal(
            net.fetch("http://photos.example/", resolve=waits, seconds=0.5)[0]
        )
    finally:
        ended.set()


def test_the_hosts_of_the_list_alone_are_asked(net: Net) -> None:
    allowed = ("photos.example", "*.photos.example:8443", f"{OUTSIDE}:8443")

    def fetch(url: str) -> bytes | FetchError:
        return net.fetch(url, hosts=allowed)[0]

    assert fetch("http://photos.example/photo") == PHOTO
    assert fetch("http://host.photos.example:8443/photo") == PHOTO
    assert fetch(f"http://{OUTSIDE}:8443/photo") == PHOTO
    for url in (
        f"http://{OUTSIDE}/photo",
        "http://six.example/photo",
        "http://photos.example:8443/photo",
        "http://host.photos.example/photo",
        "http://notphotos.example/photo",
        "http://photos.example.six.example/photo",
        "http://photos.example/redirect?to=http://six.example/photo",
        "http://photos.example/redirect?to=http://127.0.0.1:8443/photo",
    ):
        assert NOT_ALLOWED in refusal(fetch(url)), url


def test_a_host_of_the_list_is_refused_where_it_leads_inside(net: Net) -> None:
    names = resolver({"photos.example": ["127.0.0.1"]})
    for host in ("photos.example:8443", "127.0.0.1:8443"):
        assert NOWHERE in refusal(net.fetch(f"http://{host}/photo", hosts=[host], resolve=names)[0])


@pytest.mark.parametrize(
    "host",
    ["", "*", "*.", "http://photos.example", "a b", "photos.example:0", "a:65536", "*.8.8.4.4", "127.1"],
)
def test_a_list_with_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="is no host; write NAME"):
        UrlPhotos(max_bytes=1, hosts=[host])


def test_all_requests_together_hold_so_many_photos_and_no_more(net: Net) -> None:
    async def work() -> int:
        photos = UrlPhotos(max_bytes=len(PHOTO), tls=NO_AUTHORITIES)
        urls = [f"http://{OUTSIDE}/photo?{number}" for number in range(2)]
        try:
            async with photos.fetched(urls) as first, photos.fetched(urls) as second:
                assert [*first.values(), *second.values()] == [PHOTO] * 4
                with pytest.raises(Overloaded, match="This server is busy: it holds"):
                    async with photos.fetched(urls[:1]):
                        pass
            # What they held is free again, and nothing is left of the refused one.
            async with photos.fetched(urls) as third, photos.fetched(urls) as fourth:
                return [*third.values(), *fourth.values()].count(PHOTO)
        finally:
            photos.close()

    assert net.inside.run(asyncio.run, work()) == 4


def test_a_request_has_limits_for_all_its_photos_together(net: Net) -> None:
    urls = [f"http://{OUTSIDE}/photo?{number}" for number in range(MAX_URLS + 2)]
    fetched = net.fetch(*urls)
    assert fetched[:MAX_URLS] == [PHOTO] * MAX_URLS
    for refused in fetched[MAX_URLS:]:
        assert "names 18 URLs of photos; the limit is 16" in refusal(refused)
    assert net.fetch(*(f"http://{OUTSIDE}/held?{number}" for number in range(9))) == [PHOTO] * 9
    assert net.outside.held_most <= 4
    fetched = net.fetch(*urls[:5], max_bytes=len(PHOTO))
    assert sum(photo == PHOTO for photo in fetched) <= 2
    assert any("too large together" in str(error) for error in fetched if isinstance(error, FetchError))
