"""Kaggle's Flickr layout: ``images/``, ``captions.txt`` with ``image,caption``, and split files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossmodal.data_sets.assembly import Mention
from crossmodal.data_sets.data_set import DataSet, Limits
from crossmodal.data_sets.folder import PassedOver, count_images, walk_images
from crossmodal.data_sets.lines import count_lines
from crossmodal.data_sets.photos import resolve
from crossmodal.data_sets.splits import available_splits, split_file, split_names
from crossmodal.data_sets.table import Table
from crossmodal.errors import DataSetError
from crossmodal.records import Failure

__all__ = ["KaggleFlickr"]


class KaggleFlickr(DataSet):
    """Photos with all their captions, in the order of ``captions.txt``; then the photos that have none.

    ``split`` selects the photos that a text file beside ``captions.txt`` lists, one file name a line
    (``--split dev`` reads ``dev.txt``).
    """

    def __init__(
        self,
        name: str,
        captions: Path,
        images: Path,
        *,
        split: str | None,
        limits: Limits,
        content: bool,
    ) -> None:
        chosen = f", split {split}" if split else ""
        super().__init__(name, f"Kaggle's Flickr layout in {captions.parent}{chosen}", limits, content)
        self.images = images
        self.captions = captions
        self._table = Table(name, captions, [images], split=None, limits=limits, content=content)
        self._split_file = None if split is None else self._find_split(split)

    def mentions(self) -> Iterator[Mention | Failure]:
        if self._split_file is None:
            yield from self._table.mentions()
            yield from self._photos_without_captions()
            return
        listed = {resolve(name, [self.images]): line for name, line in split_names(self._split_file).items()}
        for mention in self._table.mentions():
            if isinstance(mention, Failure) or mention.photo in listed:
                yield mention
        for photo, line in listed.items():
            yield Mention(photo, f"{self._split_file}, line {line}", sweep=True)

    def len_hint(self) -> int | None:
        captions = max(0, count_lines(self.captions) - 1)
        photos = count_images(self.images)
        if self._split_file is None or photos == 0:
            return photos + captions
        chosen = count_lines(self._split_file)
        return chosen + round(captions * chosen / photos)

    def _photos_without_captions(self) -> Iterator[Mention | Failure]:
        passed_over = PassedOver()
        for path in walk_images(self.images, passed_over):
            if isinstance(path, Failure):
                yield path
            else:
                yield Mention(path, path, sweep=True)
        self.notes += passed_over.notes(self.images)

    def _find_split(self, split: str) -> Path:
        splits = available_splits(self.captions.parent)
        found = split_file(splits, split)
        if found is None:
            there = f"there are {', '.join(splits)}" if splits else "there is no split file at all"
            raise DataSetError(
                f"The split {split} is not in {self.captions.parent}: {there}. A split is a text file, say "
                f"{split}.txt beside {self.captions.name} that lists photos, one file name a line."
            )
        return found
