"""What the index knows of the words of a sentence, and requests whose sentences are understood by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crossmodal.filters import And, Filter, parse_filter
from crossmodal.query.expression import Term
from crossmodal.query.recognition import Recognised, understand
from crossmodal.query.request import SearchRequest
from crossmodal.records import IMAGE
from crossmodal.workspace import Workspace

__all__ = ["IndexKnowledge", "recognised"]

# The tags that name places.
PLACE_TAGS = ("city", "region", "country")

# Dates and files that were asked for, of one state of the index.
_MOST_ANSWERS = 1024


class IndexKnowledge:
    """What the photos of an index have in their tags, as it is now. Safe across threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known = _Known(workspace, None)

    def current(self) -> _Known:
        """What is known of the index's last commit; what was asked of it before is remembered."""
        state = self._workspace.state()
        if self._known.state != state:
            self._known = _Known(self._workspace, state)
        return self._known


@dataclass(slots=True)
class _Known:
    """What is known of one state of an index."""

    workspace: Workspace
    state: tuple[str, int] | None
    _places: dict[str, list[tuple[str, str]]] | None = None
    _answers: dict[str, bool] = field(default_factory=dict)

    def has(self, filter: Mapping[str, Any]) -> bool:
        """Whether a photo matches ``filter``."""
        key = json.dumps(filter, sort_keys=True)
        if key not in self._answers:
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            found = bool(self.workspace.list_records(IMAGE, 1, filter=parse_filter(filter)))
            self._answers[key] = found
            return found
        return self._answers.get(key, False)

    def place(self, words: str) -> Mapping[str, Any] | None:
        """The filter for the place of that name, whatever its case; None where there is none."""
        if self._places is None:
            places: dict[str, list[tuple[str, str]]] = {}
            for tag in PLACE_TAGS:
                for value in self.workspace.tag_texts(IMAGE, tag):
                    places.setdefault(value.casefold(), []).append((tag, value))
            self._places = places
        found = self._places.get(words.casefold())
        if not found:
            return None
        (tag, value), *others = found
        if not others:
            return {tag: value}
        return {"$or": [{tag: value} for tag, value in found]}


class _WithoutPlaces:
    """What an index knows, for whoever may not see where photos were taken."""

    def __init__(self, known: _Known) -> None:
        self.has = known.has

    def place(self, words: str) -> None:
        """There is no place that may be told."""


def recognised(request: SearchRequest, known: IndexKnowledge) -> tuple[SearchRequest, tuple[Recognised, ...]]:
    """The request with its sentences as they are understood, and what was recognised in them.

    Only what looks for photos is understood so: captions have no date and no place.
    """
    sentences = [term for term in request.terms if term.text and term.weight > 0 and not term.quoted]
    if not request.recognise or not sentences or request.similar or request.modality not in (None, IMAGE):
        return request, ()
    now = known.current()
    terms: list[Term] = []
    found: list[Recognised] = []
    for term in request.terms:
        if term.text and term.weight > 0 and not term.quoted:
            meant = understand(term.text, now if request.places else _WithoutPlaces(now))
            found += meant.recognised
            if meant.recognised:
                term = replace(term, text=meant.text)
        terms.append(term)
    if not found:
        return request, ()
    filters: list[Filter] = [parse_filter(one.filter) for one in found]
    if request.filter is not None:
        filters.insert(0, request.filter)
    wanted = filters[0] if len(filters) == 1 else And(tuple(filters))
    return replace(request, terms=tuple(terms), filter=wanted), tuple(found)
