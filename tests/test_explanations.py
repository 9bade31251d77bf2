"""What a match was found by adds up to its numbers, and the words that it shows are those that FTS5 found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Server, run_here
from hypothesis import given
from hypothesis import strategies as st

from crossmodal import PhotoIndex
from crossmodal.client import Client
from crossmodal.engine.query_options import terms_of
from crossmodal.index.embedded.matched_words import found_spans, found_words, word_places
from crossmodal.index.embedded.tokens import words_of_text
from crossmodal.match import Explanation, Match
from crossmodal.query.expression import Term

SENTENCES = ("a cat", "people climb the stairs", "a red rocket", "coffee", "green leaves")


@pytest.fixture(scope="module")
def toy(toy_workspace: Path) -> Iterator[PhotoIndex]:
    with PhotoIndex(toy_workspace) as index:
        yield index


def why(match: Match) -> Explanation:
    assert match.explanation is not None
    return match.explanation


weights = st.floats(0.1, 10) | st.floats(-10, -0.1)


@given(st.lists(weights, min_size=1, max_size=5), st.sampled_from(["image", "text", "both"]), st.data())
def test_what_terms_gave_adds_up_to_the_cosine(
    toy: PhotoIndex, weighed: list[float], modality: str, data: st.DataObject
) -> None:
    texts = data.draw(st.permutations(SENTENCES))
    terms = [
        Term(weight=weight, text=text)
        for weight, text in zip([abs(weighed[0]), *weighed[1:]], texts, strict=False)
    ]
    photo = next(iter(toy))
    terms.append(Term(weight=0.5, id=photo.id))
    for match in toy.search(tuple(terms), 56, modality=modality, explain=True):
        shares = why(match).terms
        assert len(shares) == len(terms)
        # The composed vector is rounded to float32.
        assert sum(share.gave for share in shares) == pytest.approx(match.cosine, abs=1e-6)
        for share, term in zip(shares, terms, strict=True):
            assert share.gave == share.cosine * share.factor
            assert (share.factor > 0) == (term.weight > 0)


def test_terms_of_one_kind_count_by_their_weights_and_have_their_own_cosines(toy: PhotoIndex) -> None:
    composed = toy.search("a cat - 0.5*snow", 15, explain=True)
    alone = {match.id: match.cosine for match in toy.search("a cat", 15)}
    for match in composed:
        cat, snow = why(match).terms
        assert cat.cosine == alone[match.id]
        assert snow.factor / cat.factor == pytest.approx(-0.5)


def test_one_sentence_gave_the_cosine_and_hubness_what_was_taken_off(toy: PhotoIndex) -> None:
    for match in toy.search("a cat", 15, explain=True):
        (share,) = why(match).terms
        assert (share.cosine, share.factor, share.gave) == (match.cosine, 1.0, match.cosine)
        hubness = why(match).hubness
        assert hubness is not None
        assert match.cosine - hubness == pytest.approx(match.corrected, abs=1e-15)
    photo = next(iter(toy))
    assert all(why(match).hubness is None for match in toy.similar(photo.id, 5, explain=True))


def test_a_search_says_nothing_unasked(toy: PhotoIndex) -> None:
    assert all(match.explanation is None for match in toy.search("a cat", 15, hybrid=True))


def test_what_rankings_gave_adds_up_to_what_was_fused(toy: PhotoIndex) -> None:
    for match in toy.search("a cat looks into the camera", 15, hybrid=True, explain=True):
        fused = why(match).fused
        assert fused is not None
        assert match.parts is not None
        given_ranks = fused.vector, fused.words, fused.text
        assert sum(share for share in given_ranks if share is not None) == match.parts.fused
        assert (fused.words is None) == (match.parts.word_rank is None)
        # What has a place among the words has words, and nothing else has.
        assert bool(why(match).words) == (match.parts.word_rank is not None)


def test_words_are_shown_where_they_stand_and_by_their_stems(toy: PhotoIndex) -> None:
    best = toy.search("CATS and whisker", 1, hybrid=True, explain=True)[0]
    shown = {words.id: words for words in why(best).words}
    for caption in best.captions:
        spans = shown[caption.id].spans
        assert [caption.text[start:end] for start, end in spans] == list(shown[caption.id].words)
    assert {word for words in shown.values() for word in words.words} == {"cat", "whiskers"}
    assert [words.words for words in why(best).words if words.field == "file"] == [("cat",)]
    (caption,) = toy.search("whisker", 1, modality="text", hybrid=True, explain=True)
    assert caption.text is not None
    (found,) = why(caption).words
    assert (found.id, found.words) == (caption.id, ("whiskers",))


# A mark on its letter, what shows nothing, and scripts without spaces among them.
PIECES = (*"aB, ßŁ1-_猫睡がกあ'ñ.", "e\u0301", "s\u00ade", "\u3042\u3099", "the")


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_places_are_those_of_the_words_that_are_indexed(pieces: list[str]) -> None:
    text = "".join(pieces)
    places = list(word_places(text))
    assert {word for word, _, _ in places} == set(words_of_text(text))
    assert all(0 <= start < end <= len(text) for _, start, end in places)


@given(st.text(max_size=60))
def test_any_text_has_places_inside_of_it(text: str) -> None:
    spans = found_spans(text, {word for word, _, _ in word_places(text)})
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_neighbouring_characters_of_a_script_without_spaces_are_one_place() -> None:
    found = found_words("睡觉了", set(words_of_text("猫在睡觉了。")))
    assert found == {"睡觉", "觉了"}
    assert found_spans("猫在睡觉了。", found) == [(2, 5)]


def test_half_width_letters_that_are_two_characters_are_one_place() -> None:
    text = "ﾊﾟﾝﾀﾞ eats"
    found = found_words("パンダ", set(words_of_text(text)))
    assert found_spans(text, found) == [(0, 5)]


def test_a_server_and_its_client_say_the_same(toy: PhotoIndex, toy_server: Server) -> None:
    (here,) = toy.search("a cat - 0.5*snow", 1, hybrid=True, explain=True)
    with Client(toy_server.url) as client:
        (there,) = client.search(expression="a cat - 0.5*snow", top_k=1, hybrid=True, explain=True).matches
        (silent,) = client.search("a cat", top_k=1).matches
    assert there.explanation == here.explanation
    assert silent.explanation is None
    status, answer = toy_server.request("/v1/search", {"text": "a cat", "explain": "yes"})
    assert (status, answer["errors"][0]["pointer"]) == (422, "/explain")


def test_the_command_line_names_the_terms(toy_workspace: Path) -> None:
    asked = ("search", "a cat - 0.5*snow", "-k", "1", "--workspace", toy_workspace, "--explain")
    table = run_here(*asked, "--hybrid").stdout
    shown = json.loads(run_here(*asked, "--hybrid", "--print", "json").stdout)[0]["matches"][0]
    gave = [f"{share['gave']:+.3f}" for share in shown["explanation"]["terms"]]
    for line in (f"{gave[0]} a cat", f"{gave[1]} snow", " hubness", "0.0164 by words", "words: cat"):
        assert line in table
    assert "found by" not in run_here(*asked[:-1]).stdout
    assert len(terms_of("a cat - 0.5*snow")) == len(gave)
