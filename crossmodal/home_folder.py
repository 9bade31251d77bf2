"""Paths that begin with ``~``, the home folder."""

from __future__ import annotations

from pathlib import Path

from crossmodal.errors import SettingsError

__all__ = ["expanded"]


def expanded(path: str | Path) -> Path:
    """``path`` with ``~`` or ``~NAME`` at its beginning replaced by that user's home folder.

    Raises SettingsError where there is no such folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        # There is no user of that name, or one whom neither HOME nor the list of users knows.
        raise SettingsError(
            f"The home folder in {path} is not known; write the path from / on, or set HOME."
        ) from None
