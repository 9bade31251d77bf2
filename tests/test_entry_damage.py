"""Damage of what has no checksum of its own, tags, words and the ids of vectors, is found by verify."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_samples import caption, photo, vectors_of

from crossmodal.index.embedded.store import EmbeddedStore


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    with EmbeddedStore.open_writer(path) as store:
        records = [photo("p1"), photo("p2"), caption("c1", "a dog on a beach"), caption("c2", "two dogs")]
        store.put(records, vectors_of(records))
        assert store.verify() == []
    return path


def damage(path: Path) -> list[str]:
    with EmbeddedStore.open_reader(path) as store:
        return store.verify()


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE tags SET value = 'x' || value WHERE row = 1 AND kind = 3", "the tags of 'p1', row 1"),
        ("UPDATE tags SET value = value + 1 WHERE row = 1 AND kind = 2", "the tags of 'p1', row 1"),
        ("UPDATE tags SET name = 'plabe' WHERE row = 2 AND name = 'place'", "the tags of 'p2', row 2"),
        ("UPDATE tags SET modality = 'text' WHERE row = 2", "the tags of 'p2', row 2"),
        ("UPDATE tags SET row = 9 WHERE row = 2", "the tags hold row 9"),
        ("UPDATE image_vectors SET id = 'p3' WHERE id = 'p1'", "row 1 has a vector of 'p3'"),
        ("UPDATE text_vectors SET id = 'c2' WHERE id = 'c1'", "row 3 has a vector of 'c2'"),
        ("UPDATE image_vectors SET row = 9 WHERE id = 'p1'", "row 9 has a vector of 'p1'"),
    ],
)
def test_an_entry_that_changed_is_named(store_path: Path, statement: str, said: str) -> None:
    with closing(sqlite3.connect(store_path / "index.sqlite")) as connection, connection:
        assert connection.execute(statement).rowcount >= 1
    assert any(each.startswith(said) for each in damage(store_path)), damage(store_path)


def test_no_flipped_bit_of_the_words_goes_unnoticed(store_path: Path) -> None:
    file = store_path / "index.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        blocks = connection.execute("SELECT id, block FROM words_data ORDER BY id").fetchall()
    # The lists of the words and their documents; the others say how large these are.
    id, block = max(blocks, key=lambda found: len(found[1]))
    unnoticed = []
    for bit in range(0, 8 * len(block), 5):
        put_block(file, id, flipped(block, bit))
        if not damage(store_path):
            unnoticed.append(bit)
    assert unnoticed == []
    put_block(file, id, block)
    assert damage(store_path) == []


def put_block(file: Path, id: int, block: bytes) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE words_data SET block = ? WHERE id = ?", (block, id))
