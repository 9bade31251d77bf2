"""The status view: the numbers of /v1/status, how long queries took, and the two Flows drawn."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from conftest import Server
from playwright.sync_api import Page, Response, Route, expect

from browser.page_driver import SearchPage


@pytest.fixture
def status_view(page: Page, toy_server: Server) -> SearchPage:
    """The view after at least one search."""
    assert toy_server.request("/v1/search", {"text": "a rocket"})[0] == 200
    searching = SearchPage(page, toy_server).open(view="status")
    expect(searching.find("status-figures")).to_be_visible()
    return searching


def test_its_numbers_are_those_of_the_api(status_view: SearchPage) -> None:
    _, status = status_view.server.request("/v1/status")
    image, text = status["modalities"]["image"], status["modalities"]["text"]
    assert (image["documents"], text["documents"]) == (15, 41)
    expect(status_view.find("status-photos").locator(".figure-value")).to_have_text("15")
    expect(status_view.find("status-photos")).to_contain_text("15 vectors")
    expect(status_view.find("status-captions").locator(".figure-value")).to_have_text("41")
    expect(status_view.find("status-captions")).to_contain_text("41 vectors")
    median = status["traffic"]["p50_ms"]
    shown = f"{median:.1f} ms" if median < 10 else re.compile(rf"^{int(median)} ms|{int(median) + 1} ms$")
    expect(status_view.find("status-latency").locator(".figure-value")).to_have_text(shown)
    view = status_view.page.locator("#status-live")
    expect(view).to_contain_text(f"{status['model']['name']}, {status['model']['dimension']} dimensions")
    expect(view).to_contain_text(status["model"]["weights"])
    for name in ("Photo search", "Caption search"):
        expect(view).to_contain_text(f"{name}exact: every vector is compared")
    expect(view).to_contain_text(f"{status['shards']}, layout {status['layout']}")
    expect(status_view.page.locator("#status-line")).to_contain_text(f"Version {status['version']}")


def test_an_index_searched_by_codes_tells_how_many_of_the_best_are_found(
    page: Page, toy_server: Server
) -> None:
    codes = {"tier": "scan", "recall": 0.9934, "recall_measured": "recall@10 over 64 recent queries"}
    training = {"what": "training scan", "done": 0.25}
    untested = {"tier": "exact", "recall": None, "recall_measured": "not measured yet"}

    def change(route: Route) -> None:
        status = route.fetch().json()
        status["index"]["modalities"] = {
            "image": {**codes, "building": None},
            "text": {**untested, "building": training},
        }
        route.fulfill(json=status)

    page.route("**/v1/status", change)
    SearchPage(page, toy_server).open(view="status")
    view = page.locator("#status-live")
    expect(view).to_contain_text(
        "Photo searchscan: 99.3% of the best are found (recall@10 over 64 recent queries)"
    )
    expect(view).to_contain_text("Caption searchexact: not measured yet; training scan, 25.0% done")


def test_queries_a_second_follow_the_traffic(page: Page, toy_server: Server) -> None:
    answers: list[str] = []

    def note(response: Response) -> None:
        if response.url.endswith("/v1/status"):
            answers.append(f"{response.json()['traffic']['queries_per_second']:.2f}")

    page.on("response", note)
    assert toy_server.request("/v1/search", {"text": "a rocket"})[0] == 200
    searching = SearchPage(page, toy_server).open(view="status")
    value = searching.find("status-qps").locator(".figure-value")
    expect(value).to_be_visible()
    assert value.inner_text() in answers
    assert float(value.inner_text()) > 0
    # The view asks again by itself while it is open.
    with page.expect_response("**/v1/status"):
        pass


def test_the_histogram_is_drawn_from_the_buckets(status_view: SearchPage) -> None:
    _, status = status_view.server.request("/v1/status")
    buckets = status["traffic"]["latency"]
    histogram = status_view.find("latency-histogram")
    expect(histogram.locator("rect.bar")).to_have_count(len(buckets))
    counts = [bucket["count"] for bucket in buckets]
    assert sum(counts) > 0
    expect(histogram.locator("text.bar-count")).to_have_text([str(count) for count in counts if count])
    heights = histogram.locator("rect.bar").evaluate_all(
        "bars => bars.map(b => Number(b.getAttribute('height')))"
    )
    # The tallest is the most frequent, empty ones have no height.
    assert [height == 0 for height in heights] == [count == 0 for count in counts]
    assert heights.index(max(heights)) == counts.index(max(counts))
    expect(histogram).to_have_attribute("aria-label", re.compile(rf"^Queries by time\. .*: {counts[-1]}$"))


def test_both_flows_are_drawn(status_view: SearchPage) -> None:
    for name in ("query", "index"):
        _, flow = status_view.server.request(f"/v1/flows/{name}")
        diagram = status_view.find(f"flow-{name}").get_by_role(
            "img", name=f"Diagram of the steps of the {name} Flow"
        )
        expect(diagram).to_be_visible()
        steps = diagram.locator("[data-step]")
        names = [step["name"] for step in flow["steps"]]
        expect(steps.locator("text:first-of-type")).to_have_text(["gateway", *names])
        # Playwright's boxes are those of the rectangles: no step lies over another.
        boxes = [box for step in steps.all() if (box := step.bounding_box())]
        assert not any(
            one["x"] < other["x"] + other["width"]
            and other["x"] < one["x"] + one["width"]
            and one["y"] < other["y"] + other["height"]
            and other["y"] < one["y"] + one["height"]
            for one, other in combinations(boxes, 2)
        )
        arrows = diagram.locator("[data-from]").evaluate_all("arrows => arrows.map(a => a.dataset)")
        assert [(arrow["from"], arrow["to"]) for arrow in arrows] == [
            (need, step["name"]) for step in flow["steps"] for need in step["needs"]
        ]
        filters = [step["filter"] for step in flow["steps"] if step["filter"]]
        assert diagram.locator("[data-from] text").all_text_contents() == filters


def test_the_models_are_listed(status_view: SearchPage) -> None:
    _, answer = status_view.server.request("/v1/models")
    rows = status_view.find("models-table").locator("tbody tr")
    expect(rows).to_have_count(len(answer["models"]))
    serving = status_view.find("models-table").locator("tr.serving")
    expect(serving).to_have_count(1)
    expect(serving).to_contain_text(answer["serving"])


def test_it_is_a_step_of_the_history(status_view: SearchPage) -> None:
    status_view.page.get_by_role("link", name="Photos", exact=True).click()
    expect(status_view.page.locator("#status-view")).to_be_hidden()
    status_view.page.go_back()
    expect(status_view.page.locator("#status-view")).to_be_visible()
    expect(status_view.page.get_by_role("link", name="Status")).to_have_attribute("aria-current", "page")
