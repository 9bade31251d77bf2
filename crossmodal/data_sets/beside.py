"""What a photo's file, its name and the files beside it say, for photos on this machine."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Set
from functools import lru_cache
from pathlib import Path

from crossmodal.metadata import (
    MAX_SIDECAR_BYTES,
    Metadata,
    find_sidecars,
    is_sidecar,
    read_metadata,
    read_video_metadata,
)
from crossmodal.records import LocalFile
from crossmodal.videos.reading import Video

__all__ = ["FolderContents", "file_system_of", "is_as_it_was", "signature_of", "signature_of_status"]

# Photos of a table come from any folder, those of a walk from one after the other.
_FOLDERS = 256

# What numbers its files anew at each mount, by the names that /proc/self/mountinfo has.
_NUMBERED_ANEW = frozenset({"exfat", "vfat", "msdos", "cifs", "smb2", "smb3", "9p", "fuse", "fuseblk"})


def signature_of(path: str) -> str:
    """What changes when the file at the absolute ``path`` does: its size, time and inode.

    "" where the file cannot be looked at; reading it says why.
    """
    try:
        return signature_of_status(os.stat(path))  # noqa: PTH116  (bare speed in large folders)
    except (OSError, ValueError):
        return ""


def signature_of_status(found: os.stat_result) -> str:
    """``signature_of`` a file by its status, as ``os.fstat`` has it of an open one.

    The inode is 0 where the file system numbers its files anew at each mount.
    """
    inode = 0 if _is_numbered_anew(found.st_dev) else found.st_ino
    return f"{found.st_size} {found.st_mtime_ns} {inode}"


def is_as_it_was(file: LocalFile) -> bool:
    """Whether a file is there and, its sidecars aside, as it was when it was read.

    Of one at an address or in a shard that is taken for granted: looking costs a request.
    """
    if not file.is_here:
        return True
    now = signature_of(file.absolute)
    return bool(now) and f"{file.signature} ".startswith(f"{now} ")


def file_system_of(device: int) -> str | None:
    """The name of the file system on a device, such as ``ext4``; None where that isn't known."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        # 36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw
        about, _, mounted = line.partition(" - ")
        if about.split(" ", 3)[2:3] == [number]:
            return mounted.partition(" ")[0]
    return None


# A number may come to stand for another device; then files are read once more, or their inodes not compared.
@lru_cache(maxsize=64)
def _is_numbered_anew(device: int) -> bool:
    # Of FUSE the name goes on with what it is made of, as in fuse.sshfs.
    return (file_system_of(device) or "").partition(".")[0] in _NUMBERED_ANEW


class FolderContents:
    """The sidecars in the folders that were asked for lately."""

    def __init__(self) -> None:
        # Of each folder, those of its files that may speak of a photo.
        self._names: OrderedDict[str, Set[str]] = OrderedDict()

    def signature(self, path: str) -> str:
        """``signature_of`` the photo at ``path`` and of its sidecars."""
        folder, _, name = path.rpartition("/")
        signature = signature_of(path)
        return " ".join(
            [signature, *(signature_of(f"{folder}/{found}") for found in self._sidecars(folder, name))]
        )

    def metadata(self, content: bytes, local: LocalFile) -> Metadata:
        """What is known of the photo with that ``content`` in the file ``local``."""
        inside, _, name = local.path.rpartition("/")
        return read_metadata(
            content, name=name, folder=inside, sidecars=self._beside(local), modified=_modified(local)
        )

    def video_metadata(self, video: Video, local: LocalFile) -> Metadata:
        """What is known of a video in the file ``local``."""
        inside, _, name = local.path.rpartition("/")
        return read_video_metadata(
            video, name=name, folder=inside, sidecars=self._beside(local), modified=_modified(local)
        )

    def _beside(self, local: LocalFile) -> dict[str, bytes]:
        folder, _, name = local.absolute.rpartition("/")
        return {
            found: sidecar
            for found in self._sidecars(folder, name)
            if (sidecar := _read(f"{folder}/{found}")) is not None
        }

    def _sidecars(self, folder: str, name: str) -> list[str]:
        names = self._names.get(folder)
        if names is None:
            try:
                names = frozenset(filter(is_sidecar, os.listdir(folder or "/")))  # noqa: PTH208  (speed)
            except OSError:
                names = frozenset()
            self._names[folder] = names
            if len(self._names) > _FOLDERS:
                self._names.popitem(last=False)
        return find_sidecars(name, names) if names else []


def _modified(local: LocalFile) -> float | None:
    """When a file was changed, of what its signature says, so that both speak of one moment."""
    time = local.signature.partition(" ")[2].partition(" ")[0]
    return int(time) / 1e9 if time.isdecimal() else None


def _read(path: str) -> bytes | None:
    """At most a byte more than the limit of a sidecar, which whoever reads it then names."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SIDECAR_BYTES + 1)
    except OSError:
        return None
