"""A folder of images, at any depth, without captions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crossmodal.data_sets.data_set import DataSet, Limits, Mention
from crossmodal.data_sets.photos import looks_like_an_image
from crossmodal.records import Failure

__all__ = ["FolderOfImages", "PassedOver", "count_images", "walk_images"]


class PassedOver:
    """What a walk passed over on purpose, to be told at its end."""

    def __init__(self) -> None:
        self.hidden = 0
        self.others: Counter[str] = Counter()
        self.folders_met_before = 0

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
            notes.append(f"{folder}: passed over {self.folders_met_before:,} links to folders already walked")
        return notes


def walk_images(folder: Path, passed_over: PassedOver) -> Iterator[str | Failure]:
    """Yields the absolute path of every image below ``folder``, by name.

    A folder that cannot be read is a failure, and the walk goes on. An image is what has an image's
    extension, whatever it is (the reader tells). Hidden files and folders are left out. Links are
    followed last; a folder is walked once, however many links lead to it.
    """
    # A stack of paths and not of open folders: a tree can be deeper than the number of open files.
    waiting = [os.path.abspath(folder)]  # noqa: PTH100  (keeps symlinks)
    # Links wait until all real folders are walked: a photo keeps its own path, and so its id, when somebody
    # links to its folder later.
    links: list[str] = []
    walked: set[tuple[int, int]] = set()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop()
        try:
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in walked:
                passed_over.folders_met_before += 1
                continue
            walked.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                found = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except OSError as error:
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
    """How many images ``walk_images`` would yield."""
    return sum(isinstance(path, str) for path in walk_images(folder, PassedOver()))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; reading it tells so
        return False


class FolderOfImages(DataSet):
    """Every image below a folder."""

    def __init__(self, name: str, folder: Path, *, limits: Limits, content: bool) -> None:
        super().__init__(name, f"folder of images {folder}", limits, content)
        self.folder = folder

    def mentions(self) -> Iterator[Mention | Failure]:
        passed_over = PassedOver()
        for path in walk_images(self.folder, passed_over):
            yield path if isinstance(path, Failure) else Mention(path, path)
        self.notes += passed_over.notes(self.folder)

    def len_hint(self) -> int | None:
        return count_images(self.folder)
