"""The documents of docarray 0.13 to 0.21, which clip-as-service's client and older clients of jina 3 send.

jina carries them in the same message, under the same numbers, as those of docarray from 0.30 on. One process
cannot load both docarrays, so what is read and written of the old ones is described here, to protobuf itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    struct_pb2,
)

from crossmodal.errors import RequestError
from crossmodal.jina.documents import MediaDocument
from crossmodal.jina.wire import first_inside, has_more_fields

__all__ = ["is_legacy", "legacy_fields", "query_message", "read_legacy", "write_legacy"]

# Which field of a request holds its data, which one of those its documents, and which one of those the first.
_TO_DOCUMENTS = (4, 1, 1)

# How a field with the number 1 and a length begins. A document of today's docarray has no other field, and
# each is an entry of a map, which begins with the same byte.
_FIRST_FIELD = 0x0A

# Messages, their fields and those fields' numbers and types, a * for a repeated one. The numbers are those of
# docarray.proto and jina.proto at https://github.com/docarray/docarray/tree/v0.21.0 and
# https://github.com/jina-ai/serve/tree/v3.20.0.
_PACKAGE = "crossmodal.legacy"
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Dense": {"buffer": (1, "bytes"), "shape": (2, "uint32*"), "dtype": (3, "string")},
    "Array": {"dense": (1, "Dense"), "sparse": (2, "bytes"), "cls_name": (3, "string")},
    "Score": {"value": (1, "float"), "op_name": (2, "string")},
    "NamedScore": {"key": (1, "string"), "value": (2, "Score")},
    "Document": {
        "id": (1, "string"),
        "blob": (2, "bytes"),
        "tensor": (3, "bytes"),
        "text": (4, "string"),
        "uri": (9, "string"),
        "modality": (10, "string"),
        "mime_type": (11, "string"),
        "matches": (15, "Document*"),
        "embedding": (16, "Array"),
        "tags": (17, "Struct"),
        "scores": (18, "NamedScore*"),
    },
    "Documents": {"docs": (1, "Document*")},
    "Data": {"docs": (1, "Documents")},
    "Request": {"data": (4, "Data")},
}

_VECTORS = ("<f2", "<f4", "<f8")


def is_legacy(raw: bytes, most: int) -> bool:
    """Whether the documents in the request ``raw`` are those of an old docarray.

    It looks at ``most`` fields, and takes a request without documents for a new one.
    """
    document = first_inside(raw, _TO_DOCUMENTS, most)
    if not document:
        return False
    first = first_inside(document, (1,), 1)
    return document[0] != _FIRST_FIELD or not first or first[0] != _FIRST_FIELD


def read_legacy(raw: bytes, most_fields: int) -> list[Any]:
    """The documents in the request ``raw``, as messages of protobuf; raises RequestError for what is none."""
    kind = _message("Request")
    if has_more_fields(raw, kind.DESCRIPTOR, most_fields):
        raise RequestError(
            f"The request has more than {most_fields:,} fields, counted over all its documents and tags. "
            "Choose a smaller request_size.",
            status=413,
        )
    try:
        return list(kind.FromString(raw).data.docs.docs)
    except Exception as error:
        # Whatever protobuf makes of bytes from outside.
        raise RequestError(
            f"The documents are not those of docarray 0.13 to 0.21 ({type(error).__name__})."
        ) from error


def query_message(document: Any) -> MediaDocument:
    """The message of today's docarray that asks for the same as ``document``."""
    fields = {name: value for name in ("text", "blob", "modality") if (value := getattr(document, name))}
    if document.HasField("embedding"):
        fields["embedding"] = _vector(document)
    return MediaDocument(id=document.id, **fields)


def legacy_fields(document: Any) -> dict[str, Any]:
    """The fields of ``document`` and its matches by name, as in a body of HTTP, but ``blob`` as bytes."""
    if document.tensor:
        raise RequestError(
            f"The document {document.id[:80]!r} brings a tensor; send the photo's file as its blob."
        )
    named = ("id", "text", "blob", "uri", "modality", "mime_type")
    fields = {name: value for name in named if (value := getattr(document, name))}
    if document.HasField("tags"):
        try:
            fields["tags"] = json_format.MessageToDict(document.tags)
        except json_format.Error as error:
            # NaN and infinities, which JSON has not.
            raise RequestError(f"The tags of the document {document.id[:80]!r}: {error}") from None
    if document.matches:
        fields["matches"] = [legacy_fields(match) for match in document.matches]
    return fields


def write_legacy(documents: Iterable[Mapping[str, Any]]) -> bytes:
    """``documents``, fields by name as jina 3's clients get them over HTTP, as the data of an answer."""
    request = _message("Request")()
    for fields in documents:
        _fill(request.data.docs.docs.add(), fields)
    return bytes(request.SerializeToString())


def _fill(document: Any, fields: Mapping[str, Any]) -> None:
    for name in ("id", "text", "uri", "mime_type"):
        if value := fields.get(name):
            setattr(document, name, value)
    if tags := fields.get("tags"):
        json_format.ParseDict(tags, document.tags)
    if (vector := fields.get("embedding")) is not None:
        array = np.asarray(vector, "<f4")
        dense = document.embedding.dense
        dense.buffer, dense.dtype = array.tobytes(), "<f4"
        dense.shape.extend(array.shape)
        document.embedding.cls_name = "numpy"
    for name, score in fields.get("scores", {}).items():
        document.scores.add(key=name).value.value = score["value"]
    for match in fields.get("matches") or ():
        _fill(document.matches.add(), match)


def _vector(document: Any) -> np.ndarray[Any, Any]:
    dense = document.embedding.dense
    if dense.dtype not in _VECTORS:
        raise RequestError(
            f"The embedding of the document {document.id[:80]!r} is of the type {dense.dtype[:20]!r}; it has "
            f"to be a dense vector of one of {', '.join(_VECTORS)}."
        )
    size = np.dtype(dense.dtype).itemsize
    return np.frombuffer(dense.buffer[: len(dense.buffer) // size * size], dense.dtype)


@cache
def _message(name: str) -> Any:
    """The class of one of ``_MESSAGES``."""
    pool = descriptor_pool.Default()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_described()}.{name}"))


@cache
def _described() -> str:
    """Tells protobuf of the messages; returns the name of their package."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            _describe_field(described.field.add(name=name, number=number), kind)
    descriptor_pool.Default().Add(file)
    return _PACKAGE


def _describe_field(field: Any, kind: str) -> None:
    field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
    name = kind.removesuffix("*")
    if name in _MESSAGES or name == "Struct":
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{name}" if name in _MESSAGES else ".google.protobuf.Struct"
    else:
        field.type = field.Type.Value(f"TYPE_{name.upper()}")
