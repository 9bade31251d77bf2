"""What the project's search is measured against: faiss's exact index and its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.harness import timed
from bench.vectors import Collection

__all__ = ["LINKS", "Graph", "exact", "overlap"]

LINKS = 16

# No graph needs to look at more than so many candidates here; one that misses more is reported as it is.
_LARGEST_EFFORT = 4096


def exact(collection: Collection) -> Any:
    """faiss's IndexFlatIP over a collection."""
    flat = faiss.IndexFlatIP(collection.queries.shape[1])
    for block in collection.blocks():
        flat.add(block)
    return flat


def overlap(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """recall@k: the share of ``truth`` (n, k) that is in the same row of ``found``."""
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size


@dataclass(frozen=True)
class Graph:
    """faiss's HNSW over a collection, and the seconds that adding one vector took on average."""

    index: Any
    seconds_a_vector: float

    @classmethod
    def built(cls, collection: Collection) -> Graph:
        """With 16 links and faiss's usual effort of building."""
        index = faiss.IndexHNSWFlat(collection.queries.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        vectors = collection.all()
        return cls(index, timed(lambda: index.add(vectors)) / collection.count)

    def search(self, queries: NDArray[np.float32], top_k: int, effort: int) -> NDArray[np.int64]:
        """The rows found with ``efSearch`` = ``effort``: (n, top_k)."""
        # faiss's annotations don't know the classes that its Python layer makes.
        library: Any = faiss
        parameters = library.SearchParametersHNSW(efSearch=effort)
        found: NDArray[np.int64] = self.index.search(queries, top_k, params=parameters)[1]
        return found

    def effort_for(
        self, recall: float, queries: NDArray[np.float32], truth: NDArray[np.int64], *, least: int
    ) -> tuple[int, float]:
        """The least efSearch from ``least`` on that reaches ``recall``, within a quarter, and its recall."""
        effort = least
        while True:
            reached = overlap(self.search(queries, truth.shape[1], effort), truth)
            if reached >= recall or effort >= _LARGEST_EFFORT:
                return effort, reached
            effort += max(effort // 4, 1)
