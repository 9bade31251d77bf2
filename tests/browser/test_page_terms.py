"""Refining a search on the page: more and less like a result, words to add or take away, weights."""

from __future__ import annotations

import pytest
from conftest import Server
from playwright.sync_api import Page, expect

from browser.accessibility import assert_accessible
from browser.page_driver import SearchPage, eventually, photo_ids

SENTENCE = "an animal in the green"


@pytest.fixture
def found(page: Page, toy_server: Server) -> SearchPage:
    """The results of a sentence."""
    return SearchPage(page, toy_server).open().search(SENTENCE)


def test_more_like_this_adds_the_photo(found: SearchPage) -> None:
    before = found.ids()
    raccoon = photo_ids(found.server)["raccoon.jpg"]
    found.result(raccoon).get_by_test_id("more-like-this").click()
    wanted = found.asked_ids(terms=[{"text": SENTENCE}, {"id": raccoon}], modality="image", top_k=24)
    found.expect_ids(wanted)
    assert wanted != before
    assert found.terms() == [("text", SENTENCE, 1), ("id", raccoon, 1)]
    assert found.parameters() == [("text", SENTENCE), ("id", raccoon)]


def test_less_like_this_takes_the_photo_away(found: SearchPage) -> None:
    cat = photo_ids(found.server)["cat.jpg"]
    before = found.ids()
    found.result(cat).get_by_test_id("less-like-this").click()
    wanted = found.asked_ids(
        terms=[{"text": SENTENCE}, {"id": cat, "weight": -0.5}], modality="image", top_k=24
    )
    found.expect_ids(wanted)
    assert wanted != before
    assert found.terms() == [("text", SENTENCE, 1), ("id", cat, -0.5)]


def test_more_like_a_caption(found: SearchPage) -> None:
    found.show("captions")
    caption = found.ids("text")[0]
    found.result(caption).get_by_test_id("more-like-this").click()
    expect(found.find("term")).to_have_count(2)
    found.show("photos")
    found.expect_ids(found.asked_ids(terms=[{"text": SENTENCE}, {"id": caption}], modality="image", top_k=24))
    text = found.asked({"text": SENTENCE, "modality": "text"})["matches"][0]["text"]
    expect(found.find("term").nth(1)).to_contain_text(text)


def test_words_are_added_and_taken_away(found: SearchPage) -> None:
    found.find("refine-box").fill("a cat")
    found.find("refine-less").click()
    less = [{"text": SENTENCE}, {"text": "a cat", "weight": -0.5}]
    found.expect_ids(found.asked_ids(terms=less, modality="image", top_k=24))
    found.find("refine-box").fill("leaves")
    found.find("refine-box").press("Enter")
    found.expect_ids(found.asked_ids(terms=[*less, {"text": "leaves"}], modality="image", top_k=24))
    assert found.terms() == [("text", SENTENCE, 1), ("text", "a cat", -0.5), ("text", "leaves", 1)]


def test_weights_signs_and_removal(found: SearchPage) -> None:
    found.find("refine-box").fill("a dandelion in the sun")
    found.find("refine-more").click()
    found.settled()
    plain = found.ids()
    found.find("term-weight").nth(1).fill("2.5")
    heavier = [{"text": SENTENCE}, {"text": "a dandelion in the sun", "weight": 2.5}]
    found.expect_ids(found.asked_ids(terms=heavier, modality="image", top_k=24))
    assert found.ids() != plain
    expect(found.find("term").nth(1).locator("output")).to_contain_text("2.5")
    assert found.parameters() == [("text", SENTENCE), ("text", "a dandelion in the sun~2.5")]

    sign = found.find("term-sign").nth(1)
    sign.click()
    taken = [{"text": SENTENCE}, {"text": "a dandelion in the sun", "weight": -0.5}]
    found.expect_ids(found.asked_ids(terms=taken, modality="image", top_k=24))
    expect(found.find("term-sign").nth(1)).to_have_attribute("aria-pressed", "true")
    # Whoever pressed it with the keyboard is still there.
    expect(found.find("term-sign").nth(1)).to_be_focused()

    found.find("term-remove").nth(1).click()
    found.expect_ids(found.asked_ids(text=SENTENCE, modality="image", top_k=24))


