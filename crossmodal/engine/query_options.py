"""A query of ``PhotoIndex`` with its options, as a request to the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from crossmodal.engine.query_values import term_of
from crossmodal.errors import DataError
from crossmodal.filters import parse_filter
from crossmodal.filters.sorting import parse_order
from crossmodal.query.expression import Term, parse_expression
from crossmodal.query.request import Rerank, SearchRequest, Target

__all__ = ["QueryOptions", "request_of", "terms_of"]


class QueryOptions(TypedDict, total=False):
    """The options of a search beside its query; see ``PhotoIndex.search``."""

    modality: Target | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    offset: int
    hybrid: bool
    group_duplicates: bool
    sort: str | None
    recognise: bool
    explain: bool
    rerank: Rerank | None
    exclude: Iterable[str]


def terms_of(query: Any) -> tuple[Term, ...]:
    """The terms of an expression, of several ``Term``s, or of what ``term_of`` takes; raises DataError."""
    if isinstance(query, str):
        return parse_expression(query)
    if isinstance(query, tuple):
        return query
    return (query,) if isinstance(query, Term) else (term_of(query),)


def request_of(
    terms: tuple[Term, ...], top_k: int, options: QueryOptions, *, similar: bool = False
) -> SearchRequest:
    """A query of these terms; raises TypeError for an option that there isn't, DataError and FilterError."""
    if unknown := set(options) - set(QueryOptions.__annotations__):
        raise TypeError(
            f"A search has no option {min(unknown)!r}; there are {', '.join(QueryOptions.__annotations__)}."
        )
    if not terms or not all(isinstance(term, Term) for term in terms):
        raise DataError("A query of several parts is a tuple of at least one Term.")
    exclude = options.get("exclude", ())
    if isinstance(exclude, str):
        raise DataError(f"exclude is the text {exclude!r}; it must be a list of ids.")
    filter, sort = options.get("filter"), options.get("sort")
    return SearchRequest(
        terms,
        modality=options.get("modality"),
        similar=similar,
        top_k=top_k,
        offset=options.get("offset", 0),
        min_score=options.get("min_score"),
        filter=None if filter is None else parse_filter(filter),
        hybrid=options.get("hybrid", False),
        group_duplicates=options.get("group_duplicates", False),
        sort=None if sort is None else parse_order(sort),
        recognise=options.get("recognise", True),
        explain=options.get("explain", False),
        rerank=options.get("rerank"),
        exclude=frozenset(exclude),
    )
