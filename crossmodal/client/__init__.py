"""A Python client of the query server's API, for programs that don't hold the index themselves.

::

    from crossmodal.client import Client

    with Client("http://localhost:45678") as client:
        for match in client.search("a cat looks into the camera", top_k=3).matches:
            print(f"{match.cosine:.3f}  {match.id}")

``AsyncClient`` has the same methods, to be awaited. Importing this imports neither the HTTP library nor
anything else that is large.
"""

from __future__ import annotations

from crossmodal.client.answers import (
    Building,
    CountedValue,
    Document,
    DocumentOutcome,
    Facet,
    FacetValue,
    IndexState,
    LatencyBucket,
    ModalityState,
    ModelInfo,
    ModelState,
    Problem,
    QueryResult,
    QueryTerm,
    Removal,
    SearchAnswer,
    SearchState,
    Status,
    Suggestion,
    TagField,
    Traffic,
    UploadProgress,
    UploadSummary,
    Writing,
)
from crossmodal.client.clients import AsyncClient, Client
from crossmodal.client.exchange import Retries
from crossmodal.client.queries import Query, Term
from crossmodal.client.uploads import NewDocument
from crossmodal.errors import ApiError, ClientError, ServerUnavailable
from crossmodal.match import Caption, Match, Parts, Photo
from crossmodal.query.request import Timing

__all__ = [
    "ApiError",
    "AsyncClient",
    "Building",
    "Caption",
    "Client",
    "ClientError",
    "CountedValue",
    "Document",
    "DocumentOutcome",
    "Facet",
    "FacetValue",
    "IndexState",
    "LatencyBucket",
    "Match",
    "ModalityState",
    "ModelInfo",
    "ModelState",
    "NewDocument",
    "Parts",
    "Photo",
    "Problem",
    "Query",
    "QueryResult",
    "QueryTerm",
    "Removal",
    "Retries",
    "SearchAnswer",
    "SearchState",
    "ServerUnavailable",
    "Status",
    "Suggestion",
    "TagField",
    "Term",
    "Timing",
    "Traffic",
    "UploadProgress",
    "UploadSummary",
    "Writing",
]
