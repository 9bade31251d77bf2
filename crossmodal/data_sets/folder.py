"""A folder of images, at any depth, without captions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crossmodal.data_sets.data_set import DataSet, Limits, Mention
from crossmodal.data_sets.photos import looks_like_an_image
from crossmodal.records import Failure

__all__ = ["FolderOfImages", "PassedOver", "count_images", "find_images"]


class PassedOver:
    """What a search for images skipped on purpose, to be reported at its end."""

    def __init__(self) -> None:
        self.hidden = 0
        self.others: Counter[str] = Counter()
        self.folders_met_before = 0
        self.unreadable = 0

    def notes(self, folder: Path) -> list[str]:
        """One sentence for each kind; none where nothing was passed over."""
        notes = []
        if self.others:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.others.most_common(5))
            more = ", ..." if len(self.others) > 5 else ""
            notes.append(
                f"{folder}: passed over {self.others.total():,} files that are not images ({kinds}{more})"
            )
        if self.hidden:
            notes.append(f"{folder}: passed over {self.hidden:,} hidden files and folders")
        if self.folders_met_before:
            notes.append(
                f"{folder}: passed over {self.folders_met_before:,} links to folders already visited"
            )
        return notes


def find_images(folder: Path, passed_over: PassedOver) -> Iterator[str | Failure]:
    """Yields the absolute path of every image below ``folder``, by name.

    A folder that cannot be read is a failure, and the search goes on. An image is what has an image's
    extension, whatever it is (the reader reports it). Hidden files and folders are left out. Links are
    followed last; a folder is visited once, however many links lead to it.
    """
    # A stack of paths and not of open folders: a tree can be deeper than the number of open files.
    waiting = [os.path.abspath(folder)]  # noqa: PTH100  (keeps symlinks)
    # Links wait until all real folders are visited: a photo keeps its own path, and so its id, when someone
    # links to its folder later.
    links: list[str] = []
    visited: set[tuple[int, int]] = set()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop()
        try:
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in visited:
                passed_over.folders_met_before += 1
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                found = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except OSError as error:
            passed_over.unreadable += 1
            yield Failure(here, f"the folder cannot be read: {error.strerror}")
            continue
        for name, is_folder in found:
            path = os.path.join(here, name)  # noqa: PTH118
            if name.startswith("."):
                passed_over.hidden += 1
            elif is_folder:
                if looks_like_an_image(name):
                    yield Failure(path, "is a folder, although its name is that of an image")
            elif looks_like_an_image(name):
                yield path
            else:
                passed_over.others[os.path.splitext(name)[1].lower() or "without extension"] += 1  # noqa: PTH122
        for name, is_folder in reversed(found):
            if is_folder and not name.startswith("."):
                path = os.path.join(here, name)  # noqa: PTH118
                (links if os.path.islink(path) else waiting).append(path)  # noqa: PTH114


def count_images(folder: Path) -> int:
    """How many images ``find_images`` would yield."""
    return sum(isinstance(path, str) for path in find_images(folder, PassedOver()))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; reading it reports that
        return False


class FolderOfImages(DataSet):
    """Every image below a folder."""

    def __init__(self, name: str, folder: Path, *, limits: Limits, content: bool) -> None:
        super().__init__(name, f"folder of images {folder}", limits, content)
        self.folder = folder
        self.root = Path(os.path.abspath(folder))  # noqa: PTH100  (keeps symlinks)

    def below(self, folder: Path) -> FolderOfImages:
        """The same for a folder inside of it."""
        return FolderOfImages(str(folder), folder, limits=self.limits, content=self.content)

    def mentions(self) -> Iterator[Mention | Failure]:
        passed_over = PassedOver()
        for path in find_images(self.folder, passed_over):
            yield path if isinstance(path, Failure) else Mention(path, path)
        self.notes += passed_over.notes(self.folder)
        self.walked = not passed_over.unreadable

    def len_hint(self) -> int | None:
        return count_images(self.folder)
