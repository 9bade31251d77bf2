"""Recognises the layout of a folder or a file by its contents, or takes it for the one that is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from crossmodal.addresses import Entry, check_address, entry_at
from crossmodal.data_sets.coco import Coco
from crossmodal.data_sets.collection import Collection
from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.folder import FolderOfImages, find_images
from crossmodal.data_sets.json_stream import array_elements, top_level_keys
from crossmodal.data_sets.kaggle import KaggleFlickr
from crossmodal.data_sets.karpathy import Karpathy
from crossmodal.data_sets.listed import OnePhoto
from crossmodal.data_sets.mentions import Limits
from crossmodal.data_sets.passed_over import PassedOver
from crossmodal.data_sets.photos import looks_like_an_image, plain_path
from crossmodal.data_sets.shards import is_shard
from crossmodal.data_sets.table import TABLE_EXTENSIONS, Table
from crossmodal.data_sets.unnamed import UnnamedPhotos
from crossmodal.data_sets.values import same_split
from crossmodal.errors import DataError, DataSetError
from crossmodal.images import sniff_mime_type
from crossmodal.records import Failure
from crossmodal.videos.formats import looks_like_a_video, reads_videos

__all__ = ["LAYOUTS", "Reading", "open_collection", "open_file", "open_folder"]

LAYOUTS = (
    "a folder of images, a folder with images/ and captions.txt (image,caption), a folder with images/ and "
    "dataset_*.json (Karpathy) or captions_*.json (COCO), a CSV or JSONL file with the columns image and "
    "caption, a folder or file of shards (tar or Parquet), an address such as s3://bucket/photos, or a photo"
)
_IMAGES_FOLDER = re.compile(r"images|.*[_-]images|flickr\d+k.*|(train|val|test)20\d\d", re.IGNORECASE)
_CAPTIONS = "captions.txt"
# The key of an image in which each of the two formats has its file name.
_KARPATHY, _COCO = "filename", "file_name"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a data set is read: which split of it, within which limits, with the photos' bytes or without.

    ``read_as`` is one of ``settings.READ_AS``, ``exclude`` what a walk leaves out.
    """

    split: str | None
    limits: Limits
    content: bool
    read_as: str = "auto"
    exclude: tuple[str, ...] = ()


def open_collection(name: str, reading: Reading) -> DataSet:
    """What is at an address; raises DataSetError where that is nothing that can be read."""
    address = check_address(name)
    try:
        found = entry_at(address)
    except DataError as error:
        raise DataSetError(f"There is no data set {name}: {error}.") from None
    _check_collection(address, reading, is_folder=found.is_folder)
    if found.is_folder:
        return _collection(name, address, reading)
    if not (looks_like_an_image(found.name) or is_shard(found.name)):
        raise DataSetError(
            f"{address} is no photo, no tar and no Parquet file, and nothing else is read at an address; "
            "get it, and give its path."
        )
    return _collection(name, address.rpartition("/")[0], reading, only=found)


def _collection(name: str, root: str, reading: Reading, only: Entry | None = None) -> Collection:
    return Collection(
        name, root, limits=reading.limits, content=reading.content, exclude=reading.exclude, only=only
    )


def _check_collection(place: str, reading: Reading, *, is_folder: bool) -> None:
    if reading.read_as not in ("auto", "shards", *(["folder"] if is_folder else [])):
        raise DataSetError(f"{place} is read as photos and shards; --read-as {reading.read_as} needs a path.")
    if reading.split is not None:
        raise DataSetError(f"{place} has no splits, so --split {reading.split} cannot be used.")


def _open_shards(name: str, folder: Path, entries: Sequence[Path], reading: Reading) -> Collection | None:
    """The photos and shards of a folder by img2dataset, or with no photo but in shards; None for others."""
    asked = reading.read_as == "shards"
    if not asked and not any(path.name.endswith("_stats.json") for path in entries):
        shards = [path for path in entries if is_shard(path.name)]
        if not shards or not _has_no_image(folder, reading.exclude):
            return None
    _check_collection(str(folder), reading, is_folder=True)
    found = _collection(name, plain_path(folder), reading)
    if not asked:
        found.guess = (
            f"Read as {found.description}, with captions and tags beside the photos; --read-as folder "
            "takes the photos alone"
        )
    return found


