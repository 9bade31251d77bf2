"""How many of the best an index finds, measured against exact search while it is in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from crossmodal.index.embedded.candidate_search import CandidateSearch
from crossmodal.index.embedded.exact_search import search_exactly
from crossmodal.index.embedded.row_view import RowView

__all__ = ["EXACT_RECALL", "UNKNOWN_RECALL", "Recall", "measure_recall"]

# recall@10, the measure of the field's benchmarks.
_DEPTH = 10

_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class Recall:
    """The share in 0 to 1 of the ten best that were found, None where unknown, and how it was measured."""

    value: float | None
    measured: str


EXACT_RECALL = Recall(1.0, "every vector is compared")
UNKNOWN_RECALL = Recall(None, "not measured yet")


def measure_recall(search: CandidateSearch, view: RowView, recent: Sequence[NDArray[np.float32]]) -> Recall:
    """recall@10 of ``search`` over the last 64 of ``recent`` queries, and made-up ones where there are fewer.

    A result counts as found if its score reaches that of the exact tenth, so equal vectors don't matter.
    """
    asked = [query for query in recent if len(query) == view.dimension][-_SAMPLE:]
    queries = np.array([*asked, *_made_of(view, _SAMPLE - len(asked))], np.float32)
    exact = search_exactly(view, queries, _DEPTH, threads=1)
    found = search.search(view, queries, _DEPTH)
    shares = [
        sum(score >= best[-1][1] for _, score in matches) / len(best)
        for best, matches in zip(exact, found, strict=True)
    ]
    value = float(np.mean(shares))
    made = f" and {len(queries) - len(asked)} made of stored vectors" if len(asked) < len(queries) else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Recall(value, f"recall@{_DEPTH} over {len(asked)} recent queries{made}, {now}")


def _made_of(view: RowView, count: int) -> NDArray[np.float32]:
    """Queries (count, dimension) that lie beside the stored vectors, as those of the other modality do.

    Each is the sum of two stored vectors and as much noise: for models of photos and captions the cosine to
    the best match is 0.3 to 0.7, not 1.
    """
    chance = np.random.default_rng(view.sequence)
    pairs = view.vectors(chance.choice(view.living, 2 * count))
    sums = pairs[:count] + pairs[count:]
    noise = chance.normal(size=sums.shape)
    noise *= np.linalg.norm(sums, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    queries: NDArray[np.float32] = (sums + noise).astype(np.float32)
    return queries
