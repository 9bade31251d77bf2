"""Some vectors of an index, the same ones however it is sharded and in whatever order it was filled."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from crossmodal.search.matches import shard_of
from crossmodal.stores import Store
from crossmodal.workspace import IMAGE_VECTORS, TEXTS, Workspace

__all__ = ["MAX_SAMPLE", "VectorSample", "sample_vectors"]

# A mean of 2,000 x 2,000 cosines is known to a thousandth of their spread, whatever the index's size.
MAX_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class VectorSample:
    """``images`` (n, dimension) and ``texts`` (m, dimension), float32, with what belongs together.

    ``photo_of_text`` has for each text the row of its photo in ``images``, or -1.
    """

    images: npt.NDArray[np.float32]
    texts: npt.NDArray[np.float32]
    photo_of_text: tuple[int, ...]


def sample_vectors(workspace: Workspace, limit: int = MAX_SAMPLE) -> VectorSample:
    """Up to ``limit`` captions of the index, their photos, and other photos up to ``limit``.

    The hash of its id decides what is taken. All ids are read, and only the vectors that are taken are kept.
    """
    with ExitStack() as stack:
        photos, texts = (_open(stack, workspace, name) for name in (IMAGE_VECTORS, TEXTS))
        captions = _smallest(chain.from_iterable(store.ids() for store in texts), limit)
        described: dict[str, str] = {}
        for store, wanted in _by_shard(texts, captions):
            for record in store.get(wanted):
                if record is not None and record.photo_id:
                    described[record.id] = record.photo_id
        some = _smallest(chain.from_iterable(store.ids() for store in photos), limit)
        of_captions = dict.fromkeys(described[id] for id in captions if id in described)
        images = _vectors(photos, chain(of_captions, some), limit)
        found = _vectors(texts, captions, limit)
    row = {id: number for number, id in enumerate(images)}
    return VectorSample(
        _stacked(images.values()),
        _stacked(found.values()),
        tuple(row.get(described.get(id, ""), -1) for id in found),
    )


def _open(stack: ExitStack, workspace: Workspace, name: str) -> list[Store]:
    count = workspace.shards(name) or 0
    return [
        stack.enter_context(Store.open_reader(workspace.store_path(name, shard, count)))
        for shard in range(count)
    ]


def _smallest(ids: Iterable[str], limit: int) -> list[str]:
    def order(id: str) -> tuple[bytes, str]:
        return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), id

    return heapq.nsmallest(limit, ids, key=order)


def _by_shard(stores: list[Store], ids: Iterable[str]) -> Iterator[tuple[Store, list[str]]]:
    wanted: dict[int, list[str]] = {}
    for id in ids:
        wanted.setdefault(shard_of(id, len(stores)), []).append(id)
    return ((stores[shard], mine) for shard, mine in wanted.items())


def _vectors(stores: list[Store], ids: Iterable[str], limit: int) -> dict[str, npt.NDArray[np.float32]]:
    """The vectors of the first ``limit`` of ``ids`` that have one, in the order of ``ids``."""
    order = list(dict.fromkeys(ids))
    wanted, found = set(order), {}
    for store in stores:
        with store.vector_snapshot() as snapshot:
            for block in snapshot.blocks():
                for position, id in enumerate(block.ids):
                    if id in wanted:
                        found[id] = np.array(block.vectors[position], np.float32)
    return {id: found[id] for id in [id for id in order if id in found][:limit]}


def _stacked(vectors: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    rows = list(vectors)
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)