def open_folder(name: str, folder: Path, reading: Reading) -> DataSet:
    """The data set in ``folder``; raises DataSetError where no layout fits, OSError for the folder."""
    entries = sorted(folder.iterdir())
    openers: dict[str, Callable[[str, Path, list[Path], Reading], DataSet | None]] = {
        "kaggle": _kaggle,
        "karpathy": _karpathy,
        "coco": _coco,
    }
    if reading.read_as == "table":
        tables = [path.name for path in entries if path.suffix.lower() in TABLE_EXTENSIONS]
        raise DataSetError(
            f"{folder} is a folder, and --read-as table reads a file: "
            + (f"give one of {_shortly(tables)} with -d." if tables else "it has no CSV and no JSONL file.")
        )
    if reading.read_as == "shards":
        shards = _open_shards(name, folder, entries, reading)
        assert shards is not None, "it was asked for"
        return shards
    if reading.read_as in openers:
        found = openers[reading.read_as](name, folder, entries, reading)
        if found is None:
            needed = {"kaggle": _CAPTIONS, "karpathy": "dataset*.json", "coco": "captions_*.json"}
            raise DataSetError(
                f"{folder} cannot be read as {reading.read_as}: it has no {needed[reading.read_as]} of that "
                f"format, only {_shortly([path.name for path in entries]) or 'nothing'}."
            )
        return found
    if reading.read_as == "auto":
        for opener in openers.values():
            if (found := opener(name, folder, entries, reading)) is not None:
                found.guess = (
                    f"Read as {found.description}; --read-as folder takes the photos without captions"
                )
                return found
        if (shards := _open_shards(name, folder, entries, reading)) is not None:
            return shards
    return _folder_of_images(name, folder, entries, reading)


def _folder_of_images(name: str, folder: Path, entries: list[Path], reading: Reading) -> DataSet:
    if reading.split is not None:
        raise DataSetError(
            f"{folder} is a folder of images without splits, so --split {reading.split} cannot be used."
        )
    passed_over = PassedOver()
    found_any = find_images(folder, passed_over, reading.exclude, videos=reads_videos())
    if all(isinstance(found, Failure) for found in found_any):
        notes = " ".join(f"{note}." for note in passed_over.notes(folder))
        raise DataSetError(
            f"There is nothing to use in {folder}: it has "
            + (f"no image, only {_shortly([path.name for path in entries])}" if entries else "no file at all")
            + f". {notes + ' ' if notes else ''}A path can be {LAYOUTS}."
        )
    found = FolderOfImages(
        name, folder, limits=reading.limits, content=reading.content, exclude=reading.exclude
    )
    misleading = [path for path in _json_candidates(entries) if reading.read_as == "auto"]
    if misleading:
        found.guess = (
            f"Read as {found.description}: {_shortly([path.name for path in misleading])} is no "
            "data set, as it has no images that begin with a filename (Karpathy) or a file_name (COCO)"
        )
    return found


def _kaggle(name: str, folder: Path, entries: list[Path], reading: Reading) -> DataSet | None:
    captions = folder / _CAPTIONS
    return _kaggle_of(name, captions, entries, reading) if captions.is_file() else None


def _kaggle_of(name: str, captions: Path, entries: list[Path], reading: Reading) -> DataSet:
    folder = captions.parent
    if _has_no_image(folder, reading.exclude):
        _refuse_without_images(captions)
    try:
        return KaggleFlickr(
            name,
            captions,
            [*_images_folders(entries), folder],
            split=reading.split,
            limits=reading.limits,
            content=reading.content,
            exclude=reading.exclude,
        )
    except DataSetError as error:
        if reading.read_as != "auto" or reading.split is not None:
            raise
        raise DataSetError(f"{error}. --read-as folder takes the photos without captions.") from None


def _karpathy(name: str, folder: Path, entries: list[Path], reading: Reading) -> DataSet | None:
    fitting = [path for path in entries if path.match("dataset*.json") and _image_key(path) == _KARPATHY]
    if not fitting:
        return None
    found = Karpathy(
        name,
        fitting[0],
        _required_images(folder, entries, fitting[0], reading.exclude),
        split=reading.split,
        limits=reading.limits,
        content=reading.content,
        unnamed=UnnamedPhotos(folder, reading.exclude),
    )
    found.root = Path(plain_path(folder))
    return found


def _coco(name: str, folder: Path, entries: list[Path], reading: Reading) -> DataSet | None:
    candidates = [*folder.glob("captions_*.json"), *folder.glob("annotations/captions_*.json")]
    fitting = [path for path in sorted(candidates) if _image_key(path) == _COCO]
    if not fitting:
        return None
    chosen = _chosen_annotations(fitting, reading.split, folder)
    found = Coco(
        name,
        chosen,
        _required_images(folder, entries, chosen[0], reading.exclude),
        limits=reading.limits,
        content=reading.content,
        unnamed=UnnamedPhotos(folder, reading.exclude) if reading.split is None else None,
    )
    found.root = Path(plain_path(folder))
    return found


