"""Answers of the server from JSON, read by the type hints of the dataclasses that hold them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from crossmodal.client.answers import SearchAnswer
from crossmodal.errors import ClientError

__all__ = ["SHOWN_CHARACTERS", "read_json", "read_search"]

Answer = TypeVar("Answer")
Decoder = Callable[[Any], Any]

# How much of a reply that is no answer of this API an error repeats.
SHOWN_CHARACTERS = 200


def read_json(kind: type[Answer], key: str | None = None) -> Callable[[bytes], Answer]:
    """A reader of reply bodies: the JSON object, or its value at ``key``, as ``kind``.

    The reader skips what ``kind`` has no field for, and raises ClientError for a body of another shape.
    """
    return _reader(lambda answer: _decoded(kind, answer if key is None else answer[key]))


def read_search(body: bytes) -> SearchAnswer:
    """The answer to POST /v1/search; raises ClientError for a body of another shape."""
    answer: SearchAnswer = _reader(_search_answer)(body)
    return answer


def _search_answer(answer: dict[str, Any]) -> Any:
    # A server of an earlier version has no second stage.
    answer["timing"] = {"rerank_ms": 0.0, **answer["timing"]}
    shared = {"model": answer["model"], "timing": answer["timing"]}
    for result in answer["results"]:
        result |= {"terms": [], "modality": None, **(result["query"] or {}), **shared}
        for match in result["matches"]:
            photo = match.get("photo") or {}
            match |= {"photo_id": photo.get("id"), "file": photo.get("file")}
            # Fields that were not asked for.
            for name, empty in (("captions", []), ("tags", {}), ("duplicates", [])):
                match.setdefault(name, empty)
    return _decoded(SearchAnswer, answer)


def _reader(decode: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], Any]:
    def read(body: bytes) -> Any:
        try:
            answer = json.loads(body)
            if not isinstance(answer, dict):
                raise TypeError("not an object")
            return decode(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            shown = body[:SHOWN_CHARACTERS].decode(errors="replace")
            missing = f" ({error.args[0]!r} is missing)" if isinstance(error, KeyError) else ""
            raise ClientError(
                f"This is no answer of the search API{missing}: {shown!r}. Does the address lead to another "
                "server, or to another version?"
            ) from None

    return read


def _decoded(kind: Any, value: Any) -> Any:
    types, decode = _decoder(kind)
    return value if type(value) in types else decode(value)


@cache
def _decoder(kind: Any) -> tuple[tuple[type, ...], Decoder]:
    """The types of the JSON values that pass unchanged for the type hint ``kind``, and a decoder of others.

    The decoder raises KeyError, TypeError or ValueError for what is no such value. Plain values pass without
    a call, as a page of matches has thousands.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (str, int, bool):
        return (kind,), _refuse
    if kind is float:
        return (float, int), _refuse
    if kind is Any:
        return (), lambda value: value
    if origin in (UnionType, Union):
        ((types, decode),) = (_decoder(argument) for argument in arguments if argument is not NoneType)
        return (*types, NoneType), decode
    if origin is Literal:
        return (), lambda value: value if value in arguments else _refuse(value)
    if origin is tuple:
        types, decode = _decoder(arguments[0])
        return (), lambda value: tuple(
            [item if type(item) in types else decode(item) for item in _checked(value, list)]
        )
    if kind == Mapping[str, Any]:
        return (dict,), _refuse
    if origin is Mapping:
        types, decode = _decoder(arguments[1])
        return (), lambda value: {
            name: item if type(item) in types else decode(item)
            for name, item in _checked(value, dict).items()
        }
    return (), _object_decoder(kind)


def _object_decoder(kind: Any) -> Decoder:
    """A decoder for a dataclass or a NamedTuple; what may be None may be missing."""
    fields = [
        (name, NoneType in _decoder(hint)[0], *_decoder(hint)) for name, hint in get_type_hints(kind).items()
    ]

    def decode(value: Any) -> Any:
        items = []
        for name, optional, types, decode_item in fields:
            item = value.get(name) if optional else value[name]
            items.append(item if type(item) in types else decode_item(item))
        return kind(*items)

    return decode


def _checked(value: Any, kind: Any) -> Any:
    return value if isinstance(value, kind) else _refuse(value)


def _refuse(value: Any) -> Any:
    raise TypeError(f"{value!r} is of another type")
