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
        ("UPDATE tags SET value = 'x' || value WHERE row = 0 AND kind = 3", "the tags of 'p1', row 0"),
        ("UPDATE tags SET value = value + 1 WHERE row = 0 AND kind = 2", "the tags of 'p1', row 0"),
        ("UPDATE tags SET name = 'plabe' WHERE row = 1 AND name = 'place'", "the tags of 'p2', row 1"),
        ("UPDATE tags SET modality = 'text' WHERE row = 1", "the tags of 'p2', row 1"),
        ("UPDATE tags SET row = 9 WHERE row = 1", "the tags hold row 9"),
        ("UPDATE image_vectors SET id = 'p3' WHERE id = 'p1'", "row 0 has a vector of 'p3'"),
        ("UPDATE text_vectors SET id = 'c2' WHERE id = 'c1'", "row 2 has a vector of 'c2'"),
        ("UPDATE image_vectors SET row = 9 WHERE id = 'p1'", "row 9 has a vector of 'p1'"),
        ("UPDATE words_docsize SET sz = x'05' WHERE id = 2", "the words of 'c1', row 2"),
    ],
)
def test_an_entry_that_changed_is_named(store_path: Path, statement: str, said: str) -> None:
    with closing(sqlite3.connect(store_path / "index.sqlite")) as connection, connection:
        assert connection.execute(statement).rowcount >= 1
    assert any(each.startswith(said) for each in damage(store_path)), damage(store_path)


def test_no_flipped_bit_of_the_words_that_a_search_would_show_goes_unnoticed(store_path: Path) -> None:
    file = store_path / "index.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        blocks = connection.execute("SELECT id, block FROM words_data ORDER BY id").fetchall()
    # The lists of the words and of their documents, and at its end where each of them begins.
    id, block = max(blocks, key=lambda found: len(found[1]))
    right = searched(file)
    shown = 0
    for bit in range(0, 8 * len(block), 3):
        put_block(file, id, flipped(block, bit))
        if searched(file) != right:
            shown += 1
            assert damage(store_path), f"bit {bit} goes unnoticed"
    assert shown > len(block)
    put_block(file, id, block)
    assert damage(store_path) == []


def searched(file: Path) -> list[list[tuple[int, float]]] | str:
    """The rows and ranks that a search for each word finds, or the error that it ends with."""
    query = "SELECT rowid, bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid"
    with closing(sqlite3.connect(file)) as connection:
        try:
            return [connection.execute(query, (word,)).fetchall() for word in ("dog", "dogs", "beach", "two")]
        except sqlite3.DatabaseError as error:
            return str(error)


def put_block(file: Path, id: int, block: bytes) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE words_data SET block = ? WHERE id = ?", (block, id))