def test_the_dandelion_goes_when_it_is_taken_away(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open().search("an animal")
    dandelion = photo_ids(toy_server)["dandelion.jpg"]
    before = searching.ids().index(dandelion)
    searching.find("refine-box").fill("a dandelion in the sun")
    searching.find("refine-less").click()
    expect(searching.find("term")).to_have_count(2)
    searching.settled()
    assert searching.ids().index(dandelion) > before


def test_terms_need_something_wanted(found: SearchPage) -> None:
    found.find("refine-box").fill("a cat")
    found.find("refine-less").click()
    expect(found.find("term")).to_have_count(2)
    found.find("term-remove").first.click()
    expect(found.find("error")).to_contain_text("Nothing is wanted yet")
    assert [body for body in found.sent if body.get("terms") and len(body["terms"]) == 1] == []


def test_at_most_sixteen_terms(page: Page, toy_server: Server) -> None:
    words = [f"word {number}" for number in range(16)]
    searching = SearchPage(page, toy_server).open(text=words).settled()
    sent = len(searching.sent)
    searching.find("refine-box").fill("one more")
    searching.find("refine-more").click()
    expect(searching.find("toast")).to_contain_text("at most 16 terms")
    assert len(searching.terms()) == 16
    assert len(searching.sent) == sent


@pytest.mark.parametrize(
    "expression",
    [
        "dog - snow",
        "a dog + 0.5*grass - 0.4 * snow",
        '"5 - 3" + t-shirt',
        'id:{cat} - "a sofa" + 2*id:"{raccoon}"',
        r'"a \"quoted\" word" + dog',
    ],
)
def test_an_expression_becomes_the_terms_that_the_api_reads(
    page: Page, toy_server: Server, expression: str
) -> None:
    names = photo_ids(toy_server)
    written = expression.format(cat=names["cat.jpg"], raccoon=names["raccoon.jpg"])
    read = SearchPage(page, toy_server).asked({"expression": written})["query"]["terms"]
    searching = SearchPage(page, toy_server).open().search(written)
    wanted = [
        ("id", term["id"], term["weight"]) if "id" in term else ("text", term["text"], term["weight"])
        for term in read
    ]
    assert searching.terms() == wanted
    same = [{key: term[key] for key in ("id", "text", "weight") if key in term} for term in read]
    searching.expect_ids(searching.asked_ids(terms=same, modality="image", top_k=24))


def test_a_sentence_with_hyphens_stays_a_sentence(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open().search("a black-and-white photo -5 degrees")
    assert searching.parameters() == [("text", "a black-and-white photo -5 degrees")]


def test_suggestions_come_while_somebody_types(page: Page, toy_server: Server) -> None:
    searching = SearchPage(page, toy_server).open().search("anemones in the sea")
    searching.open()
    searching.box.press_sequentially("an")
    expect(searching.box).to_have_attribute("aria-expanded", "true")
    suggested = searching.find("suggest")
    expect(suggested.first).to_have_text("anemones in the searecent")
    animal = suggested.filter(has_text="animal").first
    expect(animal).to_be_visible()
    position = suggested.all_inner_texts().index(animal.inner_text())
    for _ in range(position + 1):
        page.keyboard.press("ArrowDown")
    expect(animal).to_have_attribute("aria-selected", "true")
    assert_accessible(page)
    page.keyboard.press("Enter")
    expect(searching.find("active-filter")).to_have_text("subject: animal")
    names = photo_ids(toy_server)
    eventually(lambda: set(searching.shown()), {names["cat.jpg"], names["raccoon.jpg"]})
    expect(searching.box).to_have_value("")
    # Escape closes them, and leaves what was typed.
    searching.box.press_sequentially("an")
    expect(suggested.first).to_be_visible()
    page.keyboard.press("Escape")
    expect(suggested.first).to_be_hidden()
    expect(searching.box).to_have_value("an")
