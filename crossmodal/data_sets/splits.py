"""Splits by name: train, dev (also called val or validation) and test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossmodal.data_sets.lines import read_lines
from crossmodal.data_sets.photos import looks_like_an_image
from crossmodal.errors import DataSetError

__all__ = ["available_splits", "same_split", "split_file", "split_names"]

_DEV = frozenset({"dev", "val", "validation", "valid"})
_MAX_LINE = 10_000


def same_split(name: Any, wanted: str) -> bool:
    """Whether two names mean the same split; dev, val and validation do, and letter case doesn't matter."""
    if not isinstance(name, str):
        return False
    left, right = name.strip().lower(), wanted.strip().lower()
    return left == right or (left in _DEV and right in _DEV)


def available_splits(folder: Path) -> dict[str, Path]:
    """The splits that lie in ``folder`` as text files whose first line is the file name of a photo."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")):
        try:
            first = next(read_lines(path, _MAX_LINE), None)
        except DataSetError:  # a folder, a letter in UTF-16: no split file
            continue
        if first is not None and looks_like_an_image(first.text.strip()) and "," not in first.text:
            found[path.stem] = path
    return found


def split_file(splits: dict[str, Path], wanted: str) -> Path | None:
    """The file of the split ``wanted``, also under Flickr8k's own names such as ``Flickr_8k.devImages``."""
    for name, path in splits.items():
        short = name.partition(".")[2].removesuffix("Images") if name.endswith("Images") else name
        if same_split(short, wanted):
            return path
    return None


def split_names(path: Path) -> dict[str, int]:
    """The photos' file names in a split file, each with its line number, in the file's order."""
    names: dict[str, int] = {}
    for line in read_lines(path, _MAX_LINE):
        if name := line.text.strip():
            names.setdefault(name, line.number)
    return names
