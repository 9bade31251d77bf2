"""Methods, what browsers and proxies keep, and what Prometheus reads."""

from __future__ import annotations

import httpx2
import pytest
from conftest import Server


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/search", "POST"),
        ("/v1/documents", "DELETE, GET, HEAD, POST"),
        ("/v1/documents/nobody", "DELETE, GET, HEAD, PATCH"),
        ("/v1/status", "GET, HEAD"),
        ("/update", "POST, PUT"),
        ("/delete", "DELETE, POST"),
        ("/", "GET, HEAD"),
    ],
)
def test_another_method_is_told_those_that_are_served(toy_server: Server, path: str, allowed: str) -> None:
    answer = httpx2.request("PURGE", toy_server.url + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/readyz", "/metrics", "/status", "/v1/status", "/v1/documents", "/v1/openapi.json"],
)
def test_head_is_get_without_the_body(toy_server: Server, path: str) -> None:
    asked = httpx2.head(toy_server.url + path)
    got = httpx2.get(toy_server.url + path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert got.content
    assert asked.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/page/index.html"])
def test_the_page_is_not_sent_again(toy_server: Server, path: str) -> None:
    tag = httpx2.get(toy_server.url + path).headers["etag"]
    for held in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = httpx2.get(toy_server.url + path, headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    changed = httpx2.get(toy_server.url + path, headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


def test_metrics_count_what_was_asked(toy_server: Server) -> None:
    before = metrics(toy_server)
    for _ in range(3):
        body = {"queries": [{"text": "a boat"}, {"text": "a cat"}], "top_k": 1}
        assert httpx2.post(f"{toy_server.url}/v1/search", json=body).status_code == 200
    assert httpx2.post(f"{toy_server.url}/v1/search", json={"txt": ""}).status_code == 422
    assert httpx2.get(f"{toy_server.url}/v1/documents/nobody").status_code == 404
    after = metrics(toy_server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("crossmodal_queries_total") == 6
    assert grown("crossmodal_search_seconds_count") == 3
    assert grown('crossmodal_search_seconds_bucket{le="+Inf"}') == 3
    assert grown('crossmodal_stage_seconds_count{stage="encode"}') == 3
    assert grown('crossmodal_requests_total{route="/v1/search",status="200"}') == 3
    assert grown('crossmodal_requests_total{route="/v1/search",status="422"}') == 1
    assert grown('crossmodal_requests_total{route="/v1/documents/{id:path}",status="404"}') == 1
    assert after['crossmodal_documents{modality="image"}'] == 15
    assert not any("nobody" in name for name in after), "ids would make one line each"


def metrics(server: Server) -> dict[str, float]:
    """The values that Prometheus would read, by name and labels."""
    answer = httpx2.get(f"{server.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
