"""How branches and shards become one again: by document id, field by field."""

from __future__ import annotations

from collections.abc import Iterable

from docarray import DocList

from crossmodal.documents import MediaDocument

__all__ = ["join"]


def join(branches: Iterable[DocList]) -> DocList:
    """Merges branches by document id: a later branch overwrites a field unless it left None there.

    Matches and the scores of shards are united by id. The order is that of first appearance. This is jina's
    own rule for two branches; for three, jina leaves a document twice that only the second and the third
    hold.
    """
    merged: dict[str, MediaDocument] = {}
    for branch in branches:
        for doc in branch:
            known = merged.get(str(doc.id))
            if known is None:
                merged[str(doc.id)] = doc
            elif known is not doc:
                _update(known, doc)
    return DocList[MediaDocument](list(merged.values()))


def _update(known: MediaDocument, doc: MediaDocument) -> None:
    for name, value in doc.__dict__.items():
        # Branches in one process share what they have not changed, and setting a field takes microseconds.
        if value is None or value is known.__dict__[name]:
            continue
        if name == "outcome" and value == "unchanged" and known.outcome is not None:
            continue
        if name == "trail" and known.trail is not None:
            value = [*known.trail, *value]
        if name in ("matches", "shard_scores") and (held := getattr(known, name)) is not None:
            seen = {str(part.id) for part in held}
            value = type(value)([*held, *(part for part in value if str(part.id) not in seen)])
        setattr(known, name, value)
