"""The server under a path of a reverse proxy's: the page's files, the API, links in answers, logging in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest
from conftest import Server, copy_index, start_server
from nginx import KEPT, TAKEN_OFF, nginx
from starlette.routing import Route

from crossmodal.access.keys import KeyFile
from crossmodal.client import Client
from crossmodal.errors import SettingsError
from crossmodal.server.access.root_path import parse_root_path

KEYS: dict[str, str] = {}


@pytest.fixture(scope="module")
def proxy(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx, before a server that needs a key."""
    folder = tmp_path_factory.mktemp("proxy")
    workspace = copy_index(toy_workspace, folder / "workspace")
    KEYS["visitor"] = KeyFile(workspace).add("visitor", "read")
    options = ("--root-path", KEPT, "--trusted-proxy", "127.0.0.1")
    server = start_server("query_restful", "--workspace", workspace, *options)
    with nginx(server.url, folder) as address:
        yield address
    server.stop()


@pytest.fixture
def http(proxy: str) -> Iterator[httpx2.Client]:
    """Asks nginx with the key."""
    with httpx2.Client(base_url=proxy, headers={"Authorization": f"Bearer {KEYS['visitor']}"}) as client:
        yield client


@pytest.mark.parametrize("root", [TAKEN_OFF, KEPT])
def test_the_page_and_all_that_it_loads_come_under_the_path(http: httpx2.Client, root: str) -> None:
    for page in ("/", "/login", "/docs"):
        answer = http.get(root + page)
        assert answer.status_code in (200, 303), page
        loaded, todo = set(), [(root + page, answer.text)]
        while todo:
            place, text = todo.pop()
            found = re.findall(r'(?:src|href)="([^"#]+)"|(?:from|import) "([^"]+)"', text)
            for name in {urljoin(place, one or other) for one, other in found} - loaded:
                assert name.startswith(f"{root}/"), (place, name)
                loaded.add(name)
                file = http.get(name)
                assert file.status_code == 200, name
                if name.endswith(".js"):
                    todo.append((name, file.text))
        assert answer.is_redirect or f"{root}/page/base.css" in loaded


@pytest.mark.parametrize("root", [TAKEN_OFF, KEPT])
def test_what_an_answer_links_to_is_there(http: httpx2.Client, root: str) -> None:
    found = http.post(f"{root}/v1/search", json={"text": "a cat", "top_k": 1}).json()
    photo = found["results"][0]["matches"][0]["photo"]
    assert photo["content"].startswith(f"{root}/v1/documents/")
    for link in (photo["content"], photo["thumbnail"]):
        assert http.get(link).headers["content-type"] == "image/jpeg"
    # A link may be asked for as a query, as it is.
    again = http.post(f"{root}/v1/search", json={"image": photo["thumbnail"], "top_k": 1})
    assert again.json()["results"][0]["query"]["terms"][0]["id"] == photo["id"]
    described = http.get(f"{root}/v1/openapi.json").json()
    assert described["servers"] == [{"url": root}]
    # Jina Box shows photos by their whole address.
    box = http.post(f"{root}/api/search", json={"data": ["a cat"], "top_k": 1}).json()
    shown = re.findall(r"http://[^\"'\s]+/images/[^\"'\s]+", str(box))
    assert shown
    assert shown[0].startswith(f"{http.base_url}".rstrip("/") + f"{root}/images/")
    assert http.get(shown[0]).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("root", [TAKEN_OFF, KEPT])
def test_a_person_logs_in_below_the_path_alone(proxy: str, root: str) -> None:
    with httpx2.Client(base_url=proxy) as http:
        asked = http.get(
            f"{root}/?view=status", headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
        )
        assert asked.status_code == 303
        assert asked.headers["location"].startswith(f"{root}/login?next=%2F{root[1:]}%2F%3Fview")
        login = http.post(asked.headers["location"], data={"key": KEYS["visitor"]})
        assert login.headers["location"] == f"{root}/?view=status"
        assert f"Path={root}/;" in login.headers["set-cookie"]
        assert http.get(f"{root}/v1/status").json()["access"]["session"] is True
        other = TAKEN_OFF if root == KEPT else KEPT
        assert http.get(f"{other}/v1/status").status_code == 401


@pytest.mark.parametrize("root", [TAKEN_OFF, KEPT])
def test_the_client_takes_the_address_with_its_path(proxy: str, root: str) -> None:
    with Client(proxy + root, key=KEYS["visitor"]) as client:
        photo = client.search("a cat", top_k=1).matches[0].photo
        assert photo is not None
        assert client.search(image=photo.content, top_k=1).matches
        assert client.content(photo.id)[:2] == b"\xff\xd8"


def test_the_path_without_a_slash_leads_to_the_page(proxy: str) -> None:
    for root in (TAKEN_OFF, KEPT):
        for query in ("", "?view=status&text=a%20cat"):
            answer = httpx2.get(proxy + root + query)
            assert answer.is_redirect
            assert urljoin(proxy, answer.headers["location"]) == f"{proxy}{root}/{query}"


def test_nobody_else_says_where_links_lead(toy_server: Server) -> None:
    for prefix in ("/evil", "//evil.example", "/a/../b", "/a b"):
        found = toy_server.request(
            "/v1/search", {"text": "a cat", "top_k": 1}, headers={"X-Forwarded-Prefix": prefix}
        )[1]
        assert found["results"][0]["matches"][0]["photo"]["content"].startswith("/v1/documents/")


@pytest.mark.parametrize(
    "given", ["photos", "//evil.example", "/a/../b", "/.", "/a b", "/a?b", "/" + "a" * 300]
)
def test_what_is_no_path_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="--root-path"):
        parse_root_path(given, [])


def test_a_path_of_the_servers_own_is_refused_at_the_start() -> None:
    routes = [Route("/v1/search", lambda request: None), Route("/", lambda request: None)]
    for given in ("/v1", "/v1/search"):
        with pytest.raises(SettingsError, match="answers itself"):
            parse_root_path(given, routes)
    assert parse_root_path("/v", routes) == "/v"
    assert parse_root_path("/photos/of/us/", routes) == "/photos/of/us"
    assert parse_root_path("/", routes) == parse_root_path("", routes) == ""
