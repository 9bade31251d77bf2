"""Who gets in over HTTP: keys, sessions, pages of other origins, proxies and limits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx2
import pytest
from starlette.applications import Starlette

from crossmodal import limits
from crossmodal.access import shared_table
from crossmodal.access.keys import KeyFile
from crossmodal.access.shared_table import SharedState
from crossmodal.engine.engine import Engine
from crossmodal.engine.indexing import Indexed
from crossmodal.errors import SettingsError, StoreError, StoreUnwritable
from crossmodal.query.request import SearchOutcome, SearchRequest, Timing
from crossmodal.records import Record
from crossmodal.server.access.gate import FREE_PATHS
from crossmodal.server.app import create_app
from crossmodal.server.serving import Serving, Writing
from crossmodal.settings import Settings

OWN = "http://localhost:45678"
OTHER = "http://localhost:8000"
LINE = {"Content-Type": "application/x-ndjson"}
SEARCH = {"data": ["a cat"], "top_k": 2, "mode": "search"}
T = TypeVar("T")


@pytest.fixture(scope="module")
def engine(toy_workspace: Path) -> Iterator[Engine]:
    """The toy index, opened once."""
    with Engine(Settings(workspace=toy_workspace)) as opened:
        opened.prepare()
        yield opened


class App:
    """One server in this process with the toy index and keys of its own, asked from ``address``."""

    def __init__(self, engine: Engine, workspace: Path, **settings: Any) -> None:
        self.keys = KeyFile(workspace)
        made = Settings(workspace=workspace, model="clip-mini", **settings)
        self.serving = Serving("query", engine, made, Writing(True))
        self.shared = SharedState()
        self.app: Starlette = create_app(self.serving, shared=self.shared)

    def session(
        self,
        work: Callable[[httpx2.AsyncClient], Awaitable[T]],
        *,
        address: str = "127.0.0.1",
        base: str = OWN,
        key: str | None = None,
    ) -> T:
        """What ``work`` returns with a client, which keeps its cookies."""

        async def run() -> T:
            transport = httpx2.ASGITransport(self.app, client=(address, 1))
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            async with httpx2.AsyncClient(transport=transport, base_url=base, headers=headers) as http:
                return await work(http)

        return asyncio.run(run())

    def ask(
        self,
        method: str,
        path: str,
        *,
        address: str = "127.0.0.1",
        base: str = OWN,
        key: str | None = None,
        **options: Any,
    ) -> httpx2.Response:
        """The answer to one request."""
        return self.session(
            lambda http: http.request(method, path, **options), address=address, base=base, key=key
        )

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.ask("GET", path, **options)

    def photo(self, **options: Any) -> str:
        """The path of an indexed photo."""
        listed = self.get("/v1/documents", **options).json()["documents"]
        return str(listed[0]["photo"]["content"])


@pytest.fixture
def app(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Makes a server with the given settings."""
    made: list[App] = []

    def make(**settings: Any) -> App:
        made.append(App(engine, tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.serving.close()


def said(answer: httpx2.Response) -> str:
    """The sentence of an error, in either form."""
    body = answer.json()
    return str(body.get("detail") or body["status"]["description"])


def every_route(app: Starlette) -> list[tuple[str, str]]:
    """Method and path of every route, HEAD apart, with something in each place of its pattern."""
    found = []
    for route in app.routes:
        path = route.path.replace("{id:path}", "some-id").replace("{name}", "main.js")  # type: ignore[attr-defined]
        for method in sorted(route.methods - {"HEAD"}):  # type: ignore[attr-defined]
            found.append((method, path))
    assert len(found) > 25
    return found


WRITES = {
    ("POST", "/v1/documents"),
    ("DELETE", "/v1/documents"),
    ("POST", "/v1/documents/deletion"),
    ("DELETE", "/v1/documents/some-id"),
    ("PATCH", "/v1/documents/some-id"),
    *(
        ("POST", path)
        for path in ("/index", "/api/index", "/update", "/api/update", "/delete", "/api/delete")
    ),
    *(("PUT", path) for path in ("/update", "/api/update")),
    *(("DELETE", path) for path in ("/delete", "/api/delete")),
}


def test_no_route_answers_without_a_key_and_a_key_to_read_writes_nothing(app: Callable[..., App]) -> None:
    server = app()
    read, write = server.keys.add("r", "read"), server.keys.add("w", "write")
    routes = every_route(server.app)
    assert set(routes) >= WRITES
    for method, path in routes:
        answer = server.ask(method, path)
        if path in FREE_PATHS:
            assert answer.status_code in (200, 401), path
            continue
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer"), path
        assert "Authorization: Bearer KEY" in said(answer)
        # A wrong key is none either.
        assert server.ask(method, path, key=read[:-1], address=f"10.0.0.{len(path)}").status_code == 401
        with_read = server.ask(method, path, key=read)
        if (method, path) in WRITES:
            assert with_read.status_code == 403, (method, path)
            assert "may only read here" in said(with_read)
        else:
            assert with_read.status_code not in (401, 403), (method, path, with_read.text)
        # Whatever is wrong with an empty request, the key is not.
        assert server.ask(method, path, key=write).status_code not in (401, 403), (method, path)
    assert (
        server.ask("POST", "/post", key=read, json={"ids": ["x"], "execEndpoint": "/delete"}).status_code
        == 403
    )
    assert server.get("/no/such/route").status_code == 401


def test_free_of_keys_are_health_and_the_page_to_log_in_alone(app: Callable[..., App]) -> None:
    server = app(key="x" * 20)
    free = {path for method, path in every_route(server.app) if server.ask(method, path).status_code != 401}
    assert free == {"/healthz", "/readyz", "/login"}
    page = server.get("/login")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for name in ("base.css", "login.css", "icon.svg", "theme.js"):
        assert f'"page/{name}"' in page.text
        assert server.get(f"/page/{name}").status_code == 200
    assert server.get("/page/main.js").status_code == 401
    # It says nothing of what there is.
    assert "photos" not in json.dumps(server.get("/readyz").json())


def test_keys_hold_at_once_and_show_who_asks(app: Callable[..., App]) -> None:
    server = app()
    assert server.get("/v1/status").json()["access"] == {"key": None, "scope": "admin", "session": False}
    key = server.keys.add("laptop", "read")
    assert server.get("/v1/status").status_code == 401
    status = server.get("/v1/status", key=key).json()
    assert status["access"] == {"key": "laptop", "scope": "read", "session": False}
    assert status["writing"]["allowed"] is False
    assert "'laptop' may only read" in status["writing"]["reason"]
    assert server.get("/metrics", key=key).status_code == 200
    server.keys.revoke("laptop")
    assert server.get("/v1/status", key=key).status_code == 401
    assert server.get("/v1/status", headers={"Authorization": "Basic eDp5"}).status_code == 401


def test_a_key_in_the_address_reads_and_goes_into_the_addresses_of_photos(app: Callable[..., App]) -> None:
    server = app()
    key = server.keys.add("box", "admin")
    answer = server.ask("POST", f"/search?key={key}", json=SEARCH)
    assert answer.status_code == 200
    uri = answer.json()["search"]["docs"][0]["matches"][0]["uri"]
    assert uri.endswith(f"?key={key}")
    assert server.get(uri).headers["content-type"] == "image/jpeg"
    assert server.get(uri.partition("?")[0]).status_code == 401
    # As dragged into Jina Box.
    dragged = server.ask("POST", f"/search?key={key}", json={**SEARCH, "data": [uri]})
    assert dragged.json()["search"]["docs"][0]["matches"][0]["text"]
    # The native API refuses parameters that it doesn't know; it never sees this one.
    assert server.get(f"/v1/documents?limit=1&key={key}").status_code == 200
    for method, path in WRITES:
        assert server.ask(method, f"{path}?key={key}").status_code == 403


def test_a_session_logs_in_reads_writes_and_logs_out(app: Callable[..., App]) -> None:
    server = app()
    key = server.keys.add("me", "write")
    own = {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}

    async def work(http: httpx2.AsyncClient) -> None:
        led = await http.get("/?q=text%3Aa", headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (303, "/login?next=%2F%3Fq%3Dtext%253Aa")
        wrong = await http.post(led.headers["location"], data={"key": "x"}, headers=own)
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        assert 'role="alert"' in wrong.text
        logged_in = await http.post(led.headers["location"], data={"key": f" {key} "}, headers=own)
        assert (logged_in.status_code, logged_in.headers["location"]) == (303, "/?q=text%3Aa")
        cookie = logged_in.headers["set-cookie"]
        assert {"httponly", "samesite=strict", "max-age=86400", "path=/"} <= set(cookie.lower().split("; "))
        assert key not in cookie
        assert (await http.get("/v1/status")).json()["access"] == {
            "key": "me",
            "scope": "write",
            "session": True,
        }
        # A page elsewhere cannot use it, and neither can what is no page.
        for headers in ({}, {"Origin": OTHER}, {"Sec-Fetch-Site": "same-site"}):
            refused = await http.delete("/v1/documents/nothing", headers=headers)
            assert refused.status_code == 403
        assert (await http.delete("/v1/documents/nothing", headers=own)).status_code == 404
        assert (await http.post("/logout", headers={"Origin": OTHER})).status_code == 403
        stolen = dict(http.cookies)
        assert (await http.post("/logout", headers=own)).status_code == 200
        assert not dict(http.cookies)
        http.cookies.update(stolen)
        assert (await http.get("/v1/status")).status_code == 401

    server.session(work)


def test_a_session_ends_with_its_key_and_with_its_time(
    app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = app()
    server.keys.add("other", "admin")
    key = server.keys.add("me", "read")

    async def work(http: httpx2.AsyncClient) -> None:
        for how in ("revoked", "expired"):
            secret = key if how == "revoked" else server.keys.add("me", "read")
            assert (await http.post("/login", data={"key": secret})).status_code == 303
            assert (await http.get("/v1/status")).status_code == 200
            if how == "revoked":
                server.keys.revoke("me")
            else:
                later = time.monotonic() + 86_401
                monkeypatch.setattr(
                    shared_table, "time", SimpleNamespace(monotonic=lambda later=later: later)
                )
            assert (await http.get("/v1/status")).status_code == 401

    server.session(work)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/?q=a", "/?q=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
    ],
)
def test_logging_in_leads_to_no_other_host(app: Callable[..., App], given: str, expected: str) -> None:
    server = app(key="k" * 30)
    answer = server.ask("POST", "/login", params={"next": given}, data={"key": "k" * 30})
    assert (answer.status_code, answer.headers["location"]) == (303, expected)


def test_over_tls_the_cookie_is_for_tls_alone(app: Callable[..., App]) -> None:
    server = app(key="k" * 30)
    answer = server.ask("POST", "/login", base="https://localhost:45678", data={"key": "k" * 30})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-crossmodal_session=")
    assert "secure" in cookie.lower().split("; ")


def test_wrong_keys_are_slowed_down_and_known_ones_are_not(app: Callable[..., App]) -> None:
    server = app()
    key, late = server.keys.add("me", "read"), server.keys.add("late", "read")
    assert server.get("/v1/status", key=key).status_code == 200
    answers = [server.ask("POST", "/login", data={"key": f"wrong {n}"}) for n in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["retry-after"]) <= 2
    wrong = server.get("/v1/status", key="another wrong one")
    assert (wrong.status_code, wrong.headers["retry-after"]) == (429, answers[-1].headers["retry-after"])
    # Not even the right one, if it is tried only now; it would tell a guesser.
    assert server.get("/v1/status", key=late).status_code == 429
    assert server.get("/v1/status", key=key).status_code == 200
    assert server.get("/v1/status", key=late, address="10.0.0.9").status_code == 200


def test_requests_are_limited_by_key_and_by_address(app: Callable[..., App]) -> None:
    server = app(rate_limit=5, host="0.0.0.0")
    one, two = server.keys.add("one", "read"), server.keys.add("two", "read")

    def statuses(key: str, *addresses: str) -> list[int]:
        return [server.get("/v1/models", key=key, address=address).status_code for address in addresses]

    # A key from everywhere, and keys from one address.
    assert statuses(one, *(f"10.0.0.{n}" for n in range(6))) == [200] * 5 + [429]
    assert statuses(two, *["10.1.0.1"] * 5) == [200] * 5
    third = server.keys.add("three", "read")
    refused = server.get("/v1/models", key=third, address="10.1.0.1")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 12
    assert "5 requests a minute" in said(refused)
    # Of IPv6 the network of a customer counts, not each of its addresses.
    fourth, fifth = server.keys.add("four", "read"), server.keys.add("five", "read")
    assert statuses(fourth, *(f"2001:db8::{n}" for n in range(5))) == [200] * 5
    assert statuses(fifth, "2001:db8::99", "2001:db8:0:1::1") == [429, 200]
    assert server.get("/healthz", address="10.1.0.1").status_code == 200
    # Who is refused counts as well, and takes nothing from a key that comes from elsewhere.
    without = [server.get("/v1/models", address="10.2.0.1") for _ in range(6)]
    assert [answer.status_code for answer in without] == [401] * 5 + [429]
    assert "from this address" in said(without[-1])
    sixth = server.keys.add("six", "read")
    assert statuses(sixth, "10.2.0.1", "10.2.0.2") == [429, 200]


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": OTHER, "Sec-Fetch-Site": "same-site"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(headers.values()))
def test_pages_of_other_origins_read_nothing(app: Callable[..., App], headers: dict[str, str]) -> None:
    server = app()
    photo = server.photo()
    for method, path in (
        ("GET", photo),
        ("GET", photo.replace("content", "thumbnail")),
        ("GET", "/v1/documents"),
        ("GET", "/v1/status"),
        ("GET", "/status"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("POST", "/search"),
        ("POST", "/v1/search"),
        ("POST", "/v1/documents"),
        ("OPTIONS", "/v1/search"),
    ):
        answer = server.ask(
            method, path, headers={**headers, "Access-Control-Request-Method": "POST"}, json=SEARCH
        )
        assert answer.status_code == 403, (method, path)
        assert "--allow-origin" in said(answer)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_refused_origin_is_logged_once_with_the_option(
    app: Callable[..., App], caplog: pytest.LogCaptureFixture
) -> None:
    server = app()
    for origin in ("https://one.example", "https://two.example", "https://one.example"):
        assert server.get("/v1/documents", headers={"Origin": origin}).status_code == 403
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "--allow-origin https://one.example" in line] == lines[:1]
    assert len(lines) == 2
    server.get("/v1/documents", headers={"Origin": "https://three.example\tinjected"})
    assert "\t" not in caplog.records[-1].getMessage()


def test_links_from_other_pages_can_be_followed(app: Callable[..., App]) -> None:
    server = app()
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.get("/", headers=link).status_code == 200
    assert server.get(server.photo(), headers=link).status_code == 200
    assert server.ask("POST", "/search", headers=link, json=SEARCH).status_code == 403


def test_origins_that_are_listed_may_read_and_not_write(app: Callable[..., App]) -> None:
    server = app(allow_origin=("https://Box.Example:443", "http://localhost:8000/"))
    for origin in ("https://box.example", OTHER):
        preflight = server.ask(
            "OPTIONS",
            "/search",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,authorization",
            },
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == "content-type,authorization"
        for answer in (
            server.get("/v1/documents", headers={"Origin": origin}),
            server.ask("POST", "/search", headers={"Origin": origin}, json=SEARCH),
        ):
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
            assert "Origin" in answer.headers["vary"]
        picture = {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "no-cors",
            "Sec-Fetch-Dest": "image",
            "Referer": f"{origin}/page.html",
        }
        shown = server.get(server.photo(), headers=picture)
        assert (shown.status_code, shown.headers["cross-origin-resource-policy"]) == (200, "cross-origin")
        written = server.ask("POST", "/v1/documents", headers={**LINE, "Origin": origin}, content=b"{}")
        assert written.status_code == 403
        assert "not change the index" in said(written)
    for origin in (
        "https://box.example:8443",
        "http://box.example",
        "null",
        "https://box.example.evil.example",
    ):
        assert server.get("/v1/documents", headers={"Origin": origin}).status_code == 403
    hidden = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert server.get(server.photo(), headers=hidden).status_code == 403


def test_null_is_for_pages_without_an_origin(app: Callable[..., App]) -> None:
    server = app(allow_origin=("null",))
    answer = server.get("/v1/documents", headers={"Origin": "null", "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "null")
    # Any page can be one: it gets nothing by somebody's session.
    assert "access-control-allow-credentials" not in answer.headers
    assert server.get(server.photo(), headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    named = {"Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/"}
    assert server.get(server.photo(), headers=named).status_code == 403


@pytest.mark.parametrize(
    "origin", ["*", "example.com", "https://*.example", "https://a/b", "ftp://a", "https://x@y"]
)
def test_what_is_no_origin_is_refused_at_the_start(app: Callable[..., App], origin: str) -> None:
    with pytest.raises(SettingsError, match="is no origin"):
        app(allow_origin=(origin,))


def test_a_foreign_name_of_this_machine_reads_nothing(app: Callable[..., App]) -> None:
    """DNS rebinding: evil.example points at 127.0.0.1, and its page is of the same origin as what it asks."""
    server = app()
    photo = server.photo()
    rebound = "http://evil.example:45678"
    for path in (photo, "/v1/documents", "/", "/metrics", "/status"):
        answer = server.get(path, base=rebound, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 403, path
        assert "'evil.example' is none of its names" in said(answer)
    own = {"Origin": rebound, "Sec-Fetch-Site": "same-origin"}
    assert server.ask("POST", "/search", base=rebound, headers=own, json=SEARCH).status_code == 403
    for name in ("localhost:45678", "127.0.0.1:45678", "[::1]:45678", "photos.localhost"):
        assert server.get("/v1/documents", base=f"http://{name}").status_code == 200
    # With a key the name says nothing: such a page has neither the key nor the cookie.
    key = server.keys.add("me", "read")
    assert server.get("/v1/documents", base=rebound, key=key).status_code == 200
    assert server.get("/v1/documents", base=rebound).status_code == 401


def test_without_keys_no_proxy_opens_this_machine_to_others(app: Callable[..., App]) -> None:
    """What nginx and others pass on names localhost as its Host, and comes from this machine."""
    server = app()
    photo = server.photo()
    for headers in (
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Real-IP": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
    ):
        for path in (photo, "/v1/documents", "/", "/metrics"):
            refused = server.get(path, headers=headers)
            assert refused.status_code == 403, (headers, path)
            assert "crossmodal keys add NAME" in said(refused)
            assert "--trusted-proxy" in said(refused)
        written = server.ask("POST", "/v1/documents", headers={**LINE, **headers}, content=b"{}")
        assert written.status_code == 403
        assert server.get("/readyz", headers=headers).status_code == 200
        assert app(insecure_no_auth=True).get("/v1/models", headers=headers).status_code == 200
    # With keys it is for them to say; with a proxy of which it was told there have to be some.
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert app(trusted_proxy=("127.0.0.1",)).get("/v1/models", headers=forwarded).status_code == 401
    key = server.keys.add("me", "read")
    assert server.get("/v1/models", headers=forwarded, key=key).status_code == 200


def test_what_another_process_forwards_came_through_no_proxy(app: Callable[..., App]) -> None:
    server = app()

    def statuses(*hops: str) -> int:
        async def over_a_socket_file(scope: Any, receive: Any, send: Any) -> None:
            await server.app({**scope, "client": None, "server": ("/run/writer.sock", None)}, receive, send)

        async def ask() -> int:
            transport = httpx2.ASGITransport(over_a_socket_file)
            async with httpx2.AsyncClient(transport=transport, base_url=OWN) as http:
                headers = [("X-Forwarded-For", hop) for hop in hops]
                return (await http.get("/v1/models", headers=headers)).status_code

        return asyncio.run(ask())

    assert statuses("127.0.0.1") == 200
    assert statuses("203.0.113.9", "127.0.0.1") == 403


def test_forwarded_headers_count_from_listed_proxies_alone(app: Callable[..., App]) -> None:
    server = app(trusted_proxy=("10.0.0.0/8", "2001:db8::7"), rate_limit=2, host="0.0.0.0", writing="on")
    key = server.keys.add("me", "write")
    forwarded = {
        "X-Forwarded-For": "203.0.113.9, 10.2.3.4",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "photos.example.com",
    }
    # Two a minute and address: from behind the proxy, and from everywhere else with the same headers.
    first, second, third = (server.keys.add(f"k{n}", "read") for n in range(3))
    base = "http://127.0.0.1:45678"
    for address in ("10.0.0.1", "2001:db8::7"):
        answer = server.get("/v1/models", address=address, base=base, headers=forwarded, key=first)
        assert answer.status_code == 200
    assert server.get("/v1/models", address="10.9.9.9", headers=forwarded, key=second).status_code == 429
    assert server.get("/v1/models", address="203.0.113.77", headers=forwarded, key=third).status_code == 200
    # The page under the proxy's name is this server's own, and may write; the same from elsewhere may not.
    own = {**LINE, "Origin": "https://photos.example.com", "Sec-Fetch-Site": "same-origin"}
    line = {"content": b'{"id": "x"}', "base": base, "key": key}
    far = {**forwarded, "X-Forwarded-For": "198.51.100.1"}
    assert (
        server.ask("POST", "/v1/documents", address="10.0.0.1", headers={**own, **far}, **line).status_code
        == 200
    )
    ignored = server.ask("POST", "/v1/documents", address="203.0.113.5", headers={**own, **far}, **line)
    assert ignored.status_code == 403
    assert "--trusted-proxy" in said(ignored)
    # Its cookie is for TLS, as the proxy says.
    login = server.ask("POST", "/login", address="10.0.0.1", base=base, headers=forwarded, data={"key": key})
    assert "__Host-" in login.headers["set-cookie"]
    with pytest.raises(SettingsError, match="'proxy' is neither an address nor a network"):
        app(trusted_proxy=("proxy",))


def test_behind_a_proxy_with_its_own_name_writing_has_to_be_asked_for(app: Callable[..., App]) -> None:
    name = "https://photos.example.com"
    own = {**LINE, "Origin": name, "Sec-Fetch-Site": "same-origin"}
    for writing, expected in (("auto", 403), ("on", 200)):
        server = app(trusted_proxy=("127.0.0.1",), writing=writing)
        read, write = server.keys.add(f"r{writing}", "read"), server.keys.add(f"w{writing}", "write")

        def status(key: str | None, server: App = server) -> int:
            return server.ask(
                "POST", "/v1/documents", base=name, headers=own, key=key, content=b"{}"
            ).status_code

        assert (status(None), status(read), status(write)) == (401, 403, expected)


def test_every_answer_is_closed_to_other_pages(app: Callable[..., App]) -> None:
    server = app()
    photo = server.photo()
    for path in (photo, "/v1/documents", "/", "/page/main.js", "/healthz", "/nothing", "/login", "/metrics"):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert "access-control-allow-origin" not in headers
        assert {"Origin", "Sec-Fetch-Site"} <= set(headers["vary"].replace(",", " ").split()), path
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "no-" in headers["cache-control"] or "private" in headers["cache-control"], path
    assert server.get(photo).headers["cache-control"] == "private, max-age=300"
    assert server.get("/v1/documents").headers["cache-control"].startswith("private")


def test_a_read_that_is_not_taken_on_is_answered_like_any_other(
    app: Callable[..., App], caplog: pytest.LogCaptureFixture
) -> None:
    server = app()
    photo = server.photo()
    reads = server.serving.admission.reads
    with reads.take(reads.most):
        for path in ("/v1/status", photo):
            answer = server.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1"), path
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert "reading requests" in said(answer)
        assert server.get("/v1/status").json()["status"] == 429
        # Clients of that path know jina's envelope.
        assert "description" in server.get("/images/x").json()["status"]
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    assert server.get("/v1/status").status_code == 200


def test_paths_of_the_server_stay_with_the_server(
    app: Callable[..., App], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = app()

    def full(*arguments: object, **named: object) -> None:
        raise StoreUnwritable(f"The workspace {tmp_path} cannot be written; see {tmp_path}/index.sqlite.")

    monkeypatch.setattr(server.serving.engine, "index", full)
    line = b'{"id": "a", "text": "b"}'
    for answer in (
        server.ask("POST", "/v1/documents", headers=LINE, content=line),
        server.ask("POST", "/index", json={"data": [{"id": "a", "text": "b"}]}),
    ):
        assert answer.status_code == 507
        assert "The workspace WORKSPACE cannot be written; see WORKSPACE/index.sqlite." in answer.text
        assert str(tmp_path) not in answer.text
        assert int(answer.headers["content-length"]) == len(answer.content)


def test_what_users_wrote_keeps_its_paths_and_errors_of_single_documents_lose_them(
    app: Callable[..., App], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = app()
    path = f"{tmp_path}/mine.jpg"

    def half(records: list[Record], **named: object) -> Iterator[Indexed]:
        yield Indexed(records[0], "added")
        yield Indexed(records[1], error=f"{path} is full.")

    monkeypatch.setattr(server.serving.engine, "index", half)
    lines = b"\n".join(json.dumps({"id": id, "text": "b"}).encode() for id in (path, "b"))
    found = server.ask("POST", "/v1/documents", headers=LINE, content=lines).json()["results"]
    assert [result["id"] for result in found] == [path, "b"]
    assert [result["error"] for result in found] == [None, "WORKSPACE/mine.jpg is full."]
    data = [{"id": "a", "text": path, "tags": {"path": path}}, {"id": "b", "text": "b"}]
    answer = server.ask("POST", "/index", json={"data": data})
    assert "WORKSPACE/mine.jpg is full." in answer.text
    assert f"{path} is full" not in answer.text

    def outcomes(requests: list[SearchRequest]) -> tuple[list[SearchOutcome], Timing]:
        damaged = SearchOutcome(requests[1], error=StoreError(f"{path} is damaged."))
        return [SearchOutcome(requests[0]), damaged], Timing()

    monkeypatch.setattr(server.serving.engine, "search", outcomes)
    queries = {"queries": [{"text": "a"}, {"text": "b"}]}
    searched = server.ask("POST", "/v1/search", json=queries).json()["results"]
    assert searched[1]["error"]["detail"] == "WORKSPACE/mine.jpg is damaged."


def test_what_is_told_of_a_request_that_broke_off_keeps_the_ids_that_were_sent(
    app: Callable[..., App], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = app()

    def added(records: list[Record], **named: object) -> Iterator[Indexed]:
        for record in records:
            error = f"{tmp_path}/index.sqlite is full." if record.id.endswith("/5") else None
            yield Indexed(record, None if error else "added", error=error)

    monkeypatch.setattr(server.serving.engine, "index", added)
    monkeypatch.setattr(limits, "DOCUMENTS", replace(limits.DOCUMENTS, most=40))
    ids = [f"{tmp_path}/{number}" for number in range(41)]
    lines = b"\n".join(json.dumps({"id": id, "text": "b"}).encode() for id in ids)
    answer = server.ask("POST", "/v1/documents", headers=LINE, content=lines)
    told = answer.json()
    assert (answer.status_code, told["added"], told["failed"]) == (413, 31, 9)
    assert [result["id"] for result in told["results"]] == ids[:40]
    assert told["results"][5]["error"] == "WORKSPACE/index.sqlite is full."
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_no_answer_shows_a_key(app: Callable[..., App], caplog: pytest.LogCaptureFixture) -> None:
    server = app()
    key = server.keys.add("me", "read")
    for answer in (
        server.get("/v1/nothing", key=key),
        server.get(f"/v1/documents?key={key}x"),
        server.get(f"/v1/documents?limit=x&key={key}"),
        server.get(f"/?key={key}x", headers={"Accept": "text/html"}),
        server.ask("POST", "/login", data={"key": key[:-1]}),
    ):
        assert key[:-1] not in answer.text + str(answer.headers)
    assert key not in caplog.text
