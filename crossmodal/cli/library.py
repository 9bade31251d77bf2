"""``roots`` and ``trash``: where the photos of an index lie, and what the disk lost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from crossmodal.addresses import is_address
from crossmodal.cli.output import print_json, write_lines
from crossmodal.cli.present.console import counted
from crossmodal.errors import SettingsError
from crossmodal.index.embedded.library import TRASH_DAYS
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.embedded.writer_lock import wait_for_writer
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

__all__ = ["roots", "trash"]


def roots(settings: Settings) -> int:
    """Lists the folders of photos, says that one lies elsewhere now, or removes one; returns 0.

    Raises SettingsError for an action without its folders, StoreMissing, StoreLocked, DataError.
    """
    items = settings.items
    if settings.action == "list":
        _needs("roots list", items, 0, "")
        _list_roots(settings)
    elif settings.action == "move":
        _needs("roots move", items, 2, "the folder as it was and as it is: crossmodal roots move OLD NEW")
        old, new = map(_absolute, items)
        if not is_address(new) and not Path(new).is_dir():
            raise SettingsError(f"{new} is no folder; mount it, or give the folder where the photos are now.")
        with _writing(settings) as store:
            count = store.library.move_root(old, new)
        print(f"{counted(count, 'file')} of {old}: in {new} now; nothing was encoded again.")
    else:
        _needs("roots remove", items, 1, "the folder: crossmodal roots remove FOLDER")
        with _writing(settings) as store:
            gone = store.library.remove_root(_absolute(items[0]))
        went = f"{counted(len(gone), 'photo')} went to the trash{_for_days(gone)}"
        print(f"Removed {_absolute(items[0])}; {went}.")
    return 0


def trash(settings: Settings) -> int:
    """Lists what the disk lost, brings photos back, or deletes all of it for good; returns 0.

    Raises SettingsError for an action without ids, or an id that isn't there; StoreMissing, StoreLocked.
    """
    items = settings.items
    if settings.action == "list":
        _needs("trash list", items, 0, "")
        _list_trash(settings)
    elif settings.action == "restore":
        with _writing(settings) as store:
            there = [each.photo for each in store.library.trash()]
            wanted = list(items) or there
            if unknown := [id for id in wanted if id not in there]:
                raise SettingsError(f"{unknown[0]} is not in the trash; `crossmodal trash` lists what is.")
            restored = store.library.restore(wanted)
        back = counted(len(restored), "photo")
        print(f"{back} back, with tags and captions, to stay with a file or without.")
    else:
        _needs("trash empty", items, 0, "")
        with _writing(settings) as store:
            count = store.library.empty_trash()
        print(f"Deleted {counted(count, 'photo')} for good.")
    return 0


def _list_roots(settings: Settings) -> None:
    with Workspace(settings.workspace) as workspace:
        found = workspace.require().library.roots()
    listed = [{"path": root.path, "files": root.files, "there": _is_there(root.path)} for root in found]
    if settings.json:
        print_json({"roots": listed})
        return
    write_lines(
        f"{each['files']:>9,}  {each['path']}{'  (not there now)' if each['there'] is False else ''}"
        for each in listed
    )
    if not listed:
        print("No photo of this index lies in a folder: all were uploaded, or none is there.")


def _list_trash(settings: Settings) -> None:
    with Workspace(settings.workspace) as workspace:
        found = workspace.require().library.trash()
    listed = [
        {
            "id": each.photo,
            "file": each.file,
            "deleted": _day(each.deleted),
            "kept_until": _day(each.kept_until),
        }
        for each in found
    ]
    if settings.json:
        print_json({"trash": listed})
        return
    write_lines(
        f"{each['id']}  {each['deleted']}  {each['file'] or '(its file has another content now)'}"
        for each in listed
    )
    if not listed:
        print("The trash is empty.")


def _needs(command: str, items: Sequence[str], count: int, what: str) -> None:
    if len(items) != count:
        said = f"needs {what}" if what else f"takes nothing more, and not {' '.join(items)}"
        raise SettingsError(f"crossmodal {command} {said}.")


def _writing(settings: Settings) -> EmbeddedStore:
    # First, so that a wrong folder doesn't become an empty index.
    with Workspace(settings.workspace) as workspace:
        workspace.require()
    wait_for_writer(settings.workspace, settings.wait)
    return EmbeddedStore.open_writer(settings.workspace)


def _is_there(root: str) -> bool | None:
    """Whether a root is there; None for an address, as nothing is asked for."""
    return None if is_address(root) else Path(root).is_dir()


def _absolute(path: str) -> str:
    if is_address(path):
        return path.rstrip("/")
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  (keeps symlinks)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _for_days(gone: Sequence[str]) -> str:
    return f", where they stay for {TRASH_DAYS} days" if gone else ""
