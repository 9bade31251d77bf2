"""How a vector database stands to an index, for those who don't search in it."""

from __future__ import annotations

from typing import Any

from crossmodal.flow.topology import configured_class, flow_file, read_topology
from crossmodal.index.backends import Backend, seen_backend
from crossmodal.records import Modality
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

__all__ = ["backend_states"]


def backend_states(settings: Settings, workspace: Workspace) -> dict[Modality, list[dict[str, Any]]]:
    """What ``seen_backend`` says of each shard of both modalities; empty where the index itself searches.

    The options are those of the query Flow. Needs no model, brings nothing into the database, and takes a
    few seconds where that is away. Raises StoreMissing, SettingsError and MissingExtra.
    """
    if Backend.of(settings.backend).kind == "embedded":
        return {}
    store = workspace.require()
    states: dict[Modality, list[dict[str, Any]]] = {}
    away: dict[str, Any] | None = None
    for entry in read_topology(flow_file("query"), settings.flow_environment()).steps:
        if "backend" not in entry.uses_with:
            continue
        modality: Modality = configured_class(entry.config).modality  # type: ignore[attr-defined]
        for shard in range(entry.shards):
            if away is None:
                source = store.vector_source(modality, shard, entry.shards)
                options = entry.uses_with.get("backend_options")
                state = seen_backend(source, entry.uses_with["backend"], options)
                away = state if state["state"] == "away" else None
            # One that is away is asked once.
            states.setdefault(modality, []).append(away or state)
    return states
