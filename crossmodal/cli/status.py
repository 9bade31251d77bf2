"""``status``: what is indexed, without loading a model."""

from __future__ import annotations

from crossmodal.cli.output import print_json
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace


def run(settings: Settings) -> int:
    """Prints what the workspace holds, as a table or as JSON."""
    workspace = Workspace(settings.workspace)
    workspace.require()
    status = workspace.status()
    if settings.json:
        print_json(status)
    else:
        from crossmodal.cli.present.tables import print_status

        print_status(status)
    return 0
