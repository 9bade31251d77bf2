"""COCO's ``captions_*.json``: images, and annotations that name an image by number, beside their folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.json_stream import array_elements
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.photos import plain_path, resolve
from crossmodal.data_sets.unnamed import UnnamedPhotos
from crossmodal.data_sets.values import has_lone_surrogate, json_kind
from crossmodal.errors import DataError, DataSetError
from crossmodal.records import Failure

__all__ = ["Coco"]


class Coco(DataSet):
    """The captions in the files' order, each photo at its first caption; then the photos that have none.

    Format: ``{"images": [{"id": 1, "file_name": "1.jpg"}, ...], "annotations": [{"image_id": 1,
    "caption": "..."}, ...]}``, https://cocodataset.org/#format-data. Memory holds the file name of each
    image while captions stream. ``unnamed`` counts the photos that no file names.
    """

    def __init__(
        self,
        name: str,
        paths: list[Path],
        folders: list[Path],
        *,
        limits: Limits,
        content: bool,
        unnamed: UnnamedPhotos | None = None,
    ) -> None:
        super().__init__(name, f"COCO captions in {', '.join(str(path) for path in paths)}", limits, content)
        self.paths = paths
        self.folders = folders
        self.root = Path(plain_path(paths[0])).parent
        self.origin = plain_path(paths[0]) if len(paths) == 1 else None
        self._unnamed = unnamed

    def mentions(self) -> Iterator[Mention | Failure]:
        if self._unnamed is None:
            yield from self._named()
            return
        yield from self._unnamed.watch(self._named())
        self.notes += self._unnamed.notes()

    def _named(self) -> Iterator[Mention | Failure]:
        for path in self.paths:
            try:
                yield from self._mentions_of(path)
            except DataSetError as error:
                yield Failure(str(path), str(error))

    def len_hint(self) -> int | None:
        try:
            return sum(
                sum(1 for _ in array_elements(path, key))
                for path in self.paths
                for key in ("images", "annotations")
            )
        except DataSetError:  # iterating reports it, after the part that can be used
            return None

    def _mentions_of(self, path: Path) -> Iterator[Mention | Failure]:
        file_names: dict[int, str] = {}
        for number, image in enumerate(array_elements(path, "images"), start=1):
            try:
                file_names[_integer(image, "id")] = _text(image, "file_name")
            except DataError as error:
                yield Failure(f"{path}, image {number}", str(error))
        # Sorting by image would need all captions in memory; they come as the file has them.
        for number, annotation in enumerate(array_elements(path, "annotations"), start=1):
            where = f"{path}, annotation {number}"
            try:
                image_id = _integer(annotation, "image_id")
                if image_id not in file_names:
                    raise DataError(f"caption without a photo: no image has the id {image_id}")
                photo = resolve(file_names[image_id], self.folders)
                if has_lone_surrogate(annotation.get("caption")):
                    raise DataError("the caption has half a surrogate pair, which is not a character")
            except DataError as error:
                yield Failure(where, str(error))
                continue
            yield Mention(photo, where, (annotation.get("caption"),), {"coco_image_id": image_id})
        for image_id, file_name in file_names.items():
            tags = {"coco_image_id": image_id}
            yield Mention(
                resolve(file_name, self.folders), f"{path}, image id {image_id}", (), tags, sweep=True
            )


def _integer(entry: Any, key: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"the {key} is not a whole number but {json_kind(value)}")
    return value


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or has_lone_surrogate(value):
        raise DataError(f"the {key} is not text but {json_kind(value)}")
    return value
