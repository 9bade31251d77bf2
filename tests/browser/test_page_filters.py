"""Filters and options on the page: made of the tags that exist, meaning what they mean in the API."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from conftest import Server
from playwright.sync_api import Locator, Page, expect

from browser.page_driver import SearchPage, eventually, photo_ids

SENTENCE = "an animal"


@pytest.fixture
def found(page: Page, toy_server: Server) -> SearchPage:
    """The results of a sentence with the filters open."""
    searching = SearchPage(page, toy_server).open().search(SENTENCE)
    searching.find("filters-button").click()
    expect(searching.find("filter-field").first).to_be_visible()
    return searching


def box_of(searching: SearchPage, field: str, value: str) -> Locator:
    """The checkbox of a tag's value."""
    return searching.page.locator(f"[data-testid=filter-value][data-field='{field}'][data-value='{value}']")


def test_the_panel_lists_the_tags_that_exist_with_their_counts(found: SearchPage) -> None:
    status, tags = found.server.request("/v1/tags")
    assert status == 200
    for field in tags["fields"]:
        panel = found.page.locator(f"[data-testid=filter-field][data-field='{field['name']}']")
        expect(panel.locator("summary")).to_have_text(f"{field['name']}{field['count']}")
        if field["type"] in ("number", "date"):
            # A range, and no list of values.
            expect(panel.get_by_test_id("filter-min")).to_have_count(1)
            continue
        panel.evaluate("details => { details.open = true; }")
        shown = panel.locator(".values label").all_inner_texts()
        # The first few, and a button for the others.
        assert shown
        assert [text.split("\n") for text in shown] == [
            [value["value"], str(value["count"])] for value in field["values"][: len(shown)]
        ]


def test_values_narrow_the_results_as_the_api_does(found: SearchPage) -> None:
    box_of(found, "subject", "animal").check()
    animals = {"subject": {"$in": ["animal"]}}
    found.expect_ids(found.asked_ids(text=SENTENCE, filter=animals, modality="image", top_k=24))
    names = photo_ids(found.server)
    assert set(found.ids()) == {names["cat.jpg"], names["raccoon.jpg"]}
    expect(found.find("result-count")).to_contain_text("2 photos")

    box_of(found, "subject", "plant").check()
    either = {"subject": {"$in": ["animal", "plant"]}}
    found.expect_ids(found.asked_ids(text=SENTENCE, filter=either, modality="image", top_k=24))
    assert dict(found.parameters())["filter"] == json.dumps(either, separators=(",", ":"))

    box_of(found, "tones", "black and white").check()
    none = {**either, "tones": {"$in": ["black and white"]}}
    assert found.asked_ids(text=SENTENCE, filter=none, modality="image") == []
    expect(found.find("nothing-found")).to_contain_text("The filters leave little over")
    found.find("nothing-found").get_by_role("button", name="Remove the filters").click()
    found.expect_ids(found.asked_ids(text=SENTENCE, modality="image", top_k=24))
    assert dict(found.parameters()) == {"text": SENTENCE}


def test_what_is_in_force_is_listed_and_taken_back_one_by_one(found: SearchPage) -> None:
    box_of(found, "subject", "person").check()
    box_of(found, "tones", "colour").check()
    eventually(lambda: found.find("active-filter").all_inner_texts(), ["subject: person", "tones: colour"])
    expect(found.find("filters-button")).to_contain_text("2 in force")
    found.find("active-filter").first.click()
    colours = {"tones": {"$in": ["colour"]}}
    found.expect_ids(found.asked_ids(text=SENTENCE, filter=colours, modality="image", top_k=24))
    expect(box_of(found, "subject", "person")).not_to_be_checked()
    expect(box_of(found, "tones", "colour")).to_be_checked()


def test_tags_that_are_not_set(found: SearchPage) -> None:
    found.page.locator("[data-testid=filter-exists][data-field=subject]").select_option("false")
    expect(found.find("nothing-found")).to_be_visible()
    found.page.locator("[data-testid=filter-exists][data-field=subject]").select_option("true")
    found.expect_ids(found.asked_ids(text=SENTENCE, modality="image", top_k=24))
    expect(found.find("active-filter")).to_have_text("has subject")


def test_a_link_with_a_richer_filter_is_followed_and_can_be_removed(page: Page, toy_server: Server) -> None:
    filter_ = {"$or": [{"subject": "plant"}, {"$not": {"tones": "colour"}}]}
    searching = SearchPage(page, toy_server).open(text=SENTENCE, filter=json.dumps(filter_)).settled()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, filter=filter_, modality="image", top_k=24))
    searching.find("active-filter").click()
    searching.expect_ids(searching.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_words_too(found: SearchPage) -> None:
    found.search("tabby cat")
    found.find("hybrid").check()
    hybrid = found.asked({"text": "tabby cat", "hybrid": True, "modality": "image", "top_k": 24})["matches"]
    found.expect_ids([match["id"] for match in hybrid])
    for match in hybrid:
        parts = found.result(match["id"]).get_by_test_id("parts")
        expect(parts).to_contain_text(f"meaning #{match['parts']['vector_rank']}")
        if match["parts"]["word_rank"] is not None:
            expect(parts).to_contain_text(f"words #{match['parts']['word_rank']}")
    assert hybrid[0]["parts"]["word_rank"] == 1
    assert dict(found.parameters())["hybrid"] == "1"


def test_a_minimum_score(found: SearchPage) -> None:
    found.search("a tabby cat with green eyes")
    found.find("min-score").fill("0.3")
    wanted = found.asked_ids(text="a tabby cat with green eyes", min_score=0.3, modality="image", top_k=24)
    assert 0 < len(wanted) < 15
    # A photo whose caption scores as much stands among them.
    eventually(lambda: [id for id in found.ids() if id in wanted], wanted)
    assert len(found.ids()) < 15
    found.find("min-score").fill("1")
    expect(found.find("nothing-found")).to_contain_text("Nothing scored at least 100%")
    found.find("nothing-found").get_by_role("button", name="Drop the minimum score").click()
    found.expect_ids(found.asked_ids(text="a tabby cat with green eyes", modality="image", top_k=24))


def test_results_at_a_time(found: SearchPage) -> None:
    found.find("top-k").select_option("12")
    found.expect_ids(found.asked_ids(text=SENTENCE, modality="image", top_k=12))
    assert len(found.ids()) == 12
    assert dict(found.parameters())["top_k"] == "12"


def test_an_address_with_a_filter_opens_with_its_boxes_checked(page: Page, toy_server: Server) -> None:
    filter_ = quote('{"subject":{"$in":["space"]}}')
    searching = SearchPage(page, toy_server).open(f"/?text=stars&filter={filter_}").settled()
    names = photo_ids(toy_server)
    assert set(searching.ids()) == {names["galaxies.jpg"], names["rocket.jpg"]}
    searching.find("filters-button").click()
    expect(box_of(searching, "subject", "space")).to_be_checked()
