"""What a page of another origin gets from a server with its default options, in a real browser: nothing."""

from __future__ import annotations

import json

from conftest import TOY_IMAGES, Server
from playwright.sync_api import Page, expect

from browser.site import Site
from browser.watch import Watch

_PAGE = """<!doctype html><meta charset="utf-8"><title>A foreign page</title><link rel="icon" href="data:,">
<a id="link" href="{server}/">photos</a><script>
const server = {server!r};
async function attempt(path, options) {{
  try {{
    const answer = await fetch(server + path, options);
    return answer.type === "opaque" ? (await answer.text()).length : await answer.text();
  }} catch {{ return null; }}
}}
function embedded(tag, path) {{
  return new Promise((resolve) => {{
    const element = document.createElement(tag);
    element.onload = () => resolve(tag === "img" ? element.naturalWidth : "loaded");
    element.onerror = () => resolve(null);
    element.src = server + path;
    document.body.append(element);
  }});
}}
async function steal(photo) {{
  return {{
    listed: await attempt("/v1/documents"),
    fetched: await attempt(photo),
    "with credentials": await attempt(photo, {{credentials: "include"}}),
    opaque: await attempt(photo, {{mode: "no-cors"}}),
    searched: await attempt("/search", {{method: "POST", body: '{{"data": ["a cat"], "top_k": 3}}'}}),
    preflighted: await attempt("/v1/search", {{
      method: "POST", headers: {{"Content-Type": "application/json"}}, body: '{{"text": "a cat"}}' }}),
    deleted: await attempt("/v1/documents/1", {{method: "DELETE"}}),
    picture: await embedded("img", photo),
    script: await embedded("script", "/page/main.js"),
  }};
}}
</script>"""

REFUSED = "^console: (Failed to load resource|Access to fetch|Cross-Origin)"

# The browser's own way to show a photo alone has styles, which the photo's policy keeps out like any other.
STYLED = "^console: Applying inline style violates .*/content"


def test_a_foreign_page_lists_and_fetches_nothing(
    page: Page, site: Site, watch: Watch, toy_server: Server
) -> None:
    watch.expect(REFUSED)
    watch.expect(STYLED)
    document = toy_server.request("/v1/documents")[1]["documents"][0]
    path = document["photo"]["content"]
    address = site.add("/steal.html", "text/html", _PAGE.format(server=toy_server.url).encode())
    page.goto(address)
    got = page.evaluate("photo => steal(photo)", path)
    assert got == dict.fromkeys(got), got
    assert len(got) == 9
    # The photo is there, and the server's own page shows it.
    page.goto(toy_server.url + path)
    assert page.evaluate("() => document.images[0].naturalWidth") > 0
    said = toy_server.output()
    assert said.count(f"--allow-origin {site.url}") == 1


def test_a_link_on_a_foreign_page_opens_the_page(page: Page, site: Site, toy_server: Server) -> None:
    page.goto(site.add("/link.html", "text/html", _PAGE.format(server=toy_server.url).encode()))
    page.locator("#link").click()
    expect(page.locator("#search-box")).to_be_visible()


def test_no_foreign_page_frames_it(page: Page, site: Site, watch: Watch, toy_server: Server) -> None:
    watch.expect("^console: ")
    content = f'<!doctype html><link rel="icon" href="data:,"><iframe src="{toy_server.url}/"></iframe>'
    page.goto(site.add("/frame.html", "text/html", content.encode()))
    frame = page.frames[-1]
    assert "search-box" not in frame.content()


def test_a_foreign_name_of_this_machine_shows_nothing(page: Page, watch: Watch, toy_server: Server) -> None:
    """DNS rebinding, with a name that the test's browser resolves to this machine."""
    watch.expect("^console: Failed to load resource")
    watch.expect("^request: http://rebound.example")
    port = toy_server.url.rpartition(":")[2]
    page.context.route(
        "http://rebound.example/**",
        lambda route: route.fulfill(
            response=page.context.request.fetch(
                route.request.url.replace("rebound.example", f"127.0.0.1:{port}"),
                headers={**route.request.headers, "Host": f"rebound.example:{port}"},
            )
        ),
    )
    page.goto("http://rebound.example/v1/documents")
    assert "is none of its names" in page.content()
    assert (TOY_IMAGES / "cat.jpg").name not in json.dumps(page.content())
