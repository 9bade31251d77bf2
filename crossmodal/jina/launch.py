"""What starting jina needs: its presence, its environment, and the process that answers gRPC.

Only ``import_jina`` imports jina, and only when it is called.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import MutableMapping
from dataclasses import asdict, fields, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossmodal.errors import ServiceError
from crossmodal.hosts import listen
from crossmodal.jina.child import Child
from crossmodal.settings import Settings

__all__ = [
    "import_jina",
    "quiet_jina",
    "require_grpc",
    "require_jina",
    "settings_from_json",
    "start_grpc_server",
]


def require_jina(what: str, otherwise: str) -> None:
    """Raises ServiceError where jina is missing: ``what`` needs it, and ``otherwise`` says what doesn't."""
    version = sys.version_info
    if version >= (3, 12):
        raise ServiceError(
            f"{what} needs jina, which has no packages for Python {version[0]}.{version[1]}: "
            f'use Python 3.11 with `pip install "crossmodal-search[jina]"`. {otherwise}'
        )
    if find_spec("jina") is None or find_spec("docarray") is None:
        raise ServiceError(
            f'{what} needs the extra jina: `pip install "crossmodal-search[jina]"` on Python 3.11. '
            f"{otherwise}"
        )


def quiet_jina(environment: MutableMapping[str, str] | None = None) -> None:
    """Keeps jina and its libraries quiet and offline; call it before jina is imported.

    jina starts its telemetry thread at import time.
    """
    environment = os.environ if environment is None else environment
    environment["JINA_OPTOUT_TELEMETRY"] = "1"
    environment.setdefault("JINA_LOG_LEVEL", "CRITICAL")
    # gRPC prints its goodbye messages (GOAWAY) on stderr otherwise.
    environment.setdefault("GRPC_VERBOSITY", "NONE")
    environment.setdefault("GLOG_minloglevel", "3")
    # Linux gives ports from 32768 on to connections: one that jina has chosen could be taken by any client
    # before its process listens there.
    environment.setdefault("JINA_RANDOM_PORT_MIN", "10000")
    environment.setdefault("JINA_RANDOM_PORT_MAX", "19999")


def import_jina() -> Any:
    """The module ``jina``, kept quiet, without the signal handler that it installs when it is imported."""
    quiet_jina()
    before = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        # In another thread than the first it cannot install the handler, and warns of that.
        warnings.simplefilter("ignore")
        jina = import_module("jina")
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGINT, before)
    return jina


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
    if settings.key is not None:
        # Everybody on this machine can read a command line.
        environment["CROSSMODAL_KEY"] = settings.key
    return Child(
        "crossmodal.jina.grpc_server",
        _to_json(replace(settings, key=None)),
        name="The process that answers gRPC",
        environment=environment,
    )


def settings_from_json(text: str) -> Settings:
    """The settings that ``start_grpc_server`` handed over."""
    given: dict[str, Any] = json.loads(text)
    for field in fields(Settings):
        if given[field.name] is not None and "Path" in str(field.type):
            given[field.name] = Path(given[field.name])
    return Settings(**{**given, "key": os.environ.get("CROSSMODAL_KEY") or None})


def _to_json(settings: Settings) -> str:
    return json.dumps(
        {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    )
