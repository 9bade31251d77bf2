"""Opens what a name or a path means: a data set that is known by name, a folder, a table, a photo, a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from crossmodal.addresses import is_address
from crossmodal.data_sets.data_set import DataSet
from crossmodal.data_sets.exclusions import option_rules
from crossmodal.data_sets.folder import FolderOfImages
from crossmodal.data_sets.layouts import LAYOUTS, Reading, open_collection, open_file, open_folder
from crossmodal.data_sets.listed import ListOfPhotos
from crossmodal.data_sets.mentions import DEFAULT_LIMITS, Limits
from crossmodal.errors import DataSetError
from crossmodal.settings import STDIN

__all__ = ["DATA_SET_NAMES", "open_data_set", "open_data_sets"]

DATA_SET_NAMES = ("toy-data", "f8k", "f30k", "coco")


def open_data_set(
    name_or_path: str,
    *,
    data_root: Path,
    split: str | None = None,
    content: bool = True,
    read_as: str = "auto",
    exclude: Sequence[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> DataSet:
    """The data set with this name (below ``data_root``) or at this path; reads nothing large yet.

    ``content=False`` leaves the photos' bytes out (they then have no content hash). ``read_as`` is one of
    ``settings.READ_AS``; ``exclude`` are patterns in gitignore's language of what a walk leaves out. What is
    larger or longer than ``limits`` is a failure of the stream. Raises DataSetError where nothing is
    there, where no layout fits or where ``split`` doesn't exist, SettingsError for an unusable pattern.
    """
    option_rules(exclude)
    reading = Reading(split, limits, content, read_as, tuple(exclude))
    opened = _open(name_or_path, data_root, reading)
    opened.partial = split is not None
    return opened


def _open(name_or_path: str, data_root: Path, reading: Reading) -> DataSet:
    if name_or_path in DATA_SET_NAMES:
        return _open_named(name_or_path, data_root / name_or_path, reading)
    if not name_or_path.strip():
        raise DataSetError(f"The data set has no name: use one of {', '.join(DATA_SET_NAMES)}, or a path.")
    if is_address(name_or_path):
        return open_collection(name_or_path, reading)
    if name_or_path == STDIN:
        raise DataSetError(
            "A list of photos on stdin can be read once, and only `index` reads it so; a file called - is ./-"
        )
    try:
        path = Path(name_or_path).expanduser()
        if path.is_dir():
            return open_folder(name_or_path, path, reading)
        if path.is_file():
            return open_file(name_or_path, path, reading)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of a user who does not exist
        raise DataSetError(f"{name_or_path} cannot be opened: {getattr(error, 'strerror', error)}") from None
    raise DataSetError(
        f"There is no data set {name_or_path!r}: it is none of {', '.join(DATA_SET_NAMES)}, and no file "
        f"or folder is at {path.absolute()}. A path can be {LAYOUTS}."
    )


def open_data_sets(
    names: Sequence[str],
    *,
    data_root: Path,
    stdin: BinaryIO,
    split: str | None = None,
    read_as: str = "auto",
    exclude: Sequence[str] = (),
    null: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> list[DataSet]:
    """What each of ``names`` means, each once, as ``open_data_set`` opens it.

    ``STDIN`` is a list of photos in ``stdin``; with ``null`` a zero byte ends each path, else a line end.
    Raises what ``open_data_set`` raises for the first name that cannot be opened.
    """
    opened = []
    for name in dict.fromkeys(names):
        if name != STDIN:
            found = open_data_set(
                name,
                data_root=data_root,
                split=split,
                read_as=read_as,
                exclude=exclude,
                limits=limits,
            )
        elif split is not None or read_as != "auto":
            option = f"--split {split}" if split is not None else f"--read-as {read_as}"
            raise DataSetError(
                f"A list of photos on stdin is nothing but photos: {option} says nothing of it."
            )
        else:
            found = ListOfPhotos("stdin", stdin, zeros=null, limits=limits, content=True)
        opened.append(found)
    return opened


def _open_named(name: str, folder: Path, reading: Reading) -> DataSet:
    if not folder.is_dir():
        raise DataSetError(
            f"The data set {name} is not in {folder}: "
            + (
                "it is part of this project's repository; check --data-root."
                if name == "toy-data"
                else f"get it with ./get_data.sh {name}"
            )
        )
    try:
        data_set = open_folder(name, folder, reading)
    except OSError as error:
        raise DataSetError(f"{folder} cannot be opened: {error.strerror}") from None
    if isinstance(data_set, FolderOfImages) and reading.read_as != "folder":
        raise DataSetError(
            f"{folder} has images and no captions: {name} is not whole. Move it away and "
            f"get the data set with ./get_data.sh {name}, or use it as it is with -d {folder}."
        )
    # Its layout is known, so nothing was guessed.
    data_set.guess = None
    return data_set
