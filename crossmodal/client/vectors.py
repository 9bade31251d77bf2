"""Sentences and photos on their way to be encoded, and the vectors that come back."""

from __future__ import annotations

import base64
import json
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crossmodal.client.exchange import Call, encode_json
from crossmodal.errors import ClientError

__all__ = ["Encodable", "encode_calls", "photo_content"]

# A sentence, the path of a photo's file, or its bytes.
Encodable = str | os.PathLike[str] | bytes

# What one request brings at most; one photo may have more bytes.
_INPUTS = 64
_BYTES = 16 * 1024 * 1024


def encode_calls(
    inputs: Sequence[Encodable] | Encodable, dimensions: int | None
) -> Iterator[Call[tuple[array[float], ...]]]:
    """POST /v1/embeddings for ``inputs``, some at a time; files are read when their turn comes.

    Raises ClientError for a file that cannot be read.
    """
    listed = [inputs] if isinstance(inputs, str | bytes | os.PathLike) else inputs
    batch: list[str] = []
    size = 0
    for item in listed:
        sent = item if isinstance(item, str) else _data_uri(item)
        if batch and (len(batch) == _INPUTS or size + len(sent) > _BYTES):
            yield _call(batch, dimensions)
            batch, size = [], 0
        batch.append(sent)
        size += len(sent)
    if batch:
        yield _call(batch, dimensions)


def photo_content(image: str | os.PathLike[str] | bytes) -> bytes:
    """The bytes of a photo, or of its file; raises ClientError where it cannot be read."""
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ClientError(f"The photo {os.fspath(image)!r} cannot be read: {reason}.") from None


def _data_uri(photo: os.PathLike[str] | bytes) -> str:
    # The server looks at the bytes for their type.
    return f"data:application/octet-stream;base64,{base64.b64encode(photo_content(photo)).decode('ascii')}"


def _call(batch: Sequence[str], dimensions: int | None) -> Call[tuple[array[float], ...]]:
    body: dict[str, Any] = {"input": batch, "encoding_format": "base64"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    headers = {"Content-Type": "application/json"}
    return Call("POST", "/v1/embeddings", _read_vectors, {"content": encode_json(body), "headers": headers})


def _read_vectors(body: bytes) -> tuple[array[float], ...]:
    try:
        listed = sorted(json.loads(body)["data"], key=lambda one: one["index"])
        return tuple(_unpacked(one["embedding"]) for one in listed)
    except (KeyError, TypeError, ValueError) as error:
        raise ClientError(
            f"This is no answer with embeddings ({error}). Does the address lead to another server, or to "
            "another version?"
        ) from None


def _unpacked(text: str) -> array[float]:
    """The numbers that are base64 of little-endian IEEE 754 of 4 bytes."""
    vector = array("f", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
