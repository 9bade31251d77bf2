"""One query's results page by page."""

from __future__ import annotations

from dataclasses import replace

from crossmodal.client.answers import Match, QueryResult, SearchAnswer
from crossmodal.client.exchange import Call
from crossmodal.client.queries import Query, search_call
from crossmodal.errors import ClientError

__all__ = ["Pages"]

# The server's limits on offset + top_k.
_MOST = 1000
_MOST_HYBRID = 200


class Pages:
    """Asks for ``page_size`` (1 or more) results of ``query`` at a time, until there are no more."""

    def __init__(self, query: Query, page_size: int) -> None:
        if page_size < 1:
            raise ClientError(f"page_size is {page_size}; a page has at least 1 result.")
        self._query = query
        self._size = page_size
        self._left = _MOST_HYBRID if query.hybrid else _MOST
        self._offset = 0

    def next_call(self) -> Call[SearchAnswer] | None:
        """The search for the next page; None where there is none."""
        if self._left <= 0:
            return None
        size = min(self._size, self._left)
        return search_call(replace(self._query, offset=self._offset, top_k=size))

    def matches(self, page: QueryResult) -> tuple[Match, ...]:
        """The matches of the page that was asked for last."""
        self._offset += len(page.matches)
        self._left = self._left - len(page.matches) if page.has_more and page.matches else 0
        return page.matches
