"""The calls of the API but search and upload: which request each is, and how its reply is read."""

from __future__ import annotations

from urllib.parse import quote

from crossmodal.client.answers import Document, ModelInfo, Status, TagField
from crossmodal.client.exchange import Call, Reply, read_json
from crossmodal.client.parsing import (
    parse_deleted,
    parse_document,
    parse_documents,
    parse_models,
    parse_status,
    parse_tags,
)

__all__ = [
    "content_call",
    "delete_call",
    "document_call",
    "documents_call",
    "models_call",
    "ready_call",
    "status_call",
    "tags_call",
    "thumbnail_call",
]


def document_call(id: str) -> Call[Document]:
    """One photo or caption."""
    return Call("GET", _path(id), read_json(parse_document))


def documents_call(
    modality: str, limit: int, after: str | None
) -> Call[tuple[tuple[Document, ...], str | None]]:
    """A page of documents in the order of their ids, and after which id the next page begins."""
    query = {"modality": modality, "limit": str(limit), "after": after}
    return Call(
        "GET",
        "/v1/documents",
        read_json(parse_documents),
        query={name: value for name, value in query.items() if value is not None},
    )


def content_call(id: str) -> Call[bytes]:
    """A photo as it was indexed."""
    return Call("GET", f"{_path(id)}/content", _body)


def thumbnail_call(id: str) -> Call[bytes]:
    """A photo's small copy."""
    return Call("GET", f"{_path(id)}/thumbnail", _body)


def delete_call(id: str, captions: bool) -> Call[tuple[str, ...]]:
    """Deletes a document, and with ``captions`` those that describe it."""
    query = {} if captions else {"captions": "false"}
    return Call("DELETE", _path(id), read_json(parse_deleted), query=query)


def tags_call() -> Call[tuple[TagField, ...]]:
    """The tags that documents have."""
    return Call("GET", "/v1/tags", read_json(parse_tags))


def models_call() -> Call[tuple[ModelInfo, ...]]:
    """The models that the server knows."""
    return Call("GET", "/v1/models", read_json(parse_models))


def status_call() -> Call[Status]:
    """What the server holds and how it fares."""
    return Call("GET", "/v1/status", read_json(parse_status))


def ready_call() -> Call[None]:
    """Whether the server can answer searches."""
    return Call("GET", "/readyz", read_json(lambda answer: None))


def _path(id: str) -> str:
    return f"/v1/documents/{quote(id, safe='')}"


def _body(reply: Reply) -> bytes:
    return reply.body
