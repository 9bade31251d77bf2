"""What is to be changed of a document, what takes that back, and which documents are to be deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.http_shapes.documents import captions_of, tags_of
from crossmodal.http_shapes.v1.documents import check_keys
from crossmodal.http_shapes.values import checked_id, checked_text, shown
from crossmodal.records import Amendment, Items

__all__ = ["checked_ids", "parse_amendment", "parse_deletion", "undo_json"]

_KEYS = ("tags", "text", "captions", "add", "remove")
_ITEMS_KEYS = ("tags", "captions")


def parse_amendment(body: object) -> Amendment:
    """What a PATCH of a document changes: ``tags``, ``text`` of a caption, ``captions`` of a photo.

    ``add`` and ``remove`` change tags and captions value by value. Raises RequestError, 422 where it is of
    another shape.
    """
    if not isinstance(body, dict):
        raise RequestError(
            f'The body is {shown(body)}; it has to be an object such as {{"tags": {{"rating": 5}}}}.',
            status=422,
        )
    check_keys(body, _KEYS, "The body")
    if not body:
        raise RequestError(f"The body is empty; there are {', '.join(_KEYS)}.", status=422)
    for key, value in body.items():
        if value is None:
            raise RequestError(f"{key!r} is null; a document cannot be without it.", status=422)
    name = "the document"
    try:
        add, remove = _items(body, "add"), _items(body, "remove")
        return Amendment(
            tags_of(body, name) if "tags" in body else None,
            checked_text(body["text"], f"The text of {name}") if "text" in body else None,
            captions_of({"captions": body["captions"]}, name) if "captions" in body else None,
            Items(_values(add, "'add'"), captions_of({"captions": add.get("captions")}, "'add'")),
            Items(_values(remove, "'remove'"), _removed(remove)),
        )
    except RequestError as error:
        raise RequestError(str(error), status=422) from None


def undo_json(undo: Amendment) -> dict[str, Any]:
    """The body of a PATCH that takes one back; empty where that changed nothing."""

    def items(of: Items) -> dict[str, Any]:
        return _given({"tags": dict(of.tags), "captions": list(of.captions)})

    return _given(
        {"tags": undo.tags, "text": undo.text, "add": items(undo.add), "remove": items(undo.remove)}
    )


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def parse_deletion(body: object) -> list[str]:
    """The ids of the documents to delete; raises RequestError, 422, for any other body."""
    if not isinstance(body, dict) or set(body) != {"ids"}:
        raise RequestError(f"The body is {shown(body)}; it has to be an object with 'ids'.", status=422)
    return checked_ids(body["ids"], limits.DELETED)


def checked_ids(ids: object, limit: limits.Limit) -> list[str]:
    """A list of ids, at least one and not too many; raises RequestError, 422, for anything else."""
    if not isinstance(ids, list) or not ids:
        raise RequestError(f"'ids' is {shown(ids)}; it has to be a list of at least one id.", status=422)
    if len(ids) > limit.most:
        raise RequestError(limit.exceeded("'ids'", len(ids)), status=422)
    try:
        return [checked_id(id, f"ids[{number}]", limits.STORED_ID) for number, id in enumerate(ids)]
    except RequestError as error:
        raise RequestError(str(error), status=422) from None


def _items(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    items = body.get(key, {})
    if not isinstance(items, dict):
        raise RequestError(
            f"{key!r} is {shown(items)}; it has to be an object such as "
            '{"tags": {"keywords": ["beach"]}}.'
        )
    check_keys(items, _ITEMS_KEYS, f"{key!r}")
    return items


def _values(items: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    tags = tags_of(items, name)
    for tag, values in tags.items():
        if not isinstance(values, list) or not all(isinstance(each, str | int | float) for each in values):
            raise RequestError(
                f"The tag {shown(tag)} of {name} is {shown(values)}; it has to be a list of texts, numbers, "
                "true or false."
            )
    return tags


def _removed(items: Mapping[str, Any]) -> list[str]:
    ids = items.get("captions", [])
    if not isinstance(ids, list):
        raise RequestError(f"The captions of 'remove' are {shown(ids)}; they have to be a list of ids.")
    return [
        checked_id(id, f"captions[{number}] of 'remove'", limits.STORED_ID) for number, id in enumerate(ids)
    ]
