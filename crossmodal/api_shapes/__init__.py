"""Bodies of the native API in, answers out: plain JSON values, no web framework.

::

    asked = parse_search(read_json(raw), uploads=[])
    answer = render_search(outcomes, model="clip-mini", timing=timing, problem_of=problem_of)
"""

from __future__ import annotations

from crossmodal.api_shapes.answers import document_json, photo_json, render_search
from crossmodal.api_shapes.index_state import index_state
from crossmodal.api_shapes.search import ParsedSearch, parse_search

__all__ = [
    "ParsedSearch",
    "document_json",
    "index_state",
    "parse_search",
    "photo_json",
    "render_search",
]
