"""The second stage of a search: a reranker puts the best candidates in order.

It looks at so many candidates as ``rerank.depth`` says, whatever ``top_k`` is, so that a top 5 is the
beginning of the top 15. What comes behind them stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from crossmodal.deadlines import Deadline, check_deadline, current_deadline, until
from crossmodal.documents import Document
from crossmodal.engine.ranking import SearchState
from crossmodal.errors import DeadlinePassed, ObjectsUnavailable, QueryError
from crossmodal.flow.runner import Flow
from crossmodal.limits import quoted
from crossmodal.match import Match
from crossmodal.query.request import Rerank, Reranked
from crossmodal.records import TEXT, Modality
from crossmodal.workspace import Workspace

__all__ = ["asking", "in_order", "refusal", "reranked"]

# Of the time that is left of a request.
_SHARE = 0.8


def refusal(wanted: Rerank, name: str | None) -> QueryError | None:
    """Why a search cannot be reranked as ``wanted`` by the reranker ``name``; None where it can."""
    if name is None:
        return QueryError(
            "There is no reranker here: start with --rerank NAME, or leave 'rerank' out.", pointer="/rerank"
        )
    if wanted.name not in (None, name):
        return QueryError(
            f"The reranker here is {name!r}, not {quoted(wanted.name)}; name that one, or none.",
            pointer="/rerank/name",
        )
    return None


def reranked(
    state: SearchState, matches: list[Match], flow: Callable[[], Flow], workspace: Workspace, name: str
) -> list[Match]:
    """``matches``, best first, with the first ones in the order of the reranker ``name``.

    The outcome says whether that was done. At its deadline, and where the reranker cannot compare the two,
    they stay as they are.
    """
    wanted = state.request.rerank
    assert wanted is not None, "only a request that asks for it is reranked"
    if state.reranked is None:
        started = time.perf_counter()
        candidates = [match.id for match in matches[: wanted.depth]]
        why = None
        try:
            state.reranked = _compared(state, candidates, flow, workspace)
        except _NotCompared as reason:
            why = str(reason)
            state.reranked = {}
        taken = (time.perf_counter() - started) * 1000
        state.outcome.reranked = Reranked(name, wanted.depth, why is None, taken, why)
    given = state.reranked
    first, rest = matches[: wanted.depth], matches[wanted.depth :]
    for match in first:
        match.reranked = given.get(match.id)
    by_id = {match.id: match for match in first}
    return [by_id[id] for id in in_order([match.id for match in first], given)] + rest


def in_order(ids: Sequence[str], given: Mapping[str, float]) -> list[str]:
    """``ids`` by what a reranker gave them, the most first; those of which it says nothing come last.

    Equal ones stay in their order.
    """
    return sorted(ids, key=lambda id: -given.get(id, -math.inf))


def asking(
    modality: Modality | None, *, text: str | None, content: bytes | None, wanted: Sequence[str]
) -> Document:
    """A sentence, or a photo, that is compared with the documents ``wanted``."""
    return Document(
        "query", modality, stage="rerank", text=text, content=content, wanted=list(wanted)
    ).checked()


class _NotCompared(Exception):
    """Why the order stays as it is, in a sentence."""


def _compared(
    state: SearchState, candidates: Sequence[str], flow: Callable[[], Flow], workspace: Workspace
) -> dict[str, float]:
    """What the reranker gives each candidate that it can look at."""
    if len(state.request.terms) != 1 or len(state.composed) != 1:
        raise _NotCompared("It compares one sentence or photo with photos, or with captions, and not both.")
    (seeks,), query = state.composed, _query(state, candidates, workspace)
    outer = current_deadline()
    seconds = state.request.rerank.seconds if state.request.rerank is not None else 0.0
    if outer is not None:
        # So that there is time left to answer without it.
        seconds = min(seconds, max(-outer.overdue, 0.0) * _SHARE)
    try:
        with until(Deadline(seconds, within=outer)):
            (answer,) = flow().run("rerank", [query], {"seeks": seeks})
    except DeadlinePassed:
        # Where nobody waits for the search itself any more, that ends as well.
        check_deadline()
        raise _NotCompared(
            f"It did not look at {len(candidates)} candidates within {seconds:.3g} seconds; ask for a "
            "smaller depth, or for more seconds."
        ) from None
    if answer.error is not None:
        raise _NotCompared(answer.error)
    return {match.id: match.cosine for match in answer.matches or ()}


def _query(state: SearchState, candidates: Sequence[str], workspace: Workspace) -> Document:
    """The one sentence or photo of a request as what is compared with candidates."""
    (term,), (encoded,) = state.request.terms, state.terms
    text, content = term.text, term.image
    if term.id is not None and encoded.modality == TEXT:
        record = workspace.get(term.id, TEXT)
        text = None if record is None else record.text
    elif term.id is not None:
        try:
            found = workspace.thumbnail(term.id)
        except ObjectsUnavailable as error:
            raise _NotCompared(str(error)) from None
        content = None if found is None else found[0]
    if text is None and content is None:
        raise _NotCompared("It compares sentences and photos, and the query is a vector.")
    return asking(encoded.modality, text=text, content=content, wanted=candidates)
