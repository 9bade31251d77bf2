"""What is known of a photo on this machine beside its pixels, with the sidecars that lie beside it."""

from __future__ import annotations

import os
from contextlib import suppress

from crossmodal.data_sets.photos import signature_of
from crossmodal.metadata import MAX_SIDECAR_BYTES, Metadata, find_sidecars, is_sidecar, read_metadata
from crossmodal.metadata.places import add_places
from crossmodal.records import LocalFile

__all__ = ["METADATA_ORIGIN", "SIDECARS", "Beside"]

# The origin of captions that stand in photos' files or sidecars.
METADATA_ORIGIN = "metadata"

# Stands in a signature between that of the file and those of its sidecars.
SIDECARS = "|"


class Beside:
    """The sidecars of one folder after the other, whose names are remembered as long as its photos come."""

    def __init__(self) -> None:
        self._folder = ""
        self._names: frozenset[str] = frozenset()

    def signature(self, photo: str) -> str:
        """What changes when a sidecar of the photo at the absolute path does; "" where it has none."""
        return "".join(SIDECARS + signature_of(path) for path in self._paths(photo))

    def metadata(self, photo: str, content: bytes, local: LocalFile | None) -> Metadata:
        """What is known of the photo with the bytes ``content``; of one in a ``data:`` URI what those say."""
        if local is None:
            found = read_metadata(content)
            add_places(found.tags)
            return found
        folder, _, name = local.path.rpartition("/")
        modified = None
        with suppress(OSError, ValueError):
            modified = os.stat(photo).st_mtime  # noqa: PTH116  (bare speed in large folders)
        sidecars = {}
        unread = []
        for path in self._paths(photo):
            try:
                with open(path, "rb") as file:
                    # One byte more than may be read, so that one that is too long is told.
                    sidecars[os.path.basename(path)] = file.read(MAX_SIDECAR_BYTES + 1)  # noqa: PTH119
            except OSError as error:
                unread.append(f"The sidecar {path} cannot be read: {error.strerror}.")
        found = read_metadata(content, name=name, folder=folder, sidecars=sidecars, modified=modified)
        found.warnings.extend(unread)
        add_places(found.tags)
        return found

    def _paths(self, photo: str) -> list[str]:
        folder, _, name = photo.rpartition("/")
        if folder != self._folder:
            self._folder = folder
            try:
                self._names = frozenset(filter(is_sidecar, os.listdir(folder or "/")))  # noqa: PTH208
            except OSError:
                # The photo is found all the same, by a caption's file.
                self._names = frozenset()
        return [f"{folder}/{found}" for found in find_sidecars(name, self._names)] if self._names else []
