"""Starts the process that answers gRPC beside the server; imports no jina itself."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from crossmodal.hosts import listen
from crossmodal.jina.child import Child
from crossmodal.jina.environment import quiet_jina, require_jina
from crossmodal.settings import Settings

__all__ = ["require_grpc", "settings_from_json", "start_grpc_server"]


def require_grpc(settings: Settings) -> None:
    """Raises ServiceError where ``settings.grpc_port`` could not be served: no jina, or the port is taken."""
    require_jina("--grpc-port", "HTTP works without it.")
    listen(settings.host, settings.grpc_port, option="--grpc-port").close()


def start_grpc_server(settings: Settings) -> Child:
    """Starts the process that answers gRPC on ``settings.grpc_port`` over the same index.

    It loads a model of its own; its ``is_ready`` and ``wait_ready`` say when it listens. It ends with this
    process, or by its ``stop``. Raises ServiceError where jina is missing or the port is taken.
    """
    require_grpc(settings)
    environment: dict[str, str] = {}
    quiet_jina(environment)
    return Child(
        "crossmodal.jina.grpc_server",
        _to_json(settings),
        name="The process that answers gRPC",
        environment=environment,
    )


def settings_from_json(text: str) -> Settings:
    """The settings that ``start_grpc_server`` handed over."""
    given: dict[str, Any] = json.loads(text)
    for field in fields(Settings):
        if given[field.name] is not None and "Path" in str(field.type):
            given[field.name] = Path(given[field.name])
    return Settings(**given)


def _to_json(settings: Settings) -> str:
    return json.dumps(
        {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    )