def open_file(name: str, path: Path, reading: Reading) -> DataSet:
    """The data set in the file ``path``; raises DataSetError where no layout fits, OSError for its folder."""
    if reading.read_as == "folder":
        raise DataSetError(f"{path} is a file, and --read-as folder reads a folder.")
    extension = path.suffix.lower()
    if reading.read_as == "shards" or (reading.read_as == "auto" and is_shard(path.name)):
        _check_collection(str(path), reading, is_folder=False)
        whole = Path(plain_path(path))
        return _collection(name, str(whole.parent), reading, only=entry_at(str(whole)))
    if reading.read_as == "table" or (reading.read_as == "auto" and extension in TABLE_EXTENSIONS):
        return _open_table(name, path, reading)
    if reading.read_as == "kaggle":
        return _kaggle_of(name, path, sorted(path.absolute().parent.iterdir()), reading)
    if reading.read_as in ("karpathy", "coco") or extension == ".json":
        return _open_json(name, path, reading)
    if looks_like_an_image(path.name) or looks_like_a_video(path.name) or _is_an_image(path):
        if reading.split is not None:
            raise DataSetError(f"{path} is a photo, so --split {reading.split} cannot be used.")
        return OnePhoto(name, path, limits=reading.limits, content=reading.content)
    raise DataSetError(f"The file {path} has no known layout. A path can be {LAYOUTS}.")


def _open_table(name: str, path: Path, reading: Reading) -> DataSet:
    folder = path.absolute().parent
    folders = [folder, *_images_folders(sorted(folder.iterdir()))]
    table = Table(
        name, path.absolute(), folders, split=reading.split, limits=reading.limits, content=reading.content
    )
    if not table.has_rows():
        raise DataSetError(f"{path} has no row: there is nothing to use in it.")
    if reading.read_as == "auto":
        table.guess = f"Read as {table.description}: {table.columns()}"
    return table


def _open_json(name: str, path: Path, reading: Reading) -> DataSet:
    folder = path.absolute().parent
    images = _images_folders(sorted(folder.iterdir()))
    # The first image shows the format, also where the file is damaged further on.
    image = next(array_elements(path, "images"), None)
    key = next((key for key in (_COCO, _KARPATHY) if isinstance(image, dict) and key in image), None)
    wanted = {"karpathy": _KARPATHY, "coco": _COCO}.get(reading.read_as, key)
    if key is None or key != wanted:
        raise DataSetError(
            f"{path} is neither Karpathy's nor COCO's format: its keys are "
            f"{', '.join(top_level_keys(path)) or 'none'}, and images that begin with a filename "
            "(Karpathy) or a file_name (COCO) are needed. A table of photos is a .jsonl file "
            "with one JSON object a line."
            if key is None
            else f"{path} is not in the format that --read-as {reading.read_as} asks for: its images begin "
            f"with a {key}, and those of that format with a {wanted}."
        )
    found: DataSet
    if key == _COCO:
        folders = [*images, *_images_folders(sorted(folder.parent.iterdir())), folder]
        found = Coco(name, [path], folders, limits=reading.limits, content=reading.content)
    else:
        folders = [*images, folder]
        found = Karpathy(
            name, path, folders, split=reading.split, limits=reading.limits, content=reading.content
        )
    if reading.read_as == "auto":
        found.guess = f"Read as {found.description}"
    return found


def _image_key(path: Path) -> str | None:
    """The key of the first image of a JSON file that tells its format; None where there is none."""
    try:
        image = next(array_elements(path, "images"), None)
    except DataSetError:
        return None
    return next((key for key in (_COCO, _KARPATHY) if isinstance(image, dict) and key in image), None)


def _json_candidates(entries: Sequence[Path]) -> list[Path]:
    """The files that are called like those of a data set."""
    return [path for path in entries if path.match("dataset*.json") or path.match("captions_*.json")]


def _is_an_image(path: Path) -> bool:
    with open(path, "rb") as file:
        return sniff_mime_type(file.read(64)) is not None


def _images_folders(entries: Sequence[Path]) -> list[Path]:
    """The folders among ``entries`` that hold a data set's images by their name; ``images`` itself first."""
    found = [path for path in entries if _IMAGES_FOLDER.fullmatch(path.name) and path.is_dir()]
    found.sort(key=lambda path: (path.name.lower() != "images", path.name))
    return [_only_folder_inside(path) for path in found]


def _required_images(
    folder: Path, entries: Sequence[Path], captions: Path, exclude: Sequence[str]
) -> list[Path]:
    """Where the photos lie; raises DataSetError where that is nowhere."""
    images = _images_folders(entries)
    if not images and _has_no_image(folder, exclude):
        _refuse_without_images(captions)
    return images or [folder]


def _has_no_image(folder: Path, exclude: Sequence[str]) -> bool:
    return all(isinstance(found, Failure) for found in find_images(folder, PassedOver(), exclude))


def _refuse_without_images(captions: Path) -> NoReturn:
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


def _shortly(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
