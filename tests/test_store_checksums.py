"""What an index stores of a document comes back as it was, and any altered part of it is noticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import photo

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.stored_document import StoredDocument, Whole, checksum

DOCUMENT = StoredDocument.of(2**40, Whole.of(photo("p42 Zürich", version=7), b"a vector"), uploaded=True)
VALUES = DOCUMENT.values()


def test_document_comes_back() -> None:
    assert StoredDocument.from_values((*VALUES, None)) == DOCUMENT
    assert (DOCUMENT.row, DOCUMENT.content_bytes, DOCUMENT.thumbnail_bytes) == (2**40, 1000, 50)


@given(st.integers(0, len(VALUES) - 1), st.one_of(st.none(), st.integers(0, 2**62), st.text(max_size=5)))
def test_every_altered_value_is_noticed(place: int, value: Any) -> None:
    altered = [*VALUES]
    altered[place] = value
    if altered == [*VALUES]:
        return
    if place in (0, 9, 10, 11) and not isinstance(value, int):
        return  # SQLite stores no other type there.
    with pytest.raises(StoreFormat, match="does not match its checksum"):
        StoredDocument.from_values((*altered, None))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_every_altered_bit_and_every_other_row_is_noticed(content: bytes, data: st.DataObject) -> None:
    altered = bytearray(content)
    altered[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert checksum(bytes(altered), 3) != checksum(content, 3) != checksum(content, 4)
    assert 0 <= checksum(content, 3) < 2**63
