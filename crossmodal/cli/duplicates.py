"""``duplicates``: the photos that repeat another, in groups; then it ends."""

from __future__ import annotations

import sys

from crossmodal.cli.output import write
from crossmodal.engine.duplicates import find_duplicates
from crossmodal.errors import SettingsError
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Prints the groups and their number; returns 0. Raises StoreMissing where there is no index."""
    if settings.null and settings.print != "paths":
        raise SettingsError(f"--null has no meaning with --print {settings.print}; add --print paths.")
    from crossmodal.cli.present import duplicates

    with Workspace(settings.workspace) as workspace:
        groups = find_duplicates(workspace)
    form = "json" if settings.json else settings.print
    if form == "table":
        duplicates.print_groups(groups)
        return 0
    for content in duplicates.written(groups, form, end=b"\0" if settings.null else b"\n"):
        write(content)
    # Not among the paths that another program reads.
    print(duplicates.summary(groups), file=sys.stderr)
    return 0
