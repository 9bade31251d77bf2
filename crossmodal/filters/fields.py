"""How a filter writes the name of a tag, and of the modality."""

from __future__ import annotations

__all__ = ["MODALITY_FIELD", "field_name", "tag_name"]

MODALITY_FIELD = "modality"

_TAGS_PREFIX = "tags."


def tag_name(field: str) -> str | None:
    """The tag that ``field`` means, its keys joined by dots; None for the document's modality.

    ``tags.NAME`` means the same as ``NAME``, and is how a tag named ``modality`` is reached.
    """
    if field == MODALITY_FIELD:
        return None
    return field.removeprefix(_TAGS_PREFIX)


def field_name(tag: str | None) -> str:
    """The reverse of ``tag_name``, with the prefix only where the bare name would mean something else."""
    if tag is None:
        return MODALITY_FIELD
    if tag == MODALITY_FIELD or tag.startswith((_TAGS_PREFIX, "$")):
        return _TAGS_PREFIX + tag
    return tag
