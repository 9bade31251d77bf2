"""``status``: what is indexed, without loading a model."""

from __future__ import annotations

import json

from crossmodal.settings import Settings
from crossmodal.workspace import Workspace


def run(settings: Settings) -> int:
    """Prints what the workspace holds, as a table or as JSON."""
    workspace = Workspace(settings.workspace)
    workspace.require()
    status = workspace.status()
    if settings.json:
        print(json.dumps(status, ensure_ascii=False))
    else:
        from crossmodal.cli.present.tables import print_status

        print_status(status)
    return 0
