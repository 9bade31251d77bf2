"""Vectors of an index, searched by a vector database that follows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.deadlines import check_deadline, current_deadline
from crossmodal.errors import BackendUnavailable, ModelMismatch
from crossmodal.filters import Filter
from crossmodal.index.embedded.compared import EXTRA, Hit, asking, compared, merge_matches, score
from crossmodal.index.embedded.exact_index import checked_queries
from crossmodal.index.embedded.listing import rows_of
from crossmodal.index.embedded.scores import float32_error
from crossmodal.index.embedded.vector_source import VectorSnapshot, VectorSource
from crossmodal.index.following.conditions import Wanted, translated
from crossmodal.index.following.database import Found, VectorDatabase
from crossmodal.index.following.follower import Follower, Standing
from crossmodal.index.following.rows import Candidates, candidates, fitting, later_rows
from crossmodal.index.following.state import MOST_LATER, backend_state, rows_behind
from crossmodal.index.in_time import in_time

__all__ = ["FollowedIndex"]

# How long a request with a deadline waits for a database that is away or is being filled.
_PATIENCE_SECONDS = 1.0

# How long one search in the database may take, of a request with a deadline and of any other.
_SEARCH_SECONDS = 1.8
_LONGEST_SEARCH_SECONDS = 60.0

# Rows that are asked for beyond top_k, whose order a database may see a little differently; by how much more
# they grow each time that this wasn't enough.
_SPARE = 16
_GROWTH = 4

# No row that is compared is longer: a vector of length 1, as ``rows_to_write`` demands, and a hubness, which
# is no larger than a cosine.
_LONGEST = 1.5


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked for: ``queries`` (n, dimension + EXTRA) of ``asking``, and ``filter`` in both
    languages."""

    queries: NDArray[np.float32]
    top_k: int
    filter: Filter | None
    wanted: Wanted | None


