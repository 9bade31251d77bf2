"""``backup``, ``restore``, ``verify``, ``compact``, ``dump``, ``load``: care of an index, without a model."""

from __future__ import annotations

import sys
from pathlib import Path

from crossmodal.cli.output import print_json, write
from crossmodal.errors import SettingsError
from crossmodal.index.embedded.writer_lock import wait_for_writer
from crossmodal.settings import Settings

__all__ = [
    "back_up_index",
    "compact_index",
    "dump_index",
    "load_index",
    "restore_index",
    "verify_index",
]


def back_up_index(settings: Settings) -> int:
    """Copies the index to the named file; returns 0. Raises as ``copies.back_up``."""
    from crossmodal.index.embedded.copies import back_up

    file = _file(settings, "backup")
    size = back_up(settings.workspace, file)
    print(f"Backed up the index in {settings.workspace} to {file}: {size:,} bytes, checked.")
    return 0


def restore_index(settings: Settings) -> int:
    """Makes the named backup the index in the workspace; returns 0. Raises as ``copies.restore``."""
    from crossmodal.index.embedded.copies import restore

    file = _file(settings, "restore")
    wait_for_writer(settings.workspace, settings.wait)
    restore(file, settings.workspace, replace=settings.replace)
    print(f"Restored the index in {settings.workspace} from {file}; what came back was checked.")
    return 0


def verify_index(settings: Settings) -> int:
    """Checks everything that the workspace holds and names what is damaged; 0 where all is sound, else 1.

    Raises StoreMissing where there is no index, StoreFormat where it cannot be opened at all.
    """
    from crossmodal.index.embedded.derived_file import damaged_files
    from crossmodal.workspace import Workspace

    with Workspace(settings.workspace) as workspace:
        store = workspace.require()
        found = store.verify()
        derived = damaged_files(store.path)
    if settings.json:
        print_json({"sound": not found, "damaged": found, "derived": derived})
        return 1 if found else 0
    for sentence in found:
        # Ids and names may have characters that stdout hasn't.
        write(f"{sentence}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
    for name in derived:
        print(f"{name} is damaged; it is made again from the index at the next start.")
    if found:
        print(
            f"The index in {settings.workspace} is damaged in {len(found):,} places. Index again what is "
            "named to repair it, or restore a backup.",
            file=sys.stderr,
        )
        return 1
    print(f"The index in {settings.workspace} is sound: every record, checksum and counter was checked.")
    return 0


def compact_index(settings: Settings) -> int:
    """Gives free space in the index's file back to the disk, and sweeps its object store; returns 0.

    Raises as ``copies.compact`` and ``sweep_objects``.
    """
    from crossmodal.index.embedded.copies import compact
    from crossmodal.index.embedded.object_care import sweep_objects
    from crossmodal.index.embedded.opening import documents_address
    from crossmodal.workspace import Workspace

    with Workspace(settings.workspace) as workspace:
        workspace.require()
    # A database gives back its space itself.
    if documents_address(settings.workspace) is None:
        wait_for_writer(settings.workspace, settings.wait)
        before, after = compact(settings.workspace)
        print(f"Compacted the index in {settings.workspace} from {before:,} to {after:,} bytes.")
    if swept := sweep_objects(settings.workspace):
        print(f"Deleted {swept:,} objects that no photo has any more from the object store.")
    return 0


def dump_index(settings: Settings) -> int:
    """Writes the index to the named Parquet file; returns 0. Raises as ``parquet.dump``."""
    from crossmodal.index.embedded.parquet import dump

    file = _file(settings, "dump")
    moved = dump(settings.workspace, file)
    print(f"Wrote {moved.photos:,} photos and {moved.captions:,} captions with their vectors to {file}.")
    return 0


def load_index(settings: Settings) -> int:
    """Makes an index of the named Parquet file; returns 0. Raises as ``parquet.load``."""
    from crossmodal.index.embedded.parquet import load

    file = _file(settings, "load")
    moved = load(file, settings.workspace, objects=settings.objects)
    print(f"Loaded {moved.photos:,} photos and {moved.captions:,} captions into {settings.workspace}.")
    return 0


def _file(settings: Settings, command: str) -> Path:
    if settings.file is None:
        raise SettingsError(f"crossmodal {command} needs a file: crossmodal {command} FILE.")
    return settings.file
