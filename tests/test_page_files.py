"""How the server hands out the page: small, from its own folder only, and with nothing foreign in it."""

from __future__ import annotations

import gzip
import hashlib
import re
from base64 import b64encode

import httpx2
import pytest
from conftest import REPOSITORY, Server

from crossmodal.server.bundle import bundled

PAGE = REPOSITORY / "crossmodal" / "server" / "page"
FILES = sorted(path.name for path in PAGE.iterdir())
LIMIT_BYTES = 90_000

# Modules that app.js is made of; the others run by themselves.
MODULES = [name for name in FILES if name.endswith(".js") and name not in ("theme.js", "offline.js")]


def test_all_of_it_takes_at_most_90_kilobytes_on_the_wire(toy_server: Server) -> None:
    sizes = {}
    with httpx2.Client(base_url=toy_server.url) as client:
        # The modules come as one, beside what stands by itself.
        for name in (*FILES, "app.js"):
            with client.stream("GET", f"/page/{name}", headers={"Accept-Encoding": "gzip"}) as answer:
                raw = b"".join(answer.iter_raw())
            assert answer.headers["content-encoding"] == "gzip"
            plain = client.get(f"/page/{name}", headers={"Accept-Encoding": "identity"}).content
            assert gzip.decompress(raw) == plain
            if name != "app.js":
                assert plain.count(b"\n") == (PAGE / name).read_bytes().count(b"\n"), name
            if name not in MODULES:
                sizes[name] = len(raw)
    print(f"{sum(sizes.values()):,} bytes")
    assert sum(sizes.values()) <= LIMIT_BYTES, sizes


def test_a_client_that_knows_no_gzip_gets_the_file_itself(toy_server: Server) -> None:
    for accepted in ("identity", "gzip;q=0", "br"):
        answer = httpx2.get(f"{toy_server.url}/docs", headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in answer.headers
        assert answer.content == (PAGE.parent / "docs_page" / "docs.html").read_bytes()


def test_the_page_says_what_its_first_search_goes_by(toy_server: Server) -> None:
    """The toy data has captions, and no text in photos was read."""
    wanted = (PAGE / "index.html").read_text().replace("<html ", "<html data-captions ")
    assert httpx2.get(toy_server.url).text == wanted


def test_an_unchanged_file_is_not_sent_again(toy_server: Server) -> None:
    first = httpx2.get(f"{toy_server.url}/page/main.js")
    again = httpx2.get(f"{toy_server.url}/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = httpx2.get(
        f"{toy_server.url}/page/main.js",
        headers={"If-None-Match": first.headers["etag"], "Accept-Encoding": "identity"},
    )
    assert plain.status_code == 200


def test_all_modules_come_as_one_script(toy_server: Server) -> None:
    """What only an import names would be asked for a round trip later."""
    assert re.findall(r'type="module" src="([^"]+)"', (PAGE / "index.html").read_text()) == ["page/app.js"]
    script = httpx2.get(f"{toy_server.url}/page/app.js").text
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    for name in MODULES:
        module = httpx2.get(f"{toy_server.url}/page/{name}").text
        for function in re.findall(r"^(?:export )?(?:async )?(function \w+\(.*)$", module, re.MULTILINE):
            assert function in script, name


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("export let one = 1;\n", "other.js has 'export let one = 1;', which"),
        ('import * as all from "./main.js";\n', "other.js has 'import \\* as all"),
        ("export const two = 1;\n", "main.js and other.js both export 'two'"),
    ],
)
def test_a_module_that_cannot_be_bundled_is_named(other: str, said: str) -> None:
    main = 'import "./other.js";\nexport const two = 2;\n'
    with pytest.raises(ValueError, match=said):
        bundled({"main.js": main, "other.js": other}, "main.js")


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
    (script,) = re.findall(r"<script>(.*?)</script>", (PAGE / "index.html").read_text(), re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'self' 'sha256-{digest}'"
    assert rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
