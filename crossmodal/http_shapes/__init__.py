"""Request bodies of jina 1, 2, 3 and Jina Box in, envelopes out: plain JSON values, no web framework.

::

    body = read_json(raw)
    parsed = parse_request(body, path="/search", host="127.0.0.1:45678")
    answer = render_results(parsed, results, started=started, ended=ended)

The envelope is chosen by the request's shape:

1. ``mode`` and ``parameters``: Jina Box, whose versions read ``search.docs`` or ``data.docs``: both are sent;
2. ``mode``, a top-level ``top_k`` or a path under ``/api/``: jina 1;
3. ``targetPeapod`` or a plain string in ``data``: jina 2;
4. anything else: jina 3.
"""

from __future__ import annotations

from crossmodal.http_shapes.answers import (
    render_deleted,
    render_error,
    render_index,
    render_results,
)
from crossmodal.http_shapes.envelopes import envelope_of
from crossmodal.http_shapes.image_urls import image_url, indexed_image_id
from crossmodal.http_shapes.requests import parse_request
from crossmodal.http_shapes.shapes import (
    DeleteResult,
    Endpoint,
    Envelope,
    IndexResult,
    Limits,
    ParsedDocument,
    ParsedRequest,
    QueryItem,
    QueryResult,
    ShownMatch,
)
from crossmodal.http_shapes.values import read_json

__all__ = [
    "DeleteResult",
    "Endpoint",
    "Envelope",
    "IndexResult",
    "Limits",
    "ParsedDocument",
    "ParsedRequest",
    "QueryItem",
    "QueryResult",
    "ShownMatch",
    "envelope_of",
    "image_url",
    "indexed_image_id",
    "parse_request",
    "read_json",
    "render_deleted",
    "render_error",
    "render_index",
    "render_results",
]
