"""How the server hands out the page: small, from its own folder only, and with nothing foreign in it."""

from __future__ import annotations

import gzip
import re

import httpx2
import pytest
from conftest import REPOSITORY, Server

PAGE = REPOSITORY / "crossmodal" / "server" / "page"
FILES = sorted(path.name for path in PAGE.iterdir())
LIMIT_BYTES = 90_000


def test_all_of_it_takes_at_most_90_kilobytes_on_the_wire(toy_server: Server) -> None:
    sizes = {}
    with httpx2.Client(base_url=toy_server.url) as client:
        for name in FILES:
            with client.stream("GET", f"/page/{name}", headers={"Accept-Encoding": "gzip"}) as answer:
                raw = b"".join(answer.iter_raw())
            assert answer.headers["content-encoding"] == "gzip"
            plain = client.get(f"/page/{name}", headers={"Accept-Encoding": "identity"}).content
            assert gzip.decompress(raw) == plain
            assert plain.count(b"\n") == (PAGE / name).read_bytes().count(b"\n"), name
            sizes[name] = len(raw)
    assert sum(sizes.values()) <= LIMIT_BYTES, sizes


def test_a_client_that_knows_no_gzip_gets_the_file_itself(toy_server: Server) -> None:
    for accepted in ("identity", "gzip;q=0", "br"):
        answer = httpx2.get(f"{toy_server.url}/", headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in answer.headers
        assert answer.content == (PAGE / "index.html").read_bytes()


def test_an_unchanged_file_is_not_sent_again(toy_server: Server) -> None:
    first = httpx2.get(f"{toy_server.url}/page/main.js")
    again = httpx2.get(f"{toy_server.url}/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = httpx2.get(
        f"{toy_server.url}/page/main.js",
        headers={"If-None-Match": first.headers["etag"], "Accept-Encoding": "identity"},
    )
    assert plain.status_code == 200


def test_all_modules_are_asked_for_at_once() -> None:
    """What only an import names would be asked for a round trip later."""
    preloaded = set(
        re.findall(r'rel="modulepreload" href="page/([\w.]+)"', (PAGE / "index.html").read_text())
    )
    modules = {name for name in FILES if name.endswith(".js")} - {"theme.js", "main.js", "offline.js"}
    assert preloaded == {*modules, "formats.js"}


def test_it_can_be_installed_and_be_a_search_engine_of_a_browser(toy_server: Server) -> None:
    answer = httpx2.get(f"{toy_server.url}/page/manifest.webmanifest")
    assert answer.headers["content-type"] == "application/manifest+json"
    manifest = answer.json()
    base = str(answer.url)
    assert httpx2.URL(base).join(manifest["start_url"]) == httpx2.URL(f"{toy_server.url}/")
    assert httpx2.get(httpx2.URL(base).join(manifest["icons"][0]["src"])).status_code == 200
    answer = httpx2.get(f"{toy_server.url}/page/opensearch.xml")
    assert answer.headers["content-type"].startswith("application/opensearchdescription+xml")
    (template,) = re.findall(r'template="([^"]+)"', answer.text)
    assert template == f"{toy_server.url}/?text={{searchTerms}}"


@pytest.mark.parametrize("path", ["/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/nothing.js", "/page/"])
def test_nothing_but_its_files_is_served(toy_server: Server, path: str) -> None:
    answer = httpx2.get(toy_server.url + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_writes_markup(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    # Namespaces are names; nothing is loaded from them.
    assert hosts <= {"www.w3.org"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


def test_the_policy_lets_nothing_foreign_in(toy_server: Server) -> None:
    policy = httpx2.get(f"{toy_server.url}/").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
