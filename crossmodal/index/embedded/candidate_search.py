"""The best of an index found by its codes: candidates first, then their exact scores; and its recall.

The answer to a query is one list, whatever number of results is asked for: ``top_k`` only says where it ends.
It is made in looks of growing width. A look takes the nearest codes, compares their vectors exactly, and
vouches for one result in ``rerank`` candidates; the next look continues behind the last result. So scores
fall, a smaller ``top_k`` gives the beginning of a larger one, and a document that a look has missed is not
put in later at a place before results that were already given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.index.embedded.codes import Codes, Recall, search_parameters
from crossmodal.index.embedded.compared import EXTRA, Hit, asking, score
from crossmodal.index.embedded.exact_search import best_of, search_exactly
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.row_view import RowView
from crossmodal.index.embedded.scores import float32_error

__all__ = ["FIRST_RESULTS", "CandidateSearch", "measure_recall"]

# The results for which the first look is wide enough: those of a first page.
FIRST_RESULTS = 16

# A look vouches for so many results at least, or none.
_FEWEST_RESULTS = FIRST_RESULTS // 2

# Each look is so many times as wide as the one before.
_WIDER = 4

# A look at more than one in so many codes takes longer than comparing all vectors.
_SHARE = 4


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSearch:
    """``codes`` and how they are searched; never changed, so any number of threads may search."""

    codes: Codes
    options: SearchOptions

    def search(self, view: RowView, queries: NDArray[np.float32], top_k: int) -> list[list[Hit]]:
        """For each row of ``queries`` (n, dimension + EXTRA) up to ``top_k`` of the best that were found.

        Rows of ``view`` that have no codes yet are compared exactly, and removed ones are skipped. There are
        fewer results only where the index has fewer, or its end was reached past documents missed before.
        """
        found: list[list[Hit]] = [[] for _ in queries]
        open_queries = list(range(len(queries)))
        look = 0
        while open_queries:
            count = self.options.rerank * (FIRST_RESULTS + 1) * _WIDER**look
            if count * _SHARE > len(self.codes):
                for number in open_queries:
                    found[number] += _exact_rest(view, queries[number], top_k, found[number])
                break
            parameters = search_parameters(self.codes, self.options, look)
            candidates = self.codes.candidates(queries[open_queries], count, parameters)
            for number, rows in zip(open_queries, candidates, strict=True):
                found[number] += self._look(view, queries[number], rows, found[number])
            open_queries = [number for number in open_queries if len(found[number]) < top_k]
            look += 1
        return [matches[:top_k] for matches in found]

    def _look(
        self,
        view: RowView,
        query: NDArray[np.float32],
        rows: NDArray[np.uint64],
        before: list[Hit],
    ) -> list[Hit]:
        """What a look at ``rows`` vouches for, behind what is there ``before``."""
        positions = view.find(rows)
        positions = positions[positions >= 0]
        vouched = len(positions) // self.options.rerank
        wanted = vouched - len(before)
        # Where most candidates were removed, or are left out as equally near, the rest are no fair choice.
        if wanted < 1 or vouched < _FEWEST_RESULTS:
            return []
        rough = (view.vectors(positions) @ query).astype(np.float64)
        if view.next_row > self.codes.next_row:
            positions, rough = self._with_uncoded(view, query, positions, rough)
        return _best_behind(view, query, positions, rough, wanted, before[-1] if before else None)

    def _with_uncoded(
        self,
        view: RowView,
        query: NDArray[np.float32],
        positions: NDArray[np.intp],
        rough: NDArray[np.float64],
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """``positions`` (n,) and their ``rough`` scores (n,), and those of all that came after the codes."""
        first_uncoded = view.position_of(self.codes.next_row)
        for first, segment in view.segments:
            start = max(first_uncoded - first, 0)
            if start < len(segment):
                new = np.arange(first + start, first + len(segment))
                scores = segment.vectors[start:] @ query
                if view.alive is not None:
                    alive = view.alive[new]
                    new, scores = new[alive], scores[alive]
                positions = np.concatenate([positions, new])
                rough = np.concatenate([rough, scores])
        return positions, rough


def _best_behind(
    view: RowView,
    query: NDArray[np.float32],
    positions: NDArray[np.integer[Any]],
    rough: NDArray[np.float64],
    wanted: int,
    last: Hit | None,
) -> list[Hit]:
    """The best ``wanted`` of ``positions`` (n,) after ``last``; ``rough`` (n,) are their scores in float32.

    Only those that can be among them are scored in float64: all others are further off than float32 can err.
    """
    error = float32_error(query, view.longest)
    if last is not None:
        possible = rough <= last.score + error
        positions, rough = positions[possible], rough[possible]
        # Around the score of the last one, some may turn out not to come after it.
        wanted_rough = wanted + int(np.count_nonzero(rough >= last.score - error))
    else:
        wanted_rough = wanted
    if len(rough) > wanted_rough:
        possible = rough >= np.partition(rough, -wanted_rough)[-wanted_rough] - 2 * error
        positions = positions[possible]
    scored = score(query, view.vectors(positions))
    if len(positions) > wanted_rough:
        possible = scored.scores >= np.partition(scored.scores, -wanted_rough)[-wanted_rough]
        positions, scored = positions[possible], scored.at(possible)
    return _behind(best_of(view, positions, scored, len(positions)), last)[:wanted]


def _exact_rest(view: RowView, query: NDArray[np.float32], top_k: int, before: list[Hit]) -> list[Hit]:
    """What exact search puts behind the last result that is there ``before``."""
    wanted = top_k - len(before)
    fetched = top_k
    while True:
        (matches,) = search_exactly(view, query[None], fetched)
        rest = _behind(matches, before[-1] if before else None)
        if len(rest) >= wanted or fetched >= len(view):
            return rest[:wanted]
        fetched *= 2


def _behind(ordered: list[Hit], last: Hit | None) -> list[Hit]:
    if last is None:
        return ordered
    return [hit for hit in ordered if (-hit.score, hit.id) > (-last.score, last.id)]


# recall@10, the measure of the field's benchmarks.
_DEPTH = 10

_SAMPLE = 64


def measure_recall(search: CandidateSearch, view: RowView, recent: Sequence[NDArray[np.float32]]) -> Recall:
    """recall@10 of ``search`` over the last 64 of ``recent`` queries, and made-up ones where there are fewer.

    A result counts as found if its score reaches that of the exact tenth, so equal vectors don't matter.
    """
    width = (view.dimension or 0) + EXTRA
    asked = [query for query in recent if len(query) == width][-_SAMPLE:]
    queries = np.array([*asked, *_made_of(view, _SAMPLE - len(asked))], np.float32)
    exact = search_exactly(view, queries, _DEPTH, threads=1)
    found = search.search(view, queries, _DEPTH)
    shares = [
        sum(hit.score >= best[-1].score for hit in hits) / len(best)
        for best, hits in zip(exact, found, strict=True)
    ]
    value = float(np.mean(shares))
    made = f" and {len(queries) - len(asked)} made of stored vectors" if len(asked) < len(queries) else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Recall(value, f"recall@{_DEPTH} over {len(asked)} recent queries{made}, {now}")


def _made_of(view: RowView, count: int) -> NDArray[np.float32]:
    """Queries (count, dimension + EXTRA) that lie beside the stored vectors, as those of the other modality.

    Each is the sum of two stored vectors and as much noise: for models of photos and captions the cosine to
    the best match is 0.3 to 0.7, not 1.
    """
    chance = np.random.default_rng(view.sequence)
    pairs = view.vectors(chance.choice(view.living, 2 * count))[:, :-EXTRA]
    sums = pairs[:count] + pairs[count:]
    noise = chance.normal(size=sums.shape)
    noise *= np.linalg.norm(sums, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return asking((sums + noise).astype(np.float32), np.ones(count, np.bool_))
