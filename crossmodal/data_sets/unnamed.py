"""The photos of a folder that a data set's file doesn't name: how many there are, and how to take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from crossmodal.data_sets.folder import find_images
from crossmodal.data_sets.mentions import Mention
from crossmodal.data_sets.passed_over import PassedOver
from crossmodal.records import Failure

__all__ = ["UnnamedPhotos"]


class UnnamedPhotos:
    """Watches the mentions of a data set in ``folder``; of each photo memory holds a number."""

    def __init__(self, folder: Path, exclude: Sequence[str]) -> None:
        self._folder = folder
        self._exclude = exclude
        self._named: set[int] = set()

    def watch(self, mentions: Iterator[Mention | Failure]) -> Iterator[Mention | Failure]:
        """Passes ``mentions`` on."""
        for mention in mentions:
            if isinstance(mention, Mention):
                self._named.add(hash(mention.photo))
            yield mention

    def notes(self) -> list[str]:
        """A sentence where the folder has photos that no mention named."""
        found = find_images(self._folder, PassedOver(), self._exclude)
        number = sum(isinstance(path, str) and hash(path) not in self._named for path in found)
        if not number:
            return []
        photos = "1 photo" if number == 1 else f"{number:,} photos"
        return [
            f"{self._folder}: left out {photos} that the file of captions doesn't name; --read-as folder "
            "takes every photo, without captions"
        ]
