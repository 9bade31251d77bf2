"""``status`` and ``models``: what is indexed, and what ``-m`` knows by name, without loading a model."""

from __future__ import annotations

from crossmodal.cli.output import print_json
from crossmodal.models.zoo import ModelRecord, is_cached, zoo
from crossmodal.settings import Settings

__all__ = ["list_models", "show_status"]


def show_status(settings: Settings) -> int:
    """Prints what the workspace holds, as a table or as JSON; raises StoreMissing where there is none."""
    # Only now: the list of models needs no index, nor what reads one.
    from crossmodal.workspace import Workspace

    workspace = Workspace(settings.workspace)
    workspace.require()
    status = workspace.status()
    if settings.json:
        print_json(status)
    else:
        from crossmodal.cli.present.tables import print_status

        print_status(status)
    return 0


def list_models(settings: Settings) -> int:
    """Prints the zoo, as a table or as JSON."""
    rows = [(record, _where(record, settings)) for record in zoo()]
    if settings.json:
        listed = [{**record.to_json(), "available": where} for record, where in rows]
        print_json({"models": listed, "model_cache": str(settings.model_cache)})
    else:
        from crossmodal.cli.present.tables import print_models

        print_models(rows, settings.model_cache)
    return 0


def _where(record: ModelRecord, settings: Settings) -> str:
    """``shipped``, ``cached``, ``download`` or ``files`` (only from local files)."""
    if record.shipped:
        return "shipped"
    if record.repository is None:
        return "files"
    return "cached" if is_cached(record, settings.model_cache) else "download"
