"""What a store keeps comes back as it was, and any altered or missing byte of it is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import photo, vectors_of

from crossmodal.errors import StoreFormat
from crossmodal.stores.blocks import VectorBlock, block_length, decode_block, encode_block
from crossmodal.stores.stored_document import StoredDocument, StoredPart

PHOTO = photo("p42", version=7)
DOCUMENT = StoredDocument(
    12, PHOTO, 2**40, StoredPart.of(PHOTO.content), StoredPart.of(PHOTO.thumbnail)
).to_bytes()
PHOTOS = [photo(name) for name in ("a", "b\0", "Zürich", "😀")]
BLOCK = bytes(
    encode_block(
        VectorBlock(
            np.array([3, 4, 6, 2**40], np.uint64), [record.id for record in PHOTOS], vectors_of(PHOTOS)
        )
    )
)


def test_document_comes_back() -> None:
    read = StoredDocument.from_bytes(12, memoryview(DOCUMENT))
    assert (read.number, read.row) == (12, 2**40)
    assert read.record.id == "p42"
    assert read.record.tags == PHOTO.tags
    assert read.record.content_hash == PHOTO.content_hash
    assert read.content == StoredPart.of(PHOTO.content)
    assert read.thumbnail == StoredPart.of(PHOTO.thumbnail)
    assert read.to_bytes() == StoredDocument.from_bytes(12, read.to_bytes()).to_bytes()


def test_block_comes_back() -> None:
    read = decode_block(memoryview(BLOCK))
    assert block_length(BLOCK) == len(read) == 4
    assert read.rows.tolist() == [3, 4, 6, 2**40]
    assert list(read.ids) == [record.id for record in PHOTOS]
    np.testing.assert_array_equal(read.vectors, vectors_of(PHOTOS))


@settings(max_examples=300, deadline=None)
@given(st.data())
@pytest.mark.parametrize("kind", ["document", "block"])
def test_every_altered_bit_is_noticed(kind: str, data: st.DataObject) -> None:
    value = bytearray(DOCUMENT if kind == "document" else BLOCK)
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StoreFormat, match="checksum"):
        read(kind, value)


@pytest.mark.parametrize("kind", ["document", "block"])
def test_every_missing_end_is_noticed(kind: str) -> None:
    value = DOCUMENT if kind == "document" else BLOCK
    for length in range(len(value)):
        with pytest.raises(StoreFormat, match=r"checksum|has only \d+ bytes"):
            read(kind, value[:length])


def read(kind: str, value: bytes | bytearray) -> StoredDocument | VectorBlock:
    view = memoryview(value)
    return StoredDocument.from_bytes(12, view) if kind == "document" else decode_block(view)
