"""Kaggle's Flickr layout: ``images/``, ``captions.txt`` with ``image,caption``, and split files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.folder import count_images, find_images
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.passed_over import PassedOver
from crossmodal.data_sets.photos import looks_like_an_image, plain_path, resolve
from crossmodal.data_sets.table import Table
from crossmodal.data_sets.text_lines import count_lines, read_lines
from crossmodal.data_sets.values import same_split
from crossmodal.errors import DataSetError
from crossmodal.records import Failure

__all__ = ["KaggleFlickr"]

_MAX_LINE = 10_000


class KaggleFlickr(DataSet):
    """Photos with all their captions, in the order of ``captions.txt``; then the photos that have none.

    Those are all others below the folder of ``captions.txt``, whether they lie in ``images`` or not.
    ``split`` selects the photos that a text file beside ``captions.txt`` lists, one file name a line
    (``--split dev`` reads ``dev.txt``). A relative name is looked for in each of ``images``.
    """

    walks = True

    def __init__(
        self,
        name: str,
        captions: Path,
        images: list[Path],
        *,
        split: str | None,
        limits: Limits,
        content: bool,
        exclude: Sequence[str] = (),
    ) -> None:
        chosen = f", split {split}" if split else ""
        super().__init__(name, f"Kaggle's Flickr layout in {captions.parent}{chosen}", limits, content)
        self.images = images
        self.captions = captions
        self.root = Path(plain_path(captions)).parent
        self.origin = plain_path(captions)
        self._exclude = tuple(exclude)
        self._table = Table(name, captions, images, split=None, limits=limits, content=content)
        self._split_file = None if split is None else self._find_split(split)

    def mentions(self) -> Iterator[Mention | Failure]:
        self._table.notes = []
        if self._split_file is None:
            yield from self._table.mentions()
            self.notes += self._table.notes
            yield from self._photos_without_captions()
            return
        listed = {resolve(name, self.images): line for name, line in _split_names(self._split_file).items()}
        for mention in self._table.mentions():
            if isinstance(mention, Failure) or mention.photo in listed:
                yield mention
        self.notes += self._table.notes
        for photo, line in listed.items():
            yield Mention(photo, f"{self._split_file}, line {line}", sweep=True)

    def len_hint(self) -> int | None:
        captions = max(0, count_lines(self.captions) - 1)
        photos = count_images(self.captions.parent, self._exclude, videos=self.moments > 0)
        if self._split_file is None or photos == 0:
            return photos + captions
        chosen = count_lines(self._split_file)
        return chosen + round(captions * chosen / photos)

    def _photos_without_captions(self) -> Iterator[Mention | Failure]:
        passed_over = PassedOver(used=(plain_path(self.captions),))
        folder = self.captions.parent
        for path in find_images(folder, passed_over, self._exclude, videos=self.moments > 0):
            if isinstance(path, Failure):
                yield path
            else:
                yield Mention(path, path, sweep=True)
        self.notes += passed_over.notes(folder, self._exclude)
        self.live = {hash(path) for path in passed_over.live_photos}
        self.walked = not passed_over.unreadable

    def _find_split(self, split: str) -> Path:
        splits = _available_splits(self.captions.parent)
        found = _split_file(splits, split)
        if found is None:
            there = f"there are {', '.join(splits)}" if splits else "there is no split file at all"
            raise DataSetError(
                f"The split {split} is not in {self.captions.parent}: {there}. A split is a text file, say "
                f"{split}.txt beside {self.captions.name} that lists photos, one file name a line."
            )
        return found


def _available_splits(folder: Path) -> dict[str, Path]:
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


def _split_file(splits: dict[str, Path], wanted: str) -> Path | None:
    """The file of the split ``wanted``, also under Flickr8k's own names such as ``Flickr_8k.devImages``."""
    for name, path in splits.items():
        short = name.partition(".")[2].removesuffix("Images") if name.endswith("Images") else name
        if same_split(short, wanted):
            return path
    return None


def _split_names(path: Path) -> dict[str, int]:
    """The photos' file names in a split file, each with its line number, in the file's order."""
    names: dict[str, int] = {}
    for line in read_lines(path, _MAX_LINE):
        if name := line.text.strip():
            names.setdefault(name, line.number)
    return names
