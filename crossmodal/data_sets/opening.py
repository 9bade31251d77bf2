"""Recognises which layout a name or a path has."""

from __future__ import annotations

import re
from pathlib import Path

from crossmodal.data_sets.coco import Coco
from crossmodal.data_sets.data_set import DataSet, Limits, same_split
from crossmodal.data_sets.folder import FolderOfImages, PassedOver, find_images
from crossmodal.data_sets.json_stream import array_elements, top_level_keys
from crossmodal.data_sets.kaggle import KaggleFlickr
from crossmodal.data_sets.karpathy import Karpathy
from crossmodal.data_sets.photos import looks_like_an_image
from crossmodal.data_sets.table import TABLE_EXTENSIONS, Table
from crossmodal.errors import DataSetError
from crossmodal.limits import PHOTO, SENTENCE
from crossmodal.records import Failure

__all__ = ["DATA_SET_NAMES", "open_data_set"]

DATA_SET_NAMES = ("toy-data", "f8k", "f30k", "coco")

_LAYOUTS = (
    "a folder of images, a folder with images/ and captions.txt (image,caption), a folder with images/ and "
    "dataset_*.json (Karpathy) or captions_*.json (COCO), or a CSV or JSONL file with the columns image and "
    "caption"
)
_IMAGES_FOLDER = re.compile(r"images|.*[_-]images|flickr\d+k.*|(train|val|test)20\d\d", re.IGNORECASE)


def open_data_set(
    name_or_path: str,
    *,
    data_root: Path,
    split: str | None = None,
    content: bool = True,
    max_file_bytes: int = PHOTO.most,
    max_caption_characters: int = SENTENCE.most,
) -> DataSet:
    """The data set with this name (below ``data_root``) or at this path; reads nothing large yet.

    ``content=False`` leaves the photos' bytes out (they then have no content hash). A larger file
    or a longer caption than the limits is a failure of the stream. Raises DataSetError where nothing is
    there, where no layout fits or where ``split`` doesn't exist.
    """
    limits = Limits(max_file_bytes, max_caption_characters)
    if name_or_path in DATA_SET_NAMES:
        folder = data_root / name_or_path
        if not folder.is_dir():
            raise DataSetError(
                f"The data set {name_or_path} is not in {folder}: "
                + (
                    "it is part of this project's repository; check --data-root."
                    if name_or_path == "toy-data"
                    else f"get it with ./get_data.sh {name_or_path}"
                )
            )
        try:
            data_set = _open_folder(name_or_path, folder, split, limits, content)
        except OSError as error:
            raise DataSetError(f"{folder} cannot be opened: {error.strerror}") from None
        if isinstance(data_set, FolderOfImages):
            raise DataSetError(
                f"{folder} has images and no captions: {name_or_path} is not whole. Move it away and "
                f"get the data set with ./get_data.sh {name_or_path}, or use it as it is with -d {folder}."
            )
        return data_set
    if not name_or_path.strip():
        raise DataSetError(f"The data set has no name: use one of {', '.join(DATA_SET_NAMES)}, or a path.")
    try:
        path = Path(name_or_path).expanduser()
        if path.is_dir():
            return _open_folder(name_or_path, path, split, limits, content)
        if path.is_file():
            return _open_file(name_or_path, path, split, limits, content)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of a user who does not exist
        raise DataSetError(f"{name_or_path} cannot be opened: {getattr(error, 'strerror', error)}") from None
    raise DataSetError(
        f"There is no data set {name_or_path!r}: it is none of {', '.join(DATA_SET_NAMES)}, and no file "
        f"or folder is at {path.absolute()}. A path can be {_LAYOUTS}."
    )


