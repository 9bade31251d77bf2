"""What clip-as-service's client asks for, /encode and /rank, in and out, in the envelope of jina 3.

The names of the scores are those of https://clip-as-service.jina.ai/user-guides/client/#ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.http_shapes.legacy.items import QueryItem, parse_query
from crossmodal.http_shapes.values import plain_json, shown
from crossmodal.url_photos import FetchedPhotos

__all__ = ["EncodedItem", "Encoding", "encoding_of", "inputs_of", "parse_encoded", "rendered_items"]

# What CLIP's models were trained to multiply cosines with, the most that its training allowed (Radford et
# al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, 2.5).
_LOGIT_SCALE = 100.0

_ENCODINGS: Mapping[str, Literal["encode", "rank"]] = {"encode": "encode", "rank": "rank"}

# Of a match that is put in order: what tells a client which one it is. Photos are not sent back.
_SENT_BACK = ("text", "uri", "mime_type", "tags")


@dataclass(frozen=True, slots=True)
class EncodedItem:
    """A sentence or a photo to encode, and what is to be put in order by its likeness to it."""

    query: QueryItem
    sent_back: Mapping[str, Any]
    matches: tuple[EncodedItem, ...] = ()


class Encoding(NamedTuple):
    """What clip-as-service's client asks for: to encode or to rank, by the ``model`` that it may name."""

    name: Literal["encode", "rank"]
    model: str | None


def encoding_of(endpoint: str) -> Encoding | None:
    """What an endpoint like /encode or /rank/MODEL stands for, None for any other."""
    name, _, model = endpoint.strip("/").partition("/")
    known = _ENCODINGS.get(name)
    return None if known is None else Encoding(known, model or None)


def parse_encoded(
    items: Sequence[object], *, ranked: bool, host: str | None, fetched: FetchedPhotos | None
) -> tuple[EncodedItem, ...]:
    """What ``items`` bring, each with its matches where they are to be ``ranked``; clients need all of it.

    Raises RequestError for one that cannot be encoded, 413 for too many.
    """
    parsed = [_parse(item, f"data[{number}]", host, fetched, ranked) for number, item in enumerate(items)]
    number = sum(1 + len(item.matches) for item in parsed)
    if number > limits.EMBEDDED.most:
        raise RequestError(limits.EMBEDDED.exceeded("'data'", number), 413)
    return tuple(parsed)


def _parse(
    item: object, name: str, host: str | None, fetched: FetchedPhotos | None, ranked: bool
) -> EncodedItem:
    query = parse_query(item, name, host, fetched)
    if query.indexed_id is not None:
        raise RequestError(f"{name} names a photo of the index; send the photo itself, or search with it.")
    given = item if isinstance(item, dict) else {}
    sent_back = {key: given[key] for key in _SENT_BACK if given.get(key)}
    matches: object = given.get("matches") if ranked else []
    if not isinstance(matches, list) or (ranked and not matches):
        raise RequestError(
            f"The matches of {name} are {shown(matches)}; /rank needs a list of documents to put in order."
        )
    if len(matches) > limits.EMBEDDED.most:
        raise RequestError(limits.EMBEDDED.exceeded(f"{name}.matches", len(matches)), 413)
    return EncodedItem(
        query,
        plain_json(sent_back, name),
        tuple(
            _parse(match, f"{name}.matches[{number}]", host, fetched, False)
            for number, match in enumerate(matches)
        ),
    )


def inputs_of(items: Sequence[EncodedItem]) -> list[str | bytes]:
    """The sentences and photos to encode: each item's own, followed by those of its matches."""
    return [
        one.query.content if one.query.content is not None else (one.query.text or "")
        for item in items
        for one in (item, *item.matches)
    ]


def rendered_items(
    items: Sequence[EncodedItem], vectors: Sequence[NDArray[np.float32]]
) -> list[dict[str, Any]]:
    """The documents of the answer, from the unit vectors, float32 (n,), of ``inputs_of``.

    An item without matches has its vector; one with matches has those, the likeliest first, with their cosine
    (``clip_score_cosine``) and how likely each one is beside the others (``clip_score``, the softmax of the
    scaled cosines).
    """
    coming = iter(vectors)
    documents = []
    for item in items:
        own = next(coming)
        document: dict[str, Any] = {"id": item.query.id, **item.sent_back}
        if item.matches:
            others = np.stack([next(coming) for _ in item.matches]).astype(np.float64)
            document["matches"] = _ranked(item.matches, others @ own.astype(np.float64))
        else:
            document |= {"embedding": own, "matches": []}
        documents.append(document)
    return documents


def _ranked(matches: Sequence[EncodedItem], cosines: NDArray[np.float64]) -> list[dict[str, Any]]:
    powers = np.exp(_LOGIT_SCALE * (cosines - cosines.max()))
    likely = powers / powers.sum()
    return [
        {
            "id": matches[at].query.id,
            **matches[at].sent_back,
            "scores": {
                "clip_score": {"value": float(likely[at]), "op_name": "softmax"},
                "clip_score_cosine": {"value": float(cosines[at]), "op_name": "cosine"},
            },
        }
        for at in np.argsort(-cosines, kind="stable")
    ]
