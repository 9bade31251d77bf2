"""Photos that repeat others: found by their nearest neighbours, and confirmed by their pixels."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.errors import ObjectsUnavailable
from crossmodal.images.likeness import likeness, outline_of
from crossmodal.query.fusion import LEAST_LIKENESS
from crossmodal.records import IMAGE
from crossmodal.workspace import Workspace

if TYPE_CHECKING:
    from crossmodal.images.likeness import Outline
    from crossmodal.index.protocols import VectorIndex as Neighbours

__all__ = ["DuplicateGroup", "DuplicatePhoto", "Pictures", "find_duplicates"]

# Photos whose neighbours are looked for at once, and how many neighbours of each at first.
_AT_ONCE = 1024
_NEIGHBOURS = 8

# The least cosine of two photos whose pixels are compared: a model sees much less in a photo that was made
# smaller than it was, so that its vector says only where to look. Above the other, there may be more copies
# than neighbours were looked for.
_LEAST_COSINE = 0.5
_CERTAIN_COSINE = 0.95

# Above it, comparing all photos with all takes longer than codes take to be made.
_MOST_EXACT = 200_000

# Outlines that are kept: 8 MB.
_REMEMBERED = 2048


@dataclass(frozen=True, slots=True)
class DuplicatePhoto:
    """A file of a group: the id of its photo, where it lies, and the cosine with the group's first.

    Files of one content are one photo, and so have one id.
    """

    id: str
    path: str
    cosine: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Photos that are one picture: first the one that most of them are near to, then by falling cosine."""

    photos: tuple[DuplicatePhoto, ...]


class Pictures:
    """Says of two photos of an index whether they are one picture. Safe across threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._outlines: OrderedDict[str, Outline | None] = OrderedDict()

    def same(self, one: str, other: str) -> bool:
        """Whether the photos with these ids show the same; also where one has no thumbnail to compare."""
        first, second = self._outline(one), self._outline(other)
        return first is None or second is None or likeness(first, second) >= LEAST_LIKENESS

    def _outline(self, id: str) -> Outline | None:
        with self._lock:
            if id in self._outlines:
                self._outlines.move_to_end(id)
                return self._outlines[id]
        try:
            found = self._workspace.thumbnail(id)
        except ObjectsUnavailable:
            # A search goes on without it, and looks again another time.
            return None
        outline = None if found is None else outline_of(found[0])
        with self._lock:
            self._outlines[id] = outline
            while len(self._outlines) > _REMEMBERED:
                self._outlines.popitem(last=False)
        return outline


def find_duplicates(workspace: Workspace) -> list[DuplicateGroup]:
    """All photos of the index that repeat another, in groups, the largest first.

    Two photos are one picture where they are near neighbours of each other whose pixels are alike
    (``query.fusion.LEAST_LIKENESS``).
    A photo joins the first photo of a group and not another member, so that a chain of small differences
    doesn't join what differs much. A photo that lies in several files stands there with each of them, and so
    does a video: two that share a title card are no copies, so that moments are compared with nothing. Needs
    no model. Raises StoreMissing where there is no index.
    """
    near = _near_photos(workspace)
    pictures = Pictures(workspace)
    groups: dict[str, list[tuple[str, float]]] = {}
    # Whose neighbours are most is likely the original.
    for id in sorted(near, key=lambda id: (-len(near[id]), id)):
        leaders = sorted((other for other in near[id] if other in groups), key=near[id].__getitem__)
        leader = next((other for other in reversed(leaders) if pictures.same(other, id)), None)
        if leader is None:
            groups[id] = []
        else:
            groups[leader].append((id, min(near[id][leader], 1.0)))
    found = {leader: others for leader, others in groups.items() if others}
    grouped = {id for leader, others in found.items() for id in (leader, *dict(others))}
    copies = workspace.require().library.copies()
    found |= {id: [] for id in copies if id not in grouped}
    paths = _paths(workspace, list(grouped))
    made = [
        DuplicateGroup(
            tuple(
                DuplicatePhoto(id, path, cosine)
                for id, cosine in ((leader, 1.0), *sorted(others, key=lambda other: (-other[1], other[0])))
                for path in copies.get(id) or [paths[id]]
            )
        )
        for leader, others in found.items()
    ]
    return sorted(made, key=lambda group: (-len(group.photos), group.photos[0].id))


def _near_photos(workspace: Workspace) -> dict[str, dict[str, float]]:
    """By id, the photos that are nearest to it, or to which it is, with their cosines."""
    near: dict[str, dict[str, float]] = {}
    moments = workspace.require().library.moments()
    with _photo_index(workspace) as index:
        waiting = workspace.ids(IMAGE)
        while ids := list(islice(waiting, _AT_ONCE)):
            vectors = workspace.vectors([id for id in ids if id not in moments], IMAGE)
            for id, others in _neighbours(index, vectors):
                for other, cosine in others:
                    if other in moments:
                        continue
                    # Whichever of the two has closer ones still.
                    near.setdefault(id, {})[other] = cosine
                    near.setdefault(other, {})[id] = cosine
    return near


def _neighbours(
    index: Neighbours, vectors: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """The nearest neighbours of each photo, by falling cosine; all those that may be copies."""
    waiting, depth = list(vectors), _NEIGHBOURS
    while waiting:
        deeper = []
        found = index.search(np.stack([vectors[id] for id in waiting]), depth)
        for id, hits in zip(waiting, found, strict=True):
            others = [(hit.id, hit.cosine) for hit in hits if hit.cosine >= _LEAST_COSINE]
            if len(others) == depth < len(index) and others[-1][1] >= _CERTAIN_COSINE:
                deeper.append(id)
            else:
                yield id, [match for match in others if match[0] != id]
        waiting, depth = deeper, depth * 8


@contextmanager
def _photo_index(workspace: Workspace) -> Iterator[Neighbours]:
    # faiss is loaded only to search.
    from crossmodal.index.embedded.options import EXACT, SearchOptions
    from crossmodal.index.embedded.vector_index import VectorIndex

    store = workspace.require()
    tier = EXACT if workspace.vector_count(IMAGE) <= _MOST_EXACT else "auto"
    index = VectorIndex(store.vector_source(IMAGE), options=SearchOptions.of(tier))
    try:
        yield index
    finally:
        index.close()


def _paths(workspace: Workspace, ids: Sequence[str]) -> dict[str, str]:
    """Where each photo was when it was indexed, or what it is called."""
    found: dict[str, str] = {}
    for start in range(0, len(ids), _AT_ONCE):
        records = workspace.records(ids[start : start + _AT_ONCE], IMAGE)
        found |= {id: record.uri or record.file or id for id, record in records.items()}
    return {id: found.get(id, id) for id in ids}
