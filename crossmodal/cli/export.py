"""``export``: manifests of the Flows for what runs containers."""

from __future__ import annotations

from crossmodal.errors import SettingsError
from crossmodal.export import export
from crossmodal.settings import EXPORTS, Settings

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Writes the manifests and prints the commands that go on from there; returns 0. Raises as ``export``."""
    if settings.to is None or settings.output is None:
        raise SettingsError(
            f"crossmodal export needs what it is for and a folder: --to {'|'.join(EXPORTS)} --output FOLDER."
        )
    commands = export(settings, settings.to, settings.output)
    print(f"Wrote {settings.output}. The key and the token in it are secret. Go on with:")
    for command in commands:
        print(f"  {command}")
    return 0
