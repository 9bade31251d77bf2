"""Which client is asking: told by the shape of its request."""

from __future__ import annotations

from crossmodal.errors import RequestError
from crossmodal.http_shapes.shapes import Envelope
from crossmodal.http_shapes.values import shown

__all__ = ["data_of", "envelope_of", "named_envelope"]


def envelope_of(body: object, path: str, override: str | None = None) -> Envelope:
    """The envelope to answer in; never raises, so that it serves for errors too.

    An override that names no envelope is passed over here (``parse_request`` refuses it). A body that
    is no JSON object, None for one that could not be read included, gets Jina Box's answer: that
    client alone hangs for ever on any other.
    """
    try:
        return named_envelope(override) or _by_shape(body, path)
    except RequestError:
        return _by_shape(body, path)


def named_envelope(name: str | None) -> Envelope | None:
    """The envelope that an override names, None for no override; raises RequestError for an unknown name."""
    if name is None or not name.strip():
        return None
    try:
        return Envelope(name.strip().lower())
    except ValueError:
        known = ", ".join(envelope.value for envelope in Envelope)
        raise RequestError(f"The envelope {shown(name)} is not known; choose one of {known}.") from None


def data_of(body: dict[str, object]) -> object:
    """The items of a request: a list under ``data``, or under ``data.docs`` as some jina 2 clients send."""
    data = body.get("data")
    if isinstance(data, dict) and "docs" in data:
        return data["docs"]
    return data


def _by_shape(body: object, path: str) -> Envelope:
    if not isinstance(body, dict) or ("mode" in body and "parameters" in body):
        return Envelope.JINABOX
    if "mode" in body or "top_k" in body or path.startswith("/api/"):
        return Envelope.JINA1
    data = data_of(body)
    if "targetPeapod" in body or (isinstance(data, list) and any(isinstance(item, str) for item in data)):
        return Envelope.JINA2
    return Envelope.JINA3
