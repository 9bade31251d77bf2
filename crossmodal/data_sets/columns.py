"""Which column of a table holds the photo and which the caption."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CAPTION_COLUMNS", "IMAGE_COLUMNS", "caption_column", "image_column"]

# In this order: of two columns that both fit, the earlier name wins and the other becomes a tag.
IMAGE_COLUMNS = (
    "image", "image_path", "path", "file_path", "filepath", "filename", "file_name", "file", "image_file",
    "image_name", "uri", "url", "image_uri", "image_url", "photo", "img",
)  # fmt: skip
CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences", "description", "comment")


def image_column(names: Iterable[str]) -> str | None:
    """The name, as it is spelled in ``names``, of the column that holds a photo's path or URI."""
    return _first_known(names, IMAGE_COLUMNS)


def caption_column(names: Iterable[str]) -> str | None:
    """The name, as it is spelled in ``names``, of the column that holds a caption."""
    return _first_known(names, CAPTION_COLUMNS)


def _first_known(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    spellings = {
        name.strip().lower().replace("-", "_").replace(" ", "_"): name for name in reversed(list(names))
    }
    return next((spellings[name] for name in known if name in spellings), None)
