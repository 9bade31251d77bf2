"""What stays the same for all stages of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.training.content_store import ContentStore

__all__ = ["Resources"]


@dataclass(frozen=True)
class Resources:
    """Photos' squares by preprocessing, folders, precision, and how teachers are loaded.

    ``folder`` keeps what is computed once; ``withheld`` are the dev photos' captions. ``models`` (the
    registry's cache), ``threads`` and ``trust_remote_code`` are those of ``load_image_encoder``. ``progress``
    gets what is being computed, how much of it is done and how much there is.
    """

    squares: dict[ImagePreprocessing, ContentStore]
    folder: Path
    withheld: Sequence[str]
    models: Path | None
    threads: int | None
    trust_remote_code: bool
    bfloat16: bool
    progress: Callable[[str, int, int], None]
