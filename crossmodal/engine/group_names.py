"""Names of the groups that photos form on the map of those that are alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossmodal.deadlines import check_deadline
from crossmodal.engine.layout import Layout
from crossmodal.index.protocols import FacetRequest
from crossmodal.query.groups import grouped, names_of
from crossmodal.query.subjects import SUBJECTS
from crossmodal.records import IMAGE
from crossmodal.workspace import Workspace

__all__ = ["GroupName", "GroupNames"]

# Groups are found among so many photos, spread over all of them.
_MOST_PHOTOS = 4000

# On each level there are so many times as many groups as on the one before, of so many photos at least.
_FINER = 4
_LEAST_PHOTOS = 12
_FIRST_GROUPS = (2, 12)
_LEVELS = 3

# A word has to be that much nearer to a group than usual: seen on a few kinds of COCO's photos.
_LEAST_COSINE = 0.4

_TAG = "keywords"
_MOST_TAGS = 100
_LONGEST_TAG = 40

# The photos in the middle of a group, of which some may be filtered out.
_MIDDLE = 5


@dataclass(frozen=True, slots=True)
class GroupName:
    """``text`` that says what a group of photos shows, and the ``ids`` of those in its middle, nearest first.

    ``level`` is 0 for the largest groups; those of each further one are a quarter as large.
    """

    text: str
    ids: tuple[str, ...]
    level: int


class GroupNames:
    """The names of the groups of a layout, remembered until there is another one. Safe across threads."""

    def __init__(self, workspace: Workspace, encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> None:
        self._workspace = workspace
        self._encode = encode
        self._lock = threading.Lock()
        self._ids: tuple[str, ...] = ()
        self._names: list[GroupName] = []

    def of(self, layout: Layout) -> list[GroupName]:
        """The names of the groups of ``layout``, those of the largest groups of each level first.

        They are words for what photos show, and the most frequent keywords of the index, whichever the model
        finds nearest. Raises what encoding a sentence raises.
        """
        with self._lock:
            if self._ids is not layout.ids:
                self._names, self._ids = self._made(layout), layout.ids
            return self._names

    def _made(self, layout: Layout) -> list[GroupName]:
        count = min(_MOST_PHOTOS, len(layout.ids))
        chosen = np.linspace(0, len(layout.ids) - 1, count).round().astype(int)
        vectors = self._workspace.vectors([layout.ids[number] for number in chosen], IMAGE)
        chosen = np.array([number for number in chosen if layout.ids[number] in vectors], int)
        if len(chosen) < _LEAST_PHOTOS:
            return []
        ids, places = [layout.ids[number] for number in chosen], layout.places[chosen]
        photos = np.stack([vectors[id] for id in ids])
        words = self._words()
        check_deadline()
        of_words = self._encode(words)
        names = []
        number = int(np.clip(round(np.sqrt(count) / 4), *_FIRST_GROUPS))
        for level in range(_LEVELS):
            if number * _LEAST_PHOTOS > count:
                break
            check_deadline()
            group = grouped(places, number)
            named = names_of(photos, group, number, of_words, _LEAST_COSINE)
            for each in sorted(named, key=lambda each: -int((group == each).sum())):
                members = np.flatnonzero(group == each)
                if len(members) < 2:
                    continue
                apart = np.square(places[members] - places[members].mean(axis=0)).sum(axis=1)
                middle = tuple(ids[members[at]] for at in np.argsort(apart)[:_MIDDLE])
                names.append(GroupName(words[named[each]], middle, level))
            number *= _FINER
        return names

    def _words(self) -> list[str]:
        tags = self._workspace.facet(IMAGE, FacetRequest(_TAG, limit=_MOST_TAGS)).values
        own = [str(tag.value) for tag in tags if 1 < len(str(tag.value).strip()) <= _LONGEST_TAG]
        return list(dict.fromkeys([*own, *SUBJECTS]))
