"""The project's search over one store, opened as its indexers open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossmodal.search import ExactIndex
from crossmodal.stores import Store

__all__ = ["forget_derived", "opened", "settled"]

_SEARCH_FILE = "search.faiss"
_TRUTH = ("data.mdb", "lock.mdb", "writer.lock")


@contextmanager
def opened(path: Path) -> Iterator[ExactIndex]:
    """The index of the store at ``path`` with its derived files, searched by one thread."""
    with Store.open_reader(path) as store:
        yield ExactIndex(store, search_file=path / _SEARCH_FILE, threads=1)


def settled(index: ExactIndex) -> str:
    """Waits until nothing is built in the background any more and all is saved; the tier's name."""
    index.save()
    return "exact"


def forget_derived(path: Path) -> None:
    """Deletes what is derived from the store, as if a crash had come before it was written."""
    for file in path.iterdir():
        if file.name not in _TRUTH:
            file.unlink()
