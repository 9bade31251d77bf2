"""``status``, ``models`` and ``plot``: commands that load no model."""

from __future__ import annotations

import sys
from dataclasses import asdict

from crossmodal.cli.output import print_json
from crossmodal.errors import StoreUnwritable
from crossmodal.models.zoo import ModelRecord, is_cached, zoo
from crossmodal.settings import Settings

__all__ = ["list_models", "plot_flows", "show_status"]


def show_status(settings: Settings) -> int:
    """Prints what the workspace holds, as a table or as JSON, and how vector database and object store stand.

    Returns 1 where one of these is away, else 0. Raises StoreMissing where there is no index.
    """
    # Only now: the list of models needs no index, nor what reads one.
    from crossmodal.engine.backend_health import backend_states
    from crossmodal.http_shapes.v1.answers import worst_backend
    from crossmodal.workspace import Workspace

    with Workspace(settings.workspace) as workspace:
        status = workspace.status(parts=True)
        states = backend_states(settings, workspace)
    for modality, part in status["modalities"].items():
        part["backend"] = worst_backend(states.get(modality, ()))
    if settings.json:
        print_json(status)
    else:
        from crossmodal.cli.present.tables import print_status

        print_status(status)
    stores = [state for each in states.values() for state in each] + [status["objects"] or {}]
    return int(any(state.get("state") == "away" for state in stores))


def list_models(settings: Settings) -> int:
    """Prints the zoo, or those that were measured to find the best one, as a table or as JSON.

    Raises ModelError where open_clip, which computes them, is not installed.
    """
    if settings.action == "recommend":
        _recommend(settings)
        return 0
    rows = [(record, _where(record, settings)) for record in zoo()]
    if settings.json:
        listed = [{**record.to_json(), "available": where} for record, where in rows]
        print_json({"models": listed, "model_cache": str(settings.model_cache)})
    else:
        from crossmodal.cli.present.tables import print_models

        print_models(rows, settings.model_cache)
    return 0


def _recommend(settings: Settings) -> None:
    from crossmodal.models.recommendation import recommend

    measured = recommend(
        settings.model_cache, again=True, begin=lambda name: print(f"measuring {name} ...", file=sys.stderr)
    )
    last = measured[-1]
    if settings.json:
        rows = [
            {**asdict(each), "available": _where(each.record, settings), **each.record.to_json()}
            for each in measured
        ]
        print_json({"recommended": last.name if last.quick else None, "measured": rows})
        return
    from crossmodal.cli.present.tables import print_recommendation

    print_recommendation([(each, _where(each.record, settings)) for each in measured])


def plot_flows(settings: Settings) -> int:
    """Writes ``flow-index.mmd`` and ``flow-query.mmd`` with the settings' shards and replicas; returns 0.

    Raises StoreUnwritable where the folder or a file in it cannot be written.
    """
    from crossmodal.flow.topology import FLOW_KINDS, draw_flow, flow_file, read_topology

    folder = settings.output or settings.workspace / "flows"
    written = {}
    for kind in FLOW_KINDS:
        path = flow_file(kind)
        diagram = folder / path.with_suffix(".mmd").name
        topology = read_topology(path, settings.flow_environment())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            diagram.write_text(draw_flow(topology), encoding="utf-8")
        except OSError as error:
            raise StoreUnwritable(
                f"The diagram {diagram} cannot be written ({error.strerror}); choose another folder with "
                "--output."
            ) from None
        written[kind] = str(diagram)
    if settings.json:
        print_json(written)
    else:
        for kind, name in written.items():
            print(f"{kind} Flow: {name}")
    return 0


def _where(record: ModelRecord, settings: Settings) -> str:
    """``shipped``, ``cached``, ``download`` or ``files`` (only from local files)."""
    if record.shipped:
        return "shipped"
    if record.repository is None:
        return "files"
    return "cached" if is_cached(record, settings.model_cache) else "download"
