"""What is added to the matches that are shown, as far as the limit of an answer goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from crossmodal import limits
from crossmodal.engine.ranking import SearchState
from crossmodal.match import LEFT_OUT, Caption, Match
from crossmodal.query.request import SearchOutcome
from crossmodal.records import IMAGE, TEXT, Modality, json_size
from crossmodal.videos.moments import video_of
from crossmodal.workspace import Workspace

__all__ = ["cut_to", "describe"]

# So many are read at once: in between, those of answers that are large enough are given up.
_AT_ONCE = 64


def describe(states: Sequence[SearchState], workspace: Workspace) -> None:
    """Adds to each state's matches what only the other store knows: captions, and whose photo it is.

    Matches whose texts and tags are more than an answer may have are taken out of their outcome, which is
    marked as truncated; the first one stays.
    """
    left = {id(state): limits.ANSWER.most for state in states}
    shown = ((state, match, rank) for state in states for rank, match in enumerate(state.outcome.matches))
    while chunk := list(islice(shown, _AT_ONCE)):
        chunk = [entry for entry in chunk if not entry[0].outcome.truncated]
        _add_tags(chunk, workspace)
        _add_captions([match for state, match, _ in chunk if "captions" in state.request.fields], workspace)
        _add_photos([match for state, match, _ in chunk if "photo" in state.request.fields], workspace)
        for state, match, rank in chunk:
            left[id(state)] -= _size(state.outcome, match)
            if rank and left[id(state)] < 0 and not state.outcome.truncated:
                _cut(state.outcome, rank)


def cut_to(outcomes: Sequence[SearchOutcome], most: int) -> int:
    """Cuts answers, from the first on, to ``most`` bytes of texts and tags together; returns what is left."""
    for outcome in outcomes:
        for rank, match in enumerate(outcome.matches):
            most -= _size(outcome, match)
            if rank and most < 0:
                _cut(outcome, rank)
                break
    return max(most, 0)


def _cut(outcome: SearchOutcome, rank: int) -> None:
    del outcome.matches[rank:]
    outcome.truncated = outcome.has_more = True


def _size(outcome: SearchOutcome, match: Match) -> int:
    fields = () if outcome.request is None else outcome.request.fields
    size = len(match.text or "") if "text" in fields else 0
    size += json_size(match.tags) if "tags" in fields and match.tags else 0
    return size + sum(len(caption.text) for caption in match.captions)


def _add_tags(chunk: Sequence[tuple[SearchState, Match, int]], workspace: Workspace) -> None:
    """Reads tags that were too many to come with the matches."""
    wanted: dict[Modality, list[Match]] = {IMAGE: [], TEXT: []}
    for state, match, _ in chunk:
        if LEFT_OUT in match.tags and "tags" in state.request.fields:
            wanted[match.modality].append(match)
    for modality, matches in wanted.items():
        if matches:
            records = workspace.records([match.id for match in matches], modality)
            for match in matches:
                if (record := records.get(match.id)) is not None:
                    match.tags = record.all_tags


def _add_captions(matches: Sequence[Match], workspace: Workspace) -> None:
    photos = [match for match in matches if match.modality == IMAGE]
    if photos:
        # A moment of a video has the captions of that.
        captions_of = workspace.captions_of([video_of(match.id) for match in photos])
        for match in photos:
            match.captions = tuple(
                [Caption(caption.id, caption.text or "") for caption in captions_of[video_of(match.id)]]
            )


def _add_photos(matches: Sequence[Match], workspace: Workspace) -> None:
    captions = [match for match in matches if match.modality == TEXT and match.photo_id]
    if captions:
        known = workspace.records({match.photo_id or "" for match in captions}, IMAGE)
        for match in captions:
            photo = known.get(match.photo_id or "")
            match.photo_id = None if photo is None else photo.id
            match.file = None if photo is None else photo.file
    looks = workspace.looks([match.photo_id for match in matches if match.photo_id])
    for match in matches:
        match.look = looks.get(match.photo_id or "")
