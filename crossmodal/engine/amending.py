"""What a document says of itself, changed in place: its tags, its text, or the captions of a photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crossmodal.errors import DataError
from crossmodal.records import IMAGE, TEXT, Amendment, Failure, Record, composed, record_id
from crossmodal.videos.moments import video_of
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["amend"]


def amend(engine: Engine, id: str, amendment: Amendment) -> bool:
    """Changes the photo, or else the caption, with that id; False where there is none.

    Only a new text is encoded. Raises DataError for what cannot be changed so, and as ``Engine.index``.
    """
    known = engine.workspace.find(id)
    if known is None:
        return False
    records = [_amended(known, amendment, engine.workspace)]
    gone: list[str] = []
    if amendment.captions is not None:
        # All moments of a video have those of the video, and lose them with it.
        photo = video_of(id)
        there = engine.workspace.captions_of([photo])[photo]
        added, gone = _captions(there, amendment.captions, photo, records[0].tags)
        records += added
    for indexed in engine.index([each.hashed() for each in records], at_once=1):
        # A failure by itself is a photo whose file would have to be read again, and cannot be.
        failure = indexed if isinstance(indexed, Failure) else indexed.failure
        if failure is not None:
            raise DataError(failure.reason)
    if gone:
        engine.delete(gone, captions=False, modality=TEXT)
    return True


def _amended(known: Record, amendment: Amendment, workspace: Workspace) -> Record:
    changed: dict[str, Any] = {}
    if amendment.tags is not None:
        changed["tags"] = _merged(known.tags, amendment.tags)
    if amendment.text is not None:
        if known.modality == IMAGE:
            raise DataError("A photo has no text of its own; change its captions.")
        # The file that it came from says something else.
        changed |= {"text": amendment.text, "origin": None}
    if amendment.captions is not None and known.modality == TEXT:
        raise DataError("A caption has no captions; change its text.")
    if known.local is not None and workspace.library is not None:
        # With what is known of the file, so that it isn't read again for nothing.
        changed["local"] = next(iter(workspace.library.files_of(known.id)), known.local)
    return replace(known, **changed, keeps=(), content_hash="")


def _captions(
    there: Sequence[Record], wanted: Sequence[str], photo: str, tags: Mapping[str, Any]
) -> tuple[list[Record], list[str]]:
    """The captions to add so that those ``there`` become the ``wanted`` ones, and the ids to delete."""
    texts = dict.fromkeys(composed(text) for text in wanted)
    gone = [caption.id for caption in there if caption.text not in texts]
    for caption in there:
        texts.pop(caption.text, None)
    added = [
        Record(
            # As of a caption that is uploaded with its photo.
            record_id(f"caption:{photo}:{text}"),
            TEXT,
            text=text,
            mime_type="text/plain",
            photo_id=photo,
            tags=tags,
        )
        for text in texts
    ]
    return added, gone


def _merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            before = merged.get(name)
            merged[name] = _merged(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged
