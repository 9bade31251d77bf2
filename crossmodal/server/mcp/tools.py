"""The tools that agents are offered: names, sentences that say when to use them, and JSON schemas.

What a tool takes and answers are parts of the native API's own description, so that both say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from crossmodal import limits
from crossmodal.records import IMAGE, TEXT
from crossmodal.server.v1.openapi import read_openapi

__all__ = ["INSTRUCTIONS", "Tool", "tools"]

INSTRUCTIONS = (
    "An index of photos and their captions. search_photos finds photos for a sentence that says what is to "
    "be seen; describe_photo then shows one, with its captions and tags. Before filtering, list_facets says "
    "which tags there are. A result with fits false holds nothing that fits well, and doubt says why."
)

_OPTIONS_OF_ALL = ("top_k", "offset", "min_score", "filter", "group_duplicates", "sort", "explain")
_OPTIONS = (*_OPTIONS_OF_ALL, "hybrid", "recognise")
_OPTIONS_OF_SIMILAR = ("modality", *_OPTIONS_OF_ALL)

_TEXT = {
    "type": "string",
    "minLength": 1,
    "maxLength": limits.SENTENCE.most,
    "description": "A sentence that says what is to be found, such as: people climb the stairs",
}
_ID = {
    "type": "string",
    "minLength": 1,
    "maxLength": limits.STORED_ID.most,
    "description": "The id of a photo or a caption, as searches answer with it.",
}


@dataclass(frozen=True, slots=True)
class Tool:
    """What agents are told of one tool: JSON schemas of its ``arguments``, by name, and of its ``answer``.

    ``required`` names the arguments that have to be there. ``fixed`` is what a tool that searches adds to its
    arguments to make them a query of POST /v1/search.
    """

    name: str
    title: str
    description: str
    arguments: Mapping[str, Any]
    required: tuple[str, ...]
    answer: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def input_schema(self) -> dict[str, Any]:
        """The JSON schema of all arguments together."""
        return {
            "type": "object",
            "properties": dict(self.arguments),
            "required": list(self.required),
            "additionalProperties": False,
        }


@cache
def tools() -> Mapping[str, Tool]:
    """Every tool by its name, in the order in which they are listed."""
    found = _schema("QueryResult")
    offered = (
        Tool(
            "search_photos",
            "Search photos",
            "Finds the photos that fit a sentence best, the best first, with their captions and tags.",
            {"text": _TEXT, **_options(_OPTIONS)},
            ("text",),
            found,
            {"modality": IMAGE},
        ),
        Tool(
            "search_captions",
            "Search captions",
            "Finds the captions of photos that fit a sentence best, each with the photo that it describes.",
            {"text": _TEXT, **_options(_OPTIONS)},
            ("text",),
            found,
            {"modality": TEXT},
        ),
        Tool(
            "find_similar",
            "Find similar photos or captions",
            "Finds the photos most like a photo of the index, or the captions most like a caption. With the "
            "modality text it finds captions that fit a photo, with image photos that fit a caption.",
            {"id": _ID, **_options(_OPTIONS_OF_SIMILAR)},
            ("id",),
            found,
        ),
        Tool(
            "describe_photo",
            "Describe a photo",
            "What is known of one photo, its captions and tags, and a small picture of it to look at.",
            {"id": {**_ID, "description": "The id of a photo, as searches answer with it."}},
            ("id",),
            _schema("Document"),
        ),
        Tool(
            "list_facets",
            "List facets",
            "The tags of photos and captions, for filter and sort, each with its most frequent values.",
            {},
            (),
            {
                "type": "object",
                "required": ["fields"],
                "properties": {"fields": {"type": "array", "items": _schema("TagField")}},
            },
        ),
    )
    return {tool.name: tool for tool in offered}


def _options(names: tuple[str, ...]) -> dict[str, Any]:
    options = _schema("Options")["properties"]
    return {name: options[name] for name in names}


def _schema(name: str) -> dict[str, Any]:
    """A schema of the native API's description, with those that it refers to inside of it."""
    inlined: dict[str, Any] = _inlined(read_openapi()["components"]["schemas"][name])
    return inlined


def _inlined(value: Any) -> Any:
    if isinstance(value, list):
        return [_inlined(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _schema(value["$ref"].rpartition("/")[2])
    return {key: _inlined(item) for key, item in value.items()}
