"""POST /v1/embeddings in the shape of OpenAI's API, in and out, and the models and errors of that shape.

The shape is that of https://platform.openai.com/docs/api-reference/embeddings, which its clients in many
languages, LangChain and LlamaIndex speak.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.errors import QueryError, RequestError
from crossmodal.http_shapes.photos import decode_data_uri, is_data_uri
from crossmodal.http_shapes.values import checked_text, shown

__all__ = [
    "EmbeddingRequest",
    "is_served",
    "model_json",
    "no_such_model",
    "parse_embeddings",
    "render_embeddings",
    "with_error",
]

_KEYS = ("input", "model", "dimensions", "encoding_format", "user")
_EXAMPLE = '{"input": ["a dog on a beach"], "model": "NAME"}'


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What to encode, in order: sentences (str) and photos (the bytes of their files).

    ``dimensions`` says how many numbers of each vector are wanted, None for all, and ``packed`` whether they
    are sent as base64.
    """

    inputs: tuple[str | bytes, ...]
    dimensions: int | None = None
    packed: bool = False


def parse_embeddings(body: object, *, model: str, dimension: int | None) -> EmbeddingRequest:
    """The request in ``body`` (parsed JSON) to the model of that name, whose vectors have ``dimension``.

    Raises RequestError, 404, for another model, and QueryError for anything else that cannot be used.
    """
    if not isinstance(body, dict):
        raise RequestError(f"The body is {shown(body)}; it has to be a JSON object such as {_EXAMPLE}.")
    for key in body:
        if key not in _KEYS:
            raise _refused(f"{shown(key)} is not known here; there are {', '.join(_KEYS)}.", str(key)[:80])
    named = body.get("model")
    if named is not None and not (isinstance(named, str) and is_served(named, model)):
        raise no_such_model(named, model)
    packed = body.get("encoding_format", "float")
    if packed not in ("float", "base64"):
        raise _refused(
            f"'encoding_format' is {shown(packed)}; it has to be 'float' or 'base64'.", "encoding_format"
        )
    return EmbeddingRequest(
        _inputs(body.get("input")), _dimensions(body.get("dimensions"), dimension), packed == "base64"
    )


def render_embeddings(
    vectors: Sequence[NDArray[np.float32]], *, model: str, packed: bool = False
) -> dict[str, Any]:
    """The answer with ``vectors``, float32 (n,) each, as lists of numbers or ``packed``.

    Packed is base64 of the numbers as little-endian IEEE 754 of 4 bytes.
    """
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": _packed(vector) if packed else vector}
            for number, vector in enumerate(vectors)
        ],
        "model": model,
        # Clients need the keys; tokens are not what anything is counted by here.
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def model_json(name: str, started: float) -> dict[str, Any]:
    """The model that serves, since ``started`` (seconds since 1970), as OpenAI's clients read it."""
    return {"id": name, "object": "model", "created": int(started), "owned_by": "crossmodal"}


def is_served(name: str, model: str) -> bool:
    """Whether a client that says ``name`` means ``model``, whose name may end in options."""
    return name in (model, model.partition("?")[0])


def with_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem document with the member ``error`` that OpenAI's clients read."""
    status = problem["status"]
    pointers = [one["pointer"] for one in problem.get("errors", ())]
    kind = (
        "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    )
    error = {
        "message": problem["detail"],
        "type": kind,
        "param": pointers[0].split("/")[1] if pointers else None,
        "code": "model_not_found" if status == 404 else None,
    }
    return {**problem, "error": error}


def no_such_model(name: object, model: str) -> RequestError:
    """The error of a request for another model than the one that serves."""
    return RequestError(
        f"The model {shown(name)} does not serve here; this server has {model!r}.", status=404
    )


def _inputs(value: object) -> tuple[str | bytes, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise _refused(
            f"'input' is {shown(value)}; it has to be a sentence, a photo as a data URI, or a list of these.",
            "input",
        )
    if len(listed) > limits.EMBEDDED.most:
        raise _refused(limits.EMBEDDED.exceeded("'input'", len(listed)), "input")
    return tuple(
        _input(item, "input" if listed is not value else f"input/{number}")
        for number, item in enumerate(listed)
    )


def _input(item: object, at: str) -> str | bytes:
    if isinstance(item, int) or (isinstance(item, list) and all(isinstance(part, int) for part in item)):
        raise _refused(
            "'input' holds numbers of tokens, which mean nothing to the model here; send the text itself "
            "(LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False).",
            at,
        )
    try:
        if isinstance(item, str) and is_data_uri(item):
            decoded = decode_data_uri(item)
            if decoded.mime_type.startswith("image/"):
                return decoded.content
            raise RequestError(
                f"The data URI holds {shown(decoded.mime_type)}; only images and text can be used."
            )
        return checked_text(item, "The input")
    except RequestError as error:
        if error.status != 400:
            raise
        raise _refused(str(error), at) from None


def _dimensions(value: object, dimension: int | None) -> int | None:
    if value is None:
        return None
    most = dimension or limits.DIMENSION.most
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _refused(
            f"'dimensions' is {shown(value)}; it has to be a whole number from 1 to {most:,}, which "
            "the vectors of this model have.",
            "dimensions",
        )
    return value


def _packed(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _refused(message: str, at: str) -> QueryError:
    return QueryError(message, pointer=f"/{at}")
