"""What each tool does: its arguments checked as the native API checks them, and its answer as JSON values."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from crossmodal import limits
from crossmodal.errors import RequestError
from crossmodal.http_shapes.v1.answers import render_search
from crossmodal.http_shapes.v1.search import parse_search
from crossmodal.http_shapes.values import checked_id, plain_json, shown
from crossmodal.metadata.locations import without_private
from crossmodal.query.request import SearchOutcome, SearchRequest, Timing
from crossmodal.records import IMAGE
from crossmodal.server.access.locations import hide_locations, require_no_locations
from crossmodal.server.mcp.tools import Tool
from crossmodal.server.routes import problem_of
from crossmodal.server.v1.documents import described_by_id
from crossmodal.server.v1.information import tag_fields
from crossmodal.workspace import Workspace

__all__ = ["Answer", "Library", "call"]

# A condition of a filter inside another one is an object in a list in an object.
_ARGUMENTS_DEPTH = 3 * limits.FILTER_LEVELS.most


class Library(Protocol):
    """The index that tools ask."""

    @property
    def workspace(self) -> Workspace:
        """What is stored."""
        ...

    async def search(self, request: SearchRequest) -> SearchOutcome:
        """What became of one query; raises as ``Engine.search``."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answers: a JSON object, and perhaps a JPEG."""

    value: dict[str, Any]
    picture: bytes | None = None


async def call(tool: Tool, arguments: object, library: Library, *, hidden: bool) -> Answer:
    """Calls ``tool``; ``hidden`` keeps from the caller where photos were taken.

    Raises CrossmodalError with a sentence for the agent where the arguments can't be used.
    """
    given = _checked(tool, arguments)
    if tool.name == "list_facets":
        fields = await asyncio.to_thread(tag_fields, library.workspace, hidden=hidden)
        return Answer({"fields": fields})
    if tool.name == "describe_photo":
        id = checked_id(given["id"], "The id", limits.STORED_ID)
        return await asyncio.to_thread(_describe, library.workspace, id, hidden=hidden)
    return Answer(await _search(tool, given, library, hidden=hidden))


def _checked(tool: Tool, arguments: object) -> Mapping[str, Any]:
    """The arguments where they are those of the tool; what their values may be is for others to say."""
    given = {} if arguments is None else arguments
    if not isinstance(given, dict):
        raise RequestError(f"The arguments are {shown(given)}; they have to be an object.")
    takes = f"it takes {', '.join(tool.arguments)}" if tool.arguments else "it takes none"
    for name in given:
        if name not in tool.arguments:
            raise RequestError(f"{shown(name)} is no argument of {tool.name}; {takes}.")
    for name in tool.required:
        if name not in given:
            raise RequestError(f"{tool.name} needs the argument {name!r}; {takes}.")
    checked: dict[str, Any] = plain_json(given, "The call", depth=_ARGUMENTS_DEPTH)
    return checked


async def _search(tool: Tool, given: Mapping[str, Any], library: Library, *, hidden: bool) -> dict[str, Any]:
    """One result of POST /v1/search."""
    (query,) = parse_search({**given, **tool.fixed})
    if not isinstance(query, SearchRequest):
        raise query
    if hidden:
        require_no_locations(query.filter, query.sort)
        query = replace(query, places=False)
    outcome = await library.search(query)
    if outcome.error is not None:
        raise outcome.error
    if hidden:
        hide_locations(outcome.matches)
    answer = render_search([outcome], model="", timing=Timing(), problem_of=problem_of)
    result: dict[str, Any] = answer["results"][0]
    return result


def _describe(workspace: Workspace, id: str, *, hidden: bool) -> Answer:
    described = described_by_id(workspace, id)
    if described is None:
        raise RequestError(f"There is no photo {shown(id, 80)} in the index.", status=404)
    if described["modality"] != IMAGE:
        photo = described["photo"]
        of = "no photo of the index" if photo is None else f"the photo {shown(photo['id'], 80)}"
        raise RequestError(f"{shown(id, 80)} is a caption, and describes {of}.", status=404)
    if hidden:
        described = {**described, "tags": without_private(described["tags"])}
    thumbnail = workspace.thumbnail(id)
    return Answer(described, None if thumbnail is None else thumbnail[0])
