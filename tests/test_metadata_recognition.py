"""Years, months, places and names of files in a sentence become filters that are told and can be refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from conftest import TOY_IMAGES

from crossmodal import PhotoIndex, Record
from crossmodal.query.expression import parse_expression
from crossmodal.query.recognition import understand

PLACES = {"paris": "Paris", "new york": "New York", "nice": "Nice", "rome": "Rome"}


class Known:
    """Photos of 2019 and 2020, of every month, in some cities."""

    def has(self, filter: Mapping[str, Any]) -> bool:
        date = filter.get("taken", "2019")
        return (
            date[:4] in ("2019", "2020") and filter.get("file", {"$eqi": "IMG_1.jpg"})["$eqi"] == "IMG_1.jpg"
        )

    def place(self, words: str) -> Mapping[str, Any] | None:
        found = PLACES.get(words.casefold())
        return None if found is None else {"city": found}


@pytest.mark.parametrize(
    ("sentence", "left", "recognised"),
    [
        ("beach 2019", "beach", {"2019": {"taken": "2019"}}),
        ("a beach in 2019", "a beach", {"in 2019": {"taken": "2019"}}),
        ("beach in July 2019", "beach", {"in July 2019": {"taken": "2019-07"}}),
        ("Sept. 2019, a dog", "a dog", {"Sept. 2019": {"taken": "2019-09"}}),
        ("2019-07 dog", "dog", {"2019-07": {"taken": "2019-07"}}),
        ("dog on 4 July 2019", "dog", {"on 4 July 2019": {"taken": "2019-07-04"}}),
        ("dog, July 4th, 2019", "dog", {"July 4th, 2019": {"taken": "2019-07-04"}}),
        ("snow in may", "snow", {"in may": {"month": 5}}),
        ("Paris at night", "at night", {"Paris": {"city": "Paris"}}),
        ("a cat in paris 2019", "a cat", {"in paris": {"city": "Paris"}, "2019": {"taken": "2019"}}),
        ("new york skyline", "skyline", {"new york": {"city": "New York"}}),
        ("dog IMG_1.jpg", "dog", {"IMG_1.jpg": {"file": {"$eqi": "IMG_1.jpg"}}}),
        # Where nothing would be left, the sentence stays.
        ("Rome 2020", "Rome 2020", {"Rome": {"city": "Rome"}, "2020": {"taken": "2020"}}),
        # Of 1999 there is nothing, and a place that is a word needs a capital letter or "in".
        ("party like it's 1999", "party like it's 1999", {}),
        ("a nice dog", "a nice dog", {}),
        ("dog in nice", "dog", {"in nice": {"city": "Nice"}}),
        ("a march may be long", "a march may be long", {}),
        ("gate 20191 or 2019a", "gate 20191 or 2019a", {}),
        ('"beach 2019" in Rome', '"beach 2019"', {"in Rome": {"city": "Rome"}}),
        ("\u201cParis 2019\u201d", "\u201cParis 2019\u201d", {}),
    ],
)
def test_what_is_recognised(sentence: str, left: str, recognised: dict[str, Any]) -> None:
    meant = understand(sentence, Known())
    assert {one.text: one.filter for one in meant.recognised} == recognised
    assert meant.text == left


def test_terms_in_quotation_marks_are_told_apart() -> None:
    assert [term.quoted for term in parse_expression('"beach 2019" + beach 2019 - id:"a b"')] == [
        True,
        False,
        False,
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with PhotoIndex(tmp_path_factory.mktemp("recognition") / "workspace") as index:
        names = sorted(path.name for path in TOY_IMAGES.iterdir())[:6]
        index.add(
            Record(
                name,
                "image",
                mime_type="image/jpeg",
                tags={"taken": f"{2018 + number // 3}-07-0{number + 1}T10:00:00", "file": name}
                | ({"city": "Paris"} if number % 2 else {}),
                content=(TOY_IMAGES / name).read_bytes(),
            )
            for number, name in enumerate(names)
        )
        yield index


def test_a_search_is_narrowed_and_says_by_what(index: PhotoIndex) -> None:
    names = [record.id for record in index.page()]
    found = index.search("a picture of a cat 2019")
    assert {match.id for match in found} == set(names[3:])
    assert [(one.text, one.filter) for one in found.recognised] == [("2019", {"taken": "2019"})]
    # It is the search for what is left, under the filter.
    same = index.search("a picture of a cat", filter={"taken": 2019}, recognise=False)
    assert [(match.id, match.cosine) for match in found] == [(match.id, match.cosine) for match in same]
    found = index.search("a cat in Paris in July 2018", filter={"file": {"$ne": "x"}})
    assert {match.id for match in found} == {names[1]}
    assert [one.text for one in found.recognised] == ["in Paris", "in July 2018"]


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("a cat 2019", {"recognise": False}),
        ('"a cat 2019"', {}),
        ("a cat 1999", {}),
        ("a cat - dog 2019", {}),
        ("a cat 2019", {"modality": "text"}),
    ],
)
def test_what_is_refused_quoted_unknown_negative_or_for_captions_stays(
    index: PhotoIndex, query: str, options: Any
) -> None:
    found = index.search(query, **options)
    assert found.recognised == ()
    assert len(found) == (0 if options.get("modality") == "text" else 6)
