"""A folder of images, at any depth, without captions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.exclusions import IGNORE_FILE, Exclusions
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.passed_over import PassedOver
from crossmodal.data_sets.photos import looks_like_an_image, plain_path
from crossmodal.records import Failure
from crossmodal.videos.formats import looks_like_a_video
from crossmodal.videos.live_photos import is_live_photo, may_be_live, stem_of

__all__ = ["FolderOfImages", "count_images", "find_images"]


def find_images(
    folder: Path,
    passed_over: PassedOver,
    exclude: Sequence[str] = (),
    *,
    within: Path | None = None,
    videos: bool = False,
) -> Iterator[str | Failure]:
    """Yields the absolute path of every image below ``folder``, by name.

    A folder that cannot be read is a failure, and the search goes on. An image is what has an image's
    extension, whatever it is (the reader reports it), but for a link that leads nowhere. What the rules of
    ``exclusions`` mean is left out: the defaults, the ignore files on the way, and the patterns ``exclude``.
    Links are followed last; a folder is visited once, however many links lead to it. ``within`` is the folder
    that rules begin at, where that is one around ``folder``. With ``videos`` these come too, except those of
    Live Photos, which are one with their photo. Raises SettingsError for an unusable pattern.
    """
    start = os.path.abspath(folder)  # noqa: PTH100  (keeps symlinks)
    begin = Exclusions.inside(os.path.abspath(within or folder), start, exclude)  # noqa: PTH100
    # A stack of paths and not of open folders: a tree can be deeper than the number of open files.
    waiting = [] if begin is None else [(start, begin)]
    # Links wait until all real folders are visited: a photo keeps its own path, and so its id, when someone
    # links to its folder later.
    links: list[tuple[str, Exclusions]] = []
    visited: set[tuple[int, int]] = set()
    while waiting or links:
        here, exclusions = waiting.pop() if waiting else links.pop()
        try:
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in visited:
                passed_over.folders_met_before += 1
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                found = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
        except OSError as error:
            passed_over.unreadable += 1
            yield Failure(here, f"the folder cannot be read: {error.strerror}")
            continue
        if any(name == IGNORE_FILE for name, _, _ in found):
            exclusions, unusable = exclusions.with_file_of(here)
            yield from unusable
        folders = []
        prefix = here if here.endswith("/") else f"{here}/"
        rules = [
            exclusions.rule_for(name, prefix + name, is_folder=is_folder) for name, is_folder, _ in found
        ]
        # A photo that is left out takes no video with it.
        photos = {
            stem_of(name)
            for (name, is_folder, _), rule in zip(found, rules, strict=True)
            if rule is None and not is_folder and may_be_live(name)
        }
        for (name, is_folder, is_link), rule in zip(found, rules, strict=True):
            path = prefix + name
            if rule is not None:
                if name != IGNORE_FILE:
                    passed_over.left_out(rule, is_folder=is_folder)
            elif is_folder:
                folders.append((path, is_link))
                if looks_like_an_image(name):
                    yield Failure(path, "is a folder, although its name is that of an image")
            elif looks_like_an_image(name):
                if is_link and _leads_nowhere(path):
                    passed_over.links_to_nothing += 1
                else:
                    yield path
            elif looks_like_a_video(name) and stem_of(name) in photos and is_live_photo(path):
                passed_over.live_photos.append(path)
            elif videos and looks_like_a_video(name):
                if is_link and _leads_nowhere(path):
                    passed_over.links_to_nothing += 1
                else:
                    yield path
            elif name != IGNORE_FILE:
                passed_over.file(path)
        for path, is_link in reversed(folders):
            (links if is_link else waiting).append((path, exclusions))


def count_images(
    folder: Path, exclude: Sequence[str] = (), *, within: Path | None = None, videos: bool = False
) -> int:
    """How many images ``find_images`` would yield."""
    found = find_images(folder, PassedOver(), exclude, within=within, videos=videos)
    return sum(isinstance(path, str) for path in found)


def _leads_nowhere(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  (bare text)
    except FileNotFoundError:
        return True
    except OSError:
        # Reading it reports that.
        return False
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; reading it reports that
        return False


class FolderOfImages(DataSet):
    """Every image below a folder."""

    walks = True

    def __init__(
        self, name: str, folder: Path, *, limits: Limits, content: bool, exclude: Sequence[str] = ()
    ) -> None:
        super().__init__(name, f"folder of images {folder}", limits, content)
        self.folder = folder
        self.root = Path(plain_path(folder))
        self._exclude = tuple(exclude)
        self._within = folder

    def below(self, folder: Path) -> FolderOfImages:
        """The same for a folder inside of it, with the rules that hold there."""
        inside = FolderOfImages(
            str(folder), folder, limits=self.limits, content=self.content, exclude=self._exclude
        )
        inside._within = self._within
        return inside

    def mentions(self) -> Iterator[Mention | Failure]:
        passed_over = PassedOver()
        videos = self.moments > 0
        for path in find_images(self.folder, passed_over, self._exclude, within=self._within, videos=videos):
            yield path if isinstance(path, Failure) else Mention(path, path)
        self.notes += passed_over.notes(self.folder, self._exclude)
        self.live = {hash(path) for path in passed_over.live_photos}
        self.walked = not passed_over.unreadable

    def len_hint(self) -> int | None:
        return count_images(self.folder, self._exclude, within=self._within, videos=self.moments > 0)
