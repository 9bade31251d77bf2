"""The project's search over one store, opened as its indexers open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossmodal.search import SearchOptions, VectorIndex
from crossmodal.stores import Store

__all__ = ["forget_derived", "opened", "settled"]

# What the store itself consists of.
_TRUTH = ("data.mdb", "lock.mdb", "writer.lock")


@contextmanager
def opened(path: Path, tier: str = "auto") -> Iterator[VectorIndex]:
    """The index of the store at ``path`` with its derived files, by default in the tier that users get."""
    with Store.open_reader(path) as store:
        index = VectorIndex(store, folder=path, options=SearchOptions.of(tier))
        try:
            yield index
        finally:
            index.close()


def settled(index: VectorIndex) -> str:
    """Builds now what would be built in the background, and says which tier then answers."""
    index.build()
    return str(index.status()["tier"])


def forget_derived(path: Path) -> None:
    """Deletes what is derived from the store, as if a crash had come before it was written."""
    for file in path.iterdir():
        if file.name not in _TRUTH:
            file.unlink()
