"""How branches and shards become one again: by document id, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from crossmodal.documents import Document
from crossmodal.match import Match

__all__ = ["join", "match_order", "merge_shards"]

_FIELDS = tuple(field.name for field in fields(Document) if field.name != "id")

# What shards add to each other instead of overwriting it.
_UNITED = ("shard_scores", "shard_states")


def join(branches: Iterable[Sequence[Document]]) -> list[Document]:
    """Merges branches by document id: a later branch overwrites a field unless it left None there.

    Matches are united by id, and so is what each shard said. The order is that of first appearance. A
    document that both branches pass on by reference is taken once.
    """
    merged: dict[str, Document] = {}
    for branch in branches:
        for doc in branch:
            known = merged.setdefault(doc.id, doc)
            if known is not doc:
                _update(known, doc)
    return list(merged.values())


def merge_shards(docs: Sequence[Document], parameters: Mapping[str, Any]) -> None:
    """Puts the matches that several shards left on a document in their order, and cuts them to ``top_k``.

    A document that failed in one of its shards keeps no matches: they would not be the best.
    """
    for doc in docs:
        if doc.error is not None:
            doc.matches = None
        elif doc.matches is not None:
            doc.matches.sort(key=match_order)
            if (top_k := parameters.get("top_k")) is not None:
                del doc.matches[int(top_k) :]


def match_order(match: Match) -> tuple[float, str]:
    """The one order of matches: the cosine falls, equal ones are in order of id."""
    return (-match.cosine, match.id)


def _update(known: Document, doc: Document) -> None:
    for name in _FIELDS:
        value, held = getattr(doc, name), getattr(known, name)
        if value is None or value is held:
            continue
        if name == "matches" and held is not None:
            seen = {match.id for match in held}
            value = [*held, *(match for match in value if match.id not in seen)]
        elif name == "record" and held is not None:
            value = replace(
                value, content=value.content or held.content, thumbnail=value.thumbnail or held.thumbnail
            )
        elif name in _UNITED and held is not None:
            value = [*held, *(part for part in value if part not in held)]
        setattr(known, name, value)
