"""Karpathy's ``dataset_*.json``: photos with split and sentences, beside a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.json_stream import array_elements
from crossmodal.data_sets.mentions import Limits, Mention
from crossmodal.data_sets.photos import plain_path, resolve
from crossmodal.data_sets.unnamed import UnnamedPhotos
from crossmodal.data_sets.values import has_lone_surrogate, json_kind, same_split
from crossmodal.errors import DataError, DataSetError
from crossmodal.records import Failure

__all__ = ["Karpathy"]


class Karpathy(DataSet):
    """Each photo with its sentences (``raw``), in the file's order; ``split`` becomes a tag and selects.

    Format: ``{"images": [{"filename": ..., "split": ..., "sentences": [{"raw": ...}, ...]}, ...]}``, as
    published with Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image
    Descriptions" (2015). Photos of the folder that the file doesn't name are not part of it; ``unnamed``
    counts them.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        folders: list[Path],
        *,
        split: str | None,
        limits: Limits,
        content: bool,
        unnamed: UnnamedPhotos | None = None,
    ) -> None:
        chosen = f", split {split}" if split else ""
        super().__init__(name, f"Karpathy's captions in {path}{chosen}", limits, content)
        self.path = path
        self.folders = folders
        self.root = Path(plain_path(path)).parent
        self.origin = plain_path(path)
        self._split = split
        self._unnamed = unnamed if split is None else None
        if split is not None:
            self._check_split(split)

    def mentions(self) -> Iterator[Mention | Failure]:
        if self._unnamed is None:
            yield from self._named()
            return
        yield from self._unnamed.watch(self._named())
        self.notes += self._unnamed.notes()

    def _named(self) -> Iterator[Mention | Failure]:
        elements = enumerate(array_elements(self.path, "images"), start=1)
        while True:
            try:
                number, element = next(elements)
            except StopIteration:
                return
            except DataSetError as error:
                yield Failure(str(self.path), str(error))
                return
            where = f"{self.path}, image {number}"
            try:
                mention = self._mention(element, where)
            except DataError as error:
                yield Failure(where, str(error))
                continue
            if mention is not None:
                yield mention

    def len_hint(self) -> int | None:
        try:
            return sum(
                1 + len(element.get("sentences") or ())
                for element in array_elements(self.path, "images")
                if isinstance(element, dict) and self._is_chosen(element)
            )
        except DataSetError:  # iterating reports it, after the part that can be used
            return None

    def _mention(self, element: Any, where: str) -> Mention | None:
        if not isinstance(element, dict):
            raise DataError(f"an image is an object, not {json_kind(element)}")
        if has_lone_surrogate(element):
            raise DataError("the text has half a surrogate pair, which is not a character")
        if not self._is_chosen(element):
            return None
        file_name = element.get("filename")
        if not isinstance(file_name, str) or not file_name:
            raise DataError("the image has no filename")
        sentences = element.get("sentences") or []
        if not isinstance(sentences, list):
            raise DataError(f"the sentences are not a list but {json_kind(sentences)}")
        captions = tuple(each.get("raw") if isinstance(each, dict) else each for each in sentences)
        sub_folder = element.get("filepath")
        folders = (
            [*self.folders, *(folder / str(sub_folder) for folder in self.folders)]
            if sub_folder
            else self.folders
        )
        tags = {"split": element["split"]} if isinstance(element.get("split"), str) else {}
        return Mention(resolve(file_name, folders), where, captions, tags)

    def _is_chosen(self, element: dict[str, Any]) -> bool:
        return self._split is None or same_split(element.get("split"), self._split)

    def _check_split(self, split: str) -> None:
        found: dict[str, None] = {}
        for element in array_elements(self.path, "images"):
            if isinstance(element, dict) and isinstance(element.get("split"), str):
                if same_split(element["split"], split):
                    return
                found[element["split"]] = None
        raise DataSetError(
            f"The split {split} is not in {self.path}: its splits are {', '.join(found) or 'not named'}."
        )
