"""Before a Flow starts: what an index already settles, and whether it can be read or written.

An error is one sentence here, while the processes of a Flow could only fail to start.
"""

from __future__ import annotations

from dataclasses import replace

from crossmodal.engine.model_choice import chosen_model
from crossmodal.models import DEFAULT_MODEL, identify_model, require_trust
from crossmodal.settings import Settings
from crossmodal.stores import Store
from crossmodal.workspace import IMAGE_CONTENTS, IMAGE_VECTORS, TEXTS, Workspace

__all__ = ["open_for_reading", "open_for_writing"]


def open_for_reading(settings: Settings, workspace: Workspace) -> Settings:
    """The settings with the model and the number of shards that the index has.

    Raises StoreMissing where there is no index, ModelMismatch or StoreError where another model or number
    of shards is asked for.
    """
    # An open LMDB environment must not be carried into the processes that a Flow forks.
    with workspace:
        workspace.require()
        return _resolved(settings, workspace)


def open_for_writing(settings: Settings, workspace: Workspace) -> Settings:
    """The same for an index that may still have to be made.

    Raises StoreLocked, StoreUnwritable and StoreFormat as well.
    """
    with workspace:
        settings = _resolved(settings, workspace)
        workspace.require_writable()
        shards = settings.shards or 1
        identity = identify_model(settings.model or DEFAULT_MODEL, cache=settings.model_cache)
        for name in (IMAGE_VECTORS, IMAGE_CONTENTS, TEXTS):
            for shard in range(shards):
                Store.open_writer(workspace.store_path(name, shard, shards), identity=identity).close()
        return settings


def _resolved(settings: Settings, workspace: Workspace) -> Settings:
    built_by = workspace.identity()
    model = chosen_model(settings, built_by.name if built_by else DEFAULT_MODEL)
    require_trust(model, trust_remote_code=settings.trust_remote_code, cache=settings.model_cache)
    workspace.check_model(identify_model(model, cache=settings.model_cache))
    shards = settings.shards or workspace.shards(IMAGE_VECTORS) or 1
    workspace.check_shards(shards)
    return replace(settings, model=model, dim=None, centering=None, shards=shards)
