"""``keys``: the callers of a server over this workspace, and what each may do."""

from __future__ import annotations

import sys
from typing import Any

from crossmodal.access.keys import KEYS_FILE, Key, KeyFile
from crossmodal.cli.output import print_json
from crossmodal.errors import SettingsError
from crossmodal.settings import Settings

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Lists the keys, makes one and prints it, or revokes one; returns 0.

    Raises SettingsError for a name that is missing, taken or not there, and what ``KeyFile`` raises.
    """
    file = KeyFile(settings.workspace)
    if settings.action == "list":
        _list(file, settings)
        return 0
    if settings.name is None:
        raise SettingsError(
            f"keys {settings.action} needs the name of a key: crossmodal keys {settings.action} NAME"
        )
    if settings.action == "add":
        _add(file, settings, settings.name)
    else:
        file.revoke(settings.name)
        _say_revoked(file, settings, settings.name)
    return 0


def _list(file: KeyFile, settings: Settings) -> None:
    keys = file.keys()
    if settings.json:
        print_json({"keys": [_described(key) for key in keys or ()]})
    elif keys is None:
        print(
            f"There are no keys in {settings.workspace}: a server that listens on this machine only needs "
            "none. `crossmodal keys add NAME` makes the first."
        )
    elif not keys:
        print(_none_left(settings))
    else:
        width = max(len(key.name) for key in keys)
        for key in keys:
            print(f"{key.name:<{width}}  {key.scope:<5}  made {key.created}")


def _add(file: KeyFile, settings: Settings, name: str) -> None:
    first = file.keys() is None
    secret = file.add(name, settings.scope)
    if settings.json:
        print_json({"name": name, "scope": settings.scope, "key": secret})
        return
    # The key alone goes to stdout, so that a program can take it from there.
    print(secret)
    print(
        f"This is the key {name!r} ({settings.scope}); it is shown only now, and stored as a hash.",
        file=sys.stderr,
    )
    if first:
        print(
            f"It is the first in {settings.workspace}: from now on a server there lets nobody in without a "
            "key, also one that runs already.",
            file=sys.stderr,
        )


def _say_revoked(file: KeyFile, settings: Settings, name: str) -> None:
    if settings.json:
        print_json({"revoked": name})
        return
    print(f"The key {name!r} is revoked; servers that run refuse it from now on.")
    if not file.keys():
        print(_none_left(settings), file=sys.stderr)


def _none_left(settings: Settings) -> str:
    return (
        f"No key is left in {settings.workspace}, so a server there lets nobody in. `crossmodal keys add "
        f"NAME` makes one; without the file {settings.workspace / KEYS_FILE} a server on this machine needs "
        "none."
    )


def _described(key: Key) -> dict[str, Any]:
    return {"name": key.name, "scope": key.scope, "created": key.created}