def _open_folder(name: str, folder: Path, split: str | None, limits: Limits, content: bool) -> DataSet:
    entries = sorted(folder.iterdir())
    images = _images_folders(entries)
    if not images and any(looks_like_an_image(path.name) for path in entries):
        images = [folder]
    if (captions := folder / "captions.txt").is_file():
        _require_images(images, captions)
        return KaggleFlickr(name, captions, images[0], split=split, limits=limits, content=content)
    if karpathy := [path for path in entries if path.match("dataset*.json")]:
        _require_images(images, karpathy[0])
        return Karpathy(name, karpathy[0], images, split=split, limits=limits, content=content)
    annotations = [*folder.glob("captions_*.json"), *folder.glob("annotations/captions_*.json")]
    if annotations:
        chosen = _chosen_annotations(sorted(annotations), split, folder)
        _require_images(images, chosen[0])
        return Coco(name, chosen, images, limits=limits, content=content)
    if split is not None:
        raise DataSetError(
            f"{folder} is a folder of images without splits, so --split {split} cannot be used."
        )
    if all(isinstance(found, Failure) for found in find_images(folder, PassedOver())):
        names = ", ".join(path.name for path in entries[:10]) + (", ..." if len(entries) > 10 else "")
        raise DataSetError(
            f"There is nothing to use in {folder}: it has "
            + (f"no image, only {names}" if entries else "no file at all")
            + f". A path can be {_LAYOUTS}."
        )
    return FolderOfImages(name, folder, limits=limits, content=content)


def _open_file(name: str, path: Path, split: str | None, limits: Limits, content: bool) -> DataSet:
    folder = path.absolute().parent
    images = _images_folders(sorted(folder.iterdir()))
    extension = path.suffix.lower()
    if extension in TABLE_EXTENSIONS:
        table = Table(name, path.absolute(), [folder, *images], split=split, limits=limits, content=content)
        if not table.has_rows():
            raise DataSetError(f"{path} has no row: there is nothing to use in it.")
        return table
    if extension == ".json":
        # The first image shows the format, also where the file is damaged further on.
        image = next(array_elements(path, "images"), None)
        if isinstance(image, dict) and "file_name" in image:
            folders = [*images, *_images_folders(sorted(folder.parent.iterdir())), folder]
            return Coco(name, [path], folders, limits=limits, content=content)
        if isinstance(image, dict) and "filename" in image:
            return Karpathy(name, path, [*images, folder], split=split, limits=limits, content=content)
        raise DataSetError(
            f"{path} is neither Karpathy's nor COCO's format: its keys are "
            f"{', '.join(top_level_keys(path)) or 'none'}, and images that begin with a filename "
            "(Karpathy) or a file_name (COCO) are needed. A table of photos is a .jsonl file "
            "with one JSON object a line."
        )
    raise DataSetError(f"The file {path} has no known layout. A path can be {_LAYOUTS}.")


def _images_folders(entries: list[Path]) -> list[Path]:
    """The folders among ``entries`` that hold a data set's images by their name; ``images`` itself first."""
    found = [path for path in entries if _IMAGES_FOLDER.fullmatch(path.name) and path.is_dir()]
    found.sort(key=lambda path: (path.name.lower() != "images", path.name))
    return [_only_folder_inside(path) for path in found]


def _require_images(images: list[Path], captions: Path) -> None:
    if not images:
        raise DataSetError(
            f"There is no photo for {captions}: the photos should lie in {captions.parent / 'images'}, or "
            "beside it."
        )


def _only_folder_inside(folder: Path) -> Path:
    """Archives sometimes hold a folder in a folder of the same name; then the inner one."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def _chosen_annotations(paths: list[Path], split: str | None, folder: Path) -> list[Path]:
    if split is None:
        return paths
    chosen = [
        path
        for path in paths
        if path.stem.removeprefix("captions_") == split
        or same_split(re.sub(r"\d+$", "", path.stem.removeprefix("captions_")), split)
    ]
    if not chosen:
        names = ", ".join(path.stem.removeprefix("captions_") for path in paths)
        raise DataSetError(f"The split {split} is not in {folder}: there are {names}.")
    return chosen
