"""What a document says of itself, changed in place: its tags, its text, or the captions of a photo."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crossmodal.errors import DataError
from crossmodal.records import IMAGE, TEXT, Amendment, Failure, Items, Record, composed, record_id
from crossmodal.videos.moments import video_of
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from crossmodal.engine.engine import Engine

__all__ = ["amend"]


def amend(engine: Engine, id: str, amendment: Amendment) -> Amendment | None:
    """Changes the photo, or else the caption, with that id; None where there is none.

    Returns what takes the change back and leaves alone what others change meanwhile. What people give wins
    over what the file says, and what is as the file says it goes on following the file. Only a new text is
    encoded. Raises DataError for what cannot be changed so, and as ``Engine.index``.
    """
    known = engine.workspace.find(id)
    if known is None:
        return None
    tags, undo = _tags(known, amendment)
    records = [_amended(known, amendment, tags, engine.workspace)]
    if amendment.text is not None:
        undo = replace(undo, text=known.text)
    gone: list[Record] = []
    if _changes_captions(amendment):
        # All moments of a video have those of the video, and lose them with it.
        photo = video_of(id)
        there = engine.workspace.captions_of([photo])[photo]
        added, gone = _captions(there, amendment, photo, records[0].tags)
        records += added
        undo = replace(
            undo,
            add=replace(undo.add, captions=[caption.text or "" for caption in gone]),
            remove=replace(undo.remove, captions=[caption.id for caption in added]),
        )
    for indexed in engine.index([each.hashed() for each in records], at_once=1):
        # A failure by itself is a photo whose file would have to be read again, and cannot be.
        failure = indexed if isinstance(indexed, Failure) else indexed.failure
        if failure is not None:
            raise DataError(failure.reason)
    if gone:
        engine.delete([caption.id for caption in gone], captions=False, modality=TEXT)
    return undo


def _changes_captions(amendment: Amendment) -> bool:
    return amendment.captions is not None or bool(amendment.add.captions or amendment.remove.captions)


def _amended(known: Record, amendment: Amendment, tags: Mapping[str, Any], workspace: Workspace) -> Record:
    changed: dict[str, Any] = {"tags": tags}
    if amendment.text is not None:
        if known.modality == IMAGE:
            raise DataError("A photo has no text of its own; change its captions.")
        # The file that it came from says something else.
        changed |= {"text": amendment.text, "origin": None}
    if _changes_captions(amendment) and known.modality == TEXT:
        raise DataError("A caption has no captions; change its text.")
    if known.local is not None and workspace.library is not None:
        # With what is known of the file, so that it isn't read again for nothing.
        changed["local"] = next(iter(workspace.library.files_of(known.id)), known.local)
    return replace(known, **changed, keeps=(), content_hash="")


def _tags(known: Record, amendment: Amendment) -> tuple[dict[str, Any], Amendment]:
    """The tags of people as they become, and what takes that back."""
    patch, shown = composed(amendment.tags or {}), known.all_tags
    wanted = _merged({name: shown[name] for name in patch if name in shown}, patch)
    add, remove = composed(amendment.add.tags), composed(amendment.remove.tags)
    gained: dict[str, list[Any]] = {}
    lost: dict[str, list[Any]] = {}
    for name in dict.fromkeys([*remove, *add]):
        if name in patch:
            raise DataError(f"The tag {name!r} is given and its values are changed; do one of these.")
        there = _values(shown.get(name))
        kept = [value for value in there if value not in remove.get(name, ())]
        now = [*kept, *(value for value in add.get(name, ()) if value not in kept)]
        wanted[name] = now or None
        gained[name] = [value for value in now if value not in there]
        lost[name] = [value for value in there if value not in now]
    tags = dict(known.tags)
    for name in [*patch, *gained]:
        value, of_file = wanted.get(name), known.metadata.get(name)
        if value is None and of_file is not None:
            # Else the file's would show again.
            tags[name] = None
        elif value is None or _is_same(value, of_file):
            tags.pop(name, None)
        else:
            tags[name] = value
    undo = Amendment(
        tags=_merge_back(shown, patch) if patch else None,
        add=Items({name: values for name, values in lost.items() if values}),
        remove=Items({name: values for name, values in gained.items() if values}),
    )
    return tags, undo


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_same(value: Any, other: Any) -> bool:
    """Whether two tags have the same values, in any order."""
    values, others = _values(value), _values(other)
    return len(values) == len(others) and all(each in others for each in values)


def _captions(
    there: Sequence[Record], amendment: Amendment, photo: str, tags: Mapping[str, Any]
) -> tuple[list[Record], list[Record]]:
    """The captions to add to those that are ``there``, and those to delete."""
    wanted = None if amendment.captions is None else {composed(text) for text in amendment.captions}
    gone = [
        caption
        for caption in there
        if caption.id in amendment.remove.captions or (wanted is not None and caption.text not in wanted)
    ]
    kept = {caption.id: caption.text for caption in there if caption not in gone}
    texts = dict.fromkeys(composed(text) for text in [*(amendment.captions or ()), *amendment.add.captions])
    added = [
        Record(
            _free_id(photo, text, kept),
            TEXT,
            text=text,
            mime_type="text/plain",
            photo_id=photo,
            tags=tags,
        )
        for text in texts
        if text not in kept.values()
    ]
    # One that is added under the id of one that goes takes its place.
    ids = {caption.id for caption in added}
    return added, [caption for caption in gone if caption.id not in ids]


def _free_id(photo: str, text: str, taken: Collection[str]) -> str:
    """The id of a new caption: as of one that is uploaded with its photo, where no other one has that."""
    id = record_id(f"caption:{photo}:{text}")
    while id in taken:
        # Its text was changed.
        id = record_id(f"{id}:{text}")
    return id


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


def _merge_back(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that takes another one back."""
    back: dict[str, Any] = {}
    for name, value in patch.items():
        before = back[name] = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            back[name] = _merge_back(before, value)
    return back