class FollowedIndex:
    """All vectors of ``source``, searched in the collection that ``connect`` opens.

    ``kind`` is what ``status`` calls its tier, ``where`` names the database to people. The database finds
    candidates; which of them live, whether they fulfil a filter and what they score is read from the index,
    and what the database doesn't have yet is compared here. So every answer shows what was acknowledged
    before it. ``rerank``: so many candidates are compared for each result where the database's search isn't
    exact. Safe to use from several threads. Close it before its store.
    """

    def __init__(
        self,
        source: VectorSource,
        name: str,
        connect: Callable[[], VectorDatabase],
        *,
        kind: str,
        where: str,
        exact: bool,
        rerank: int = 4,
    ) -> None:
        self._source = source
        self._kind, self._where, self._exact, self._rerank = kind, where, exact, rerank
        self._follower = Follower(source, name, connect)

    def __len__(self) -> int:
        with self._source.snapshot() as snapshot:
            if self._source.shards == 1:
                return snapshot.count
            return sum(len(block) for block in snapshot.blocks())

    def search(
        self,
        queries: NDArray[np.floating[Any]],
        top_k: int,
        filter: Filter | None = None,
        *,
        corrected: NDArray[np.bool_] | None = None,
    ) -> list[list[Hit]]:
        """For each row of ``queries`` (n, dimension) the best ``top_k``, with inner products in float64.

        Of the queries that are ``corrected`` (n,) the hubness of each document is taken off its score. With a
        database that compares all vectors they are those of ``ExactIndex.search``, to the last bit and in the
        same order. Raises as that does, FilterError for a filter that can't be translated, and
        ``BackendUnavailable`` where the database doesn't answer or is still being filled.
        """
        wanted = asking(checked_queries(queries, top_k), corrected)
        while True:
            standing = self._standing()
            if standing is None or not len(wanted):
                return [[] for _ in wanted]
            question = self._translated(wanted, top_k, filter, standing)
            try:
                found = self._answers(question, standing)
            except BackendUnavailable as error:
                self._follower.failed(standing.database, error)
                raise
            now = self._follower.standing()
            if now is not None and now.making == standing.making:
                return found
            # It was made again meanwhile.
            check_deadline()

    def cosines(
        self, queries: NDArray[np.floating[Any]]
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float32]]:
        """The ids of all vectors, their cosines (n, ids) and hubness (ids,); see ``ExactIndex.cosines``.

        Read from the index, as no database gives them. Raises as ``search`` does for its queries.
        """
        wanted = asking(checked_queries(queries))
        ids, parts, hubness = list[str](), [np.empty((len(wanted), 0))], [np.empty(0, np.float32)]
        with self._source.snapshot() as snapshot:
            self._check_dimension(wanted, snapshot)
            for block in snapshot.blocks():
                ids += block.ids
                rows = compared(block.vectors, block.hubness)
                parts.append(np.stack([score(query, rows).cosines for query in wanted]))
                hubness.append(block.hubness)
        return ids, np.concatenate(parts, axis=1), np.concatenate(hubness)

    def status(self) -> dict[str, Any]:
        """How searches are answered; the keys of ``embedded.vector_index.VectorIndex.status``.

        And ``backend``, the ``backend_state``.
        """
        self._follower.wake()
        standing, error = self._follower.standing(), self._follower.error
        with self._source.snapshot() as snapshot:
            total = snapshot.count
            behind = None if standing is None else rows_behind(standing.position, snapshot)
            empty = snapshot.dimension is None
        backend = backend_state(self._where, behind, error, empty=empty)
        done = 0.0 if behind is None else 1 - behind / max(total, 1)
        return {
            "tier": self._kind,
            "chosen": "named",
            "vectors": total,
            "coded": 0 if behind is None else max(total - behind, 0),
            "tail": behind or 0,
            "dead": 0,
            "recall": 1.0 if self._exact else None,
            "recall_measured": "the database compares all vectors" if self._exact else "not measured",
            "building": {"what": self._where, "done": max(done, 0.0)}
            if backend["state"] == "filling"
            else None,
            "backend": backend,
        }

    def close(self) -> None:
        """Ends the thread that follows."""
        self._follower.close()

    def _standing(self) -> Standing | None:
        """The database once it has nearly everything; None for an index without vectors.

        Raises ``BackendUnavailable`` where that would take longer than the request may wait, and whatever
        keeps the index from being read.
        """
        started = time.monotonic()
        while True:
            check_deadline()
            standing = self._follower.standing()
            with self._source.snapshot() as snapshot:
                if snapshot.dimension is None:
                    return None
                behind = None if standing is None else rows_behind(standing.position, snapshot)
                total = snapshot.count
            if standing is not None and behind is not None and behind <= MOST_LATER:
                if behind:
                    self._follower.wake()
                return standing
            if (error := self._follower.error) is not None:
                raise error
            if current_deadline() is not None and time.monotonic() - started > _PATIENCE_SECONDS:
                raise BackendUnavailable(
                    f"{self._where} is being filled: it has {0 if behind is None else total - behind:,} of "
                    f"{total:,} vectors. Try again in a moment."
                )
            self._follower.wait(0.05)

    def _translated(
        self, queries: NDArray[np.float32], top_k: int, filter: Filter | None, standing: Standing
    ) -> _Question:
        with self._source.snapshot() as snapshot:
            self._check_dimension(queries, snapshot)
            if filter is None:
                return _Question(queries, top_k, None, None)
            modality = self._source.modality
            wanted = translated(
                filter,
                modality,
                lambda part: rows_of(snapshot.connection, modality, part),
                negates=standing.database.negates,
            )
        return _Question(queries, top_k, filter, wanted)

    def _answers(self, question: _Question, standing: Standing) -> list[list[Hit]]:
        """The answer of each query; those that a first try leaves open are asked for more."""
        database, most = standing.database, standing.database.most
        answers: list[list[Hit]] = [[] for _ in question.queries]
        todo = list(range(len(answers)))
        limit = min(question.top_k * (1 if database.exact else self._rerank) + _SPARE, most)
        while todo:
            check_deadline()
            found = in_time(
                _SEARCH_SECONDS if current_deadline() else _LONGEST_SEARCH_SECONDS,
                f"{self._where}, which --backend names,",
                partial(
                    database.search,
                    question.queries[todo],
                    limit,
                    question.wanted,
                    fresh=standing.fresh,
                ),
            )
            # Read after the search: a row that lives now was in the database all the time.
            with self._source.snapshot() as snapshot:
                later = fitting(snapshot, later_rows(snapshot, standing.position.next_row), question.filter)
                left = []
                for place, each in zip(todo, found, strict=True):
                    rows = sorted(set(each.rows) - set(later.rows))
                    known = fitting(snapshot, candidates(snapshot, rows), question.filter)
                    best = _best(question.queries[place], question.top_k, [known, later])
                    answers[place] = best
                    if limit < most and not self._settled(best, question, place, each, limit, database):
                        left.append(place)
            todo, limit = left, min(limit * _GROWTH, most)
        return answers

    def _settled(
        self,
        best: Sequence[Hit],
        question: _Question,
        place: int,
        found: Found,
        limit: int,
        database: VectorDatabase,
    ) -> bool:
        """Whether no row that the database left out can be among the best."""
        if len(found.rows) < limit:
            return True
        if len(best) < question.top_k:
            return False
        if not database.exact:
            return True
        error = float32_error(question.queries[place], _LONGEST)
        return best[-1].score > found.products[-1] + error

    def _check_dimension(self, queries: NDArray[np.float32], snapshot: VectorSnapshot) -> None:
        dimension = queries.shape[1] - EXTRA
        if snapshot.dimension is not None and dimension != snapshot.dimension:
            raise ModelMismatch(
                f"The query has {dimension} dimensions, but the index in {self._source.folder} has "
                f"{snapshot.dimension}. Use the model that built the index (-m)."
            )


def _best(query: NDArray[np.float32], top_k: int, parts: Sequence[Candidates]) -> list[Hit]:
    hits = []
    for part in parts:
        if len(part.rows):
            found = score(query, part.vectors)
            hits.append(list(map(Hit, part.ids, found.scores.tolist(), found.cosines.tolist())))
    return merge_matches(hits, top_k)
