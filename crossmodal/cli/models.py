"""``models``: what ``-m`` knows by name, without loading or downloading anything."""

from __future__ import annotations

from crossmodal.cli.output import print_json
from crossmodal.models.zoo import ModelRecord, is_cached, zoo
from crossmodal.settings import Settings

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Prints the zoo, as a table or as JSON."""
    rows = [(record, _where(record, settings)) for record in zoo()]
    if settings.json:
        listed = [{**record.to_json(), "available": where} for record, where in rows]
        print_json({"models": listed, "model_cache": str(settings.model_cache)})
    else:
        from crossmodal.cli.present.models import print_models

        print_models(rows, settings.model_cache)
    return 0


def _where(record: ModelRecord, settings: Settings) -> str:
    """``shipped``, ``cached``, ``download`` or ``files`` (only from local files)."""
    if record.shipped:
        return "shipped"
    if record.repository is None:
        return "files"
    return "cached" if is_cached(record, settings.model_cache) else "download"
