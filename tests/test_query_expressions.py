"""Expressions: what they mean, that they survive being written and read again, and where they go wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from crossmodal import limits
from crossmodal.errors import QueryError
from crossmodal.query.expression import Term, parse_expression

WEIGHTS = st.floats(-10, 10, allow_nan=False).filter(lambda weight: weight != 0)
# Many of the characters that mean something, and any others.
VALUES = st.text(
    st.one_of(st.sampled_from('+-*"\\id: \t5.e'), st.characters(codec="utf-8")), max_size=20
).filter(str.strip)
TERMS = st.one_of(
    st.builds(lambda weight, text: Term(weight=weight, text=text), WEIGHTS, VALUES),
    st.builds(lambda weight, id: Term(weight=weight, id=id), WEIGHTS, VALUES),
)


def parts(expression: str) -> list[tuple[float, str]]:
    return [
        (term.weight, term.text if term.text is not None else f"id:{term.id}")
        for term in parse_expression(expression)
    ]


def written(terms: Iterable[Term]) -> str:
    """The expression of ``terms``, with every weight and with every text and id in quotes."""
    expression = ""
    for term in terms:
        prefix, value = ("", term.text or "") if term.id is None else ("id:", term.id)
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        expression += f' {"-" if term.weight < 0 else "+"} {abs(term.weight)!r}*{prefix}"{quoted}"'
    return expression.strip()


@pytest.mark.parametrize(
    ("expression", "meant"),
    [
        ("a dog on a beach", [(1, "a dog on a beach")]),
        ("dog + 0.5*id:42 - snow", [(1, "dog"), (0.5, "id:42"), (-1, "snow")]),
        ("-snow + dog", [(-1, "snow"), (1, "dog")]),
        ("- .5 * snow\n+  dog ", [(-0.5, "snow"), (1, "dog")]),
        ("t-shirt - rock-n-roll", [(1, "t-shirt"), (-1, "rock-n-roll")]),
        ("C++ + 3rd street", [(1, "C++"), (1, "3rd street")]),
        ('"salt + pepper" - 2e-1*"5 * hotel"', [(1, "salt + pepper"), (-0.2, "5 * hotel")]),
        (r'"a \"dog\" \\ cat"', [(1, 'a "dog" \\ cat')]),
        ('id:"my photo.jpg" - "id:42"', [(1, "id:my photo.jpg"), (-1, "id:42")]),
        ("id:-4 - id:+", [(1, "id:-4"), (-1, "id:+")]),
        ("grid:paper \\ pen", [(1, "grid:paper \\ pen")]),
        ("über - 雪", [(1, "über"), (-1, "雪")]),
    ],
)
def test_an_expression_means_its_terms(expression: str, meant: list[tuple[float, str]]) -> None:
    assert parts(expression) == meant


@pytest.mark.parametrize(
    ("expression", "position", "why"),
    [
        ("dog -snow", 5, "no space follows"),
        ("dog +", 6, "missing after the last sign"),
        ("dog - - snow", 7, "second sign"),
        ("dog - -0.5*snow", 7, "sign of its own"),
        ("dog + 0*snow", 7, "weight is 0"),
        ("dog + 10.5*snow", 7, "at most 10"),
        ("dog - 1e999*snow", 7, "at most 10"),
        ("dog + 2*", 9, "missing after the weight"),
        ("dog * cat", 5, "not a number"),
        ('a "big" dog', 3, "quotation mark stands inside"),
        ('"dog" cat', 6, "closing quotation mark"),
        ('dog - "snow', 7, "never closed"),
        (r'"a\n"', 3, "backslash"),
        ('dog + " "', 7, "empty"),
        ("id: + dog", 1, "id is missing"),
        ("id:42 dog", 6, "more text follows the id"),
        ("dog id:42", 5, "id: stands inside"),
        ("x" * 2001, 1, "2,001 characters"),
    ],
)
def test_a_mistake_is_told_with_its_position(expression: str, position: int, why: str) -> None:
    with pytest.raises(QueryError, match=rf"at character {position}: .*{re.escape(why)}"):
        parse_expression(expression)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("  ", "is empty"),
        ("-dog - 2*snow", "at least one has to say what to look for"),
        (" + ".join(["dog"] * (limits.TERMS.most + 1)), "17 terms; it can have at most 16"),
    ],
)
def test_what_has_no_position_is_told_too(expression: str, why: str) -> None:
    with pytest.raises(QueryError, match=why):
        parse_expression(expression)


def test_as_many_terms_as_are_allowed_can_be_read() -> None:
    assert parts(" - ".join(["dog"] * limits.TERMS.most)) == [(1, "dog")] + [(-1, "dog")] * (
        limits.TERMS.most - 1
    )


@given(st.lists(TERMS, min_size=1, max_size=limits.TERMS.most))
def test_written_terms_are_read_again_as_they_were(terms: list[Term]) -> None:
    if all(term.weight < 0 for term in terms):
        terms[0] = Term(weight=-terms[0].weight, text=terms[0].text, id=terms[0].id)
    assert parse_expression(written(terms)) == tuple(terms)


@given(st.text(st.one_of(st.sampled_from('+-*"\\id: 5.a'), st.characters()), max_size=60))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        terms = parse_expression(text)
    except QueryError:
        return
    assert parse_expression(written(terms)) == terms


@pytest.mark.parametrize("given_parts", [{}, {"text": "dog", "id": "42"}])
def test_a_term_is_one_thing(given_parts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one of text, image, id and vector"):
        Term(**given_parts)


def test_the_expressions_in_the_documentation_can_be_read() -> None:
    page = (REPOSITORY / "docs" / "scores.md").read_text(encoding="utf-8")
    table = page[page.index("| expression | means |") :].split("\n\n")[0]
    rows = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(rows) == 7
    for row in rows:
        assert parts(row), row
    assert parts(rows[2]) == [(-1, "snow"), (1, "dog")]
    assert parts(rows[4]) == [(2, "black & white photo"), (-1, "portrait")]
