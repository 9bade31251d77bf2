"""Some vectors of an index, the same ones however it is sharded and in whatever order it was filled."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from crossmodal.records import IMAGE, TEXT
from crossmodal.workspace import Workspace

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
    captions = _smallest(workspace.ids(TEXT), limit)
    described = {
        id: record.photo_id for id, record in workspace.records(captions, TEXT).items() if record.photo_id
    }
    photos = [*described.values(), *_smallest(workspace.ids(IMAGE), limit)]
    # The photo of a caption may have been deleted, so that others take its place.
    images = dict(islice(workspace.vectors(photos, IMAGE).items(), limit))
    texts = workspace.vectors(captions, TEXT)
    row = {id: number for number, id in enumerate(images)}
    return VectorSample(
        _stacked(images.values()),
        _stacked(texts.values()),
        tuple(row.get(described.get(id, ""), -1) for id in texts),
    )


def _smallest(ids: Iterable[str], limit: int) -> list[str]:
    def order(id: str) -> tuple[bytes, str]:
        return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), id

    return heapq.nsmallest(limit, ids, key=order)


def _stacked(vectors: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    rows = list(vectors)
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)
