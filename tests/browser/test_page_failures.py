"""What the page shows while it waits, and when something is missing, refused, offline or gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Server, run_app, server_over_copy, start_server
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from browser.page_driver import SearchPage, eventually, toy_file, write_files
from browser.watch import Watch

SENTENCE = "a cup of coffee"
LOST = r"^console: Failed to load resource: net::"


@pytest.fixture
def searching(page: Page, toy_server: Server) -> SearchPage:
    return SearchPage(page, toy_server)


def test_without_the_server_the_page_shows_what_it_had(
    browser: Browser, toy_workspace: Path, tmp_path: Path
) -> None:
    with server_over_copy(toy_workspace, tmp_path) as server:
        context = browser.new_context(service_workers="allow")
        searching = SearchPage(context.new_page(), server).open()
        active = "() => navigator.serviceWorker.getRegistration().then(each => Boolean(each?.active))"
        eventually(lambda: searching.page.evaluate(active), True)
        # Now it is asked through the worker.
        searching.open()
        expect(searching.find("gallery")).to_be_visible()
        searching.expect_drawn("[data-testid=gallery] img")
        ids = searching.shown()
        expect(searching.page.locator("#connection")).to_be_hidden()
        kept = "async () => (await (await caches.open('crossmodal')).keys()).map(each => each.url)"
        eventually(lambda: any("/v1/documents?" in url for url in searching.page.evaluate(kept)), True)
    searching.open()
    expect(searching.page.locator("#connection")).to_contain_text("does not answer")
    expect(searching.find("gallery")).to_be_visible()
    assert searching.shown() == ids
    searching.expect_drawn("[data-testid=gallery] img")
    searching.box.fill(SENTENCE)
    searching.box.press("Enter")
    expect(searching.find("error")).to_contain_text("cannot be reached")
    context.close()


def test_grey_shapes_hold_the_place_while_it_searches(searching: SearchPage) -> None:
    held: list[Route] = []
    searching.page.route("**/v1/search", lambda route: held.append(route))
    searching.open(text=SENTENCE)
    expect(searching.find("loading").locator(".skeleton")).to_have_count(24)
    expect(searching.page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(searching.find("result-count")).to_have_text("Searching…")
    assert searching.ids() == []
    held[0].continue_()
    searching.settled()
    expect(searching.find("loading")).to_have_count(0)
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_a_search_that_was_overtaken_is_given_up(searching: SearchPage) -> None:
    searching.open()
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    searching.page.route("**/v1/search", hold_the_first)
    searching.box.fill("a rocket")
    with searching.page.expect_request("**/v1/search"):
        searching.box.press("Enter")
    searching.search(SENTENCE)
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))
    assert held[0].request.failure == "net::ERR_ABORTED"
    assert held[-1].request.failure is None


def test_what_the_server_refuses_is_told_in_its_own_words(searching: SearchPage, watch: Watch) -> None:
    watch.expect("status of 422")
    filter_ = {"place": {"$near": 3}}
    searching.open(text=SENTENCE, filter=json.dumps(filter_))
    status, problem = searching.server.request("/v1/search", {"text": SENTENCE, "filter": filter_})
    assert status == 422
    card = searching.find("error")
    expect(card.locator("h2")).to_have_text(problem["title"])
    expect(card).to_contain_text(problem["detail"])
    expect(card).to_have_attribute("role", "alert")
    sent = len(searching.sent)
    searching.find("retry").click()
    expect(card).to_be_visible()
    assert len(searching.sent) == sent + 1
    # The way out stands above it.
    searching.find("active-filter").click()
    searching.settled()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_a_term_that_is_gone_is_told(searching: SearchPage, watch: Watch) -> None:
    watch.expect("status of 404")
    searching.open(text=SENTENCE, id="gone")
    status, problem = searching.server.request("/v1/search", {"terms": [{"text": SENTENCE}, {"id": "gone"}]})
    assert status == 404
    expect(searching.find("error")).to_contain_text(problem["detail"])
    searching.find("term-remove").nth(1).click()
    searching.settled()


def test_a_busy_server_is_asked_again_when_it_said(searching: SearchPage, watch: Watch) -> None:
    watch.expect("status of 503")
    answers = [503]

    def answer(route: Route) -> None:
        if answers:
            route.fulfill(
                status=answers.pop(),
                headers={"Retry-After": "1"},
                content_type="application/problem+json",
                body='{"title": "The Flow does not answer", "status": 503, "detail": "Later."}',
            )
        else:
            route.continue_()

    searching.page.route("**/v1/search", answer)
    searching.open(text=SENTENCE)
    expect(searching.find("result-count")).to_have_text("The server is busy. Trying again in 1 s.")
    searching.settled()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_offline_is_said_and_ends_by_itself(
    searching: SearchPage, context: BrowserContext, watch: Watch
) -> None:
    watch.expect(LOST)
    searching.open().search("a rocket")
    context.set_offline(True)
    banner = searching.page.locator("#connection")
    expect(banner).to_contain_text("You are offline")
    searching.box.fill(SENTENCE)
    searching.box.press("Enter")
    expect(searching.find("error")).to_contain_text("This device is offline.")
    expect(searching.find("error")).to_contain_text("cannot be reached")
    context.set_offline(False)
    searching.settled()
    expect(banner).to_be_hidden()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_retry_once_the_connection_is_back(
    searching: SearchPage, context: BrowserContext, watch: Watch
) -> None:
    watch.expect(r"^console: Failed to load resource: net::ERR_FAILED")
    searching.open()
    searching.page.route("**/v1/search", lambda route: route.abort())
    searching.box.fill(SENTENCE)
    searching.box.press("Enter")
    expect(searching.find("error")).to_contain_text("does not answer")
    searching.page.unroute("**/v1/search")
    searching.find("retry").click()
    searching.settled()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_from_an_empty_index_to_the_first_photo_and_through_a_restart(
    page: Page, watch: Watch, tmp_path: Path
) -> None:
    watch.expect(LOST)
    write_files(tmp_path / "photos", toy_file("coffee.jpg"))
    workspace = tmp_path / "workspace"
    done = run_app("-t", "index", "-d", tmp_path / "photos", "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    server = start_server("query_restful", "--workspace", workspace)
    searching = SearchPage(page, server).open()

    # The only photo is deleted; that is taken back, and done again.
    def left() -> int:
        number: int = server.request("/v1/status")[1]["modalities"]["image"]["documents"]
        return number

    empty = searching.find("nothing-indexed")
    photo = searching.page.locator("[data-testid=gallery] [data-testid=open-result]")
    photo.click()
    searching.find("lightbox-delete").click()
    expect(searching.page.locator("#lightbox")).to_be_hidden()
    expect(empty).to_contain_text("Nothing is indexed yet")
    searching.find("undo").click()
    photo.click()
    searching.find("lightbox-delete").click()
    expect(searching.find("toast")).to_contain_text("1 photo deleted")
    expect(empty).to_be_visible()
    assert left() == 1
    eventually(left, 0)

    # A search of nothing says so, and so does the way on.
    searching.search(SENTENCE)
    expect(searching.find("nothing-found")).to_be_visible()
    searching.page.go_back()
    empty.get_by_role("link", name="Add photos").click()
    searching.find("choose-photos-input").set_input_files(toy_file("cat.jpg").for_chooser())
    expect(searching.find("upload-words")).to_have_text("Finished.", timeout=60_000)
    searching.find("upload-see").click()
    expect(searching.page.locator("[data-testid=gallery] [data-testid=result]")).to_have_count(1)
    searching.search("a cat")
    assert len(searching.ids()) == 1

    # The server ends, and comes back on the same port.
    server.stop()
    searching.box.fill(SENTENCE)
    searching.box.press("Enter")
    expect(searching.find("error")).to_contain_text("The server cannot be reached")
    expect(searching.page.locator("#connection")).to_contain_text("does not answer")
    again = start_server("query_restful", "--workspace", workspace, "--writing", "off", port=_port(server))
    # The page may have noticed by itself by now: then it offers only to search again, or has done it.
    offered = "#connection:not([hidden]) [data-testid=connection-retry], [data-testid=retry]"
    searching.page.evaluate("offered => document.querySelector(offered)?.click()", offered)
    searching.settled()
    expect(searching.page.locator("#connection")).to_be_hidden()
    assert len(searching.ids()) == 1

    # It was started without writing, and says why nothing can be added or deleted.
    reason = again.request("/v1/status")[1]["writing"]["reason"]
    searching.page.get_by_role("link", name="Add photos").click()
    expect(searching.find("writing-off")).to_contain_text(reason)
    expect(searching.find("choose-photos")).to_have_count(0)
    searching.open().search("a cat")
    searching.find("open-result").first.click()
    expect(searching.find("lightbox-more")).to_be_visible()
    expect(searching.find("lightbox-delete")).to_have_count(0)
    again.stop()


def _port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])
