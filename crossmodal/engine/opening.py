"""Before an index is used: what it already settles, and whether it can be read or written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from crossmodal.errors import SettingsError
from crossmodal.flow.runner import Flow, LocalFlow
from crossmodal.flow.topology import FlowKind, flow_file, read_topology
from crossmodal.index.backends import Backend
from crossmodal.models import DEFAULT_MODEL, identify_model, require_trust
from crossmodal.models.adaptation import adapted_name, parse_adaptation
from crossmodal.models.recommendation import resolve_best
from crossmodal.models.registry import LoadedEncoders
from crossmodal.options import OPTIONS
from crossmodal.settings import Settings
from crossmodal.workspace import Workspace

__all__ = [
    "OpenFlow",
    "check_values",
    "chosen_model",
    "local_flow",
    "local_flows",
    "resolved_for_reading",
    "resolved_for_writing",
]


def chosen_model(settings: Settings, built_by: str | None = None) -> str:
    """The name of the model with its options: ``vse`` and ``--dim 128`` give ``vse?dim=128``.

    Without ``-m``, and with ``-m best``, it is ``built_by``, the model of an index, which may have options
    already: ``--dim``, ``--centering`` and ``--views`` replace those, and opening the index fails if that is
    another model. Where there is no index yet, it is the default model, or the recommended one.

    Raises SettingsError where ``-m`` itself says something else than one of these, and as ``resolve_best``.
    """
    model = settings.model
    if model is not None:
        model = resolve_best(model, settings.model_cache, built_by)
    name = adapted_name(
        model or built_by or DEFAULT_MODEL,
        dim=settings.dim,
        centering=settings.centering,
        views=settings.views,
    )
    given = parse_adaptation(settings.model) if settings.model else None
    wanted = parse_adaptation(name)
    if given is not None and wanted is not None:
        for option in ("dim", "centering", "views"):
            one, other = getattr(given, option), getattr(settings, option)
            if one is not None and other is not None and getattr(wanted, option) != one:
                raise SettingsError(f"-m {settings.model} and --{option} {other} contradict each other.")
    return name


# Opens one of the two Flows over the index that the settings say.
OpenFlow = Callable[[FlowKind, Settings], Flow]


def check_values(settings: Settings) -> None:
    """Raises SettingsError where a value is not among an option's choices, or out of its limits."""
    for option in OPTIONS:
        value = getattr(settings, option.field)
        if value is None or option.kind == "bool" or option.field == "task":
            continue
        try:
            option.convert(str(value))
        except ValueError as error:
            raise SettingsError(f"{option.field}: {error}.") from None


def resolved_for_reading(settings: Settings, workspace: Workspace) -> Settings:
    """The settings with the model that built the index.

    Raises StoreMissing where there is no index, ModelMismatch where another model is asked for, SettingsError
    where its originals and thumbnails are elsewhere than asked for.
    """
    workspace.require().check_objects(settings.objects)
    backend = Backend.of(settings.backend)
    if backend.local and (settings.workers > 1 or settings.layout == "pods"):
        raise SettingsError(
            f"--backend {settings.backend} is a file of one process, which several workers or pods cannot "
            "share. Name a server, such as --backend milvus+http://localhost:19530."
        )
    return _resolved(settings, workspace)


def resolved_for_writing(settings: Settings, workspace: Workspace) -> Settings:
    """The same for an index that may still have to be made. Raises StoreUnwritable as well."""
    settings = _resolved(settings, workspace)
    workspace.require_writable()
    return settings


def local_flow(
    kind: FlowKind, variables: Mapping[str, str], loaded: LoadedEncoders | None = None
) -> LocalFlow:
    """One of the two Flows in this process, as its YAML says; raises as ``LocalFlow``."""
    return LocalFlow(read_topology(flow_file(kind), variables), loaded=loaded)


def local_flows() -> OpenFlow:
    """What opens Flows in this process, all with the same encoders in memory."""
    loaded = LoadedEncoders()
    return lambda kind, settings: local_flow(kind, settings.flow_environment(), loaded)


def _resolved(settings: Settings, workspace: Workspace) -> Settings:
    built_by = workspace.identity()
    model = chosen_model(settings, built_by.name if built_by else None)
    require_trust(model, trust_remote_code=settings.trust_remote_code, cache=settings.model_cache)
    workspace.check_model(identify_model(model, cache=settings.model_cache))
    return replace(settings, model=model, dim=None, centering=None, views=None)
