"""What starting jina needs: its presence, its environment, and the process that answers gRPC.

Only ``import_jina`` imports jina, and only when it is called.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossmodal.errors import ServiceError
from crossmodal.hosts import listen
from crossmodal.jina.child import Child
from crossmodal.settings import Settings, exported

__all__ = [
    "FLOW_LOG",
    "GRPC_SETTINGS",
    "RUN_TOKEN",
    "TOKEN_FILE",
    "TOKEN_KEY",
    "import_jina",
    "make_run_token",
    "quiet_jina",
    "read_shared_token",
    "require_grpc",
    "require_jina",
    "settings_from_json",
    "start_grpc_server",
]

# The variables that carry the token of one run to its processes, and name the file of the one that several
# hosts share.
RUN_TOKEN = "CROSSMODAL_RUN_TOKEN"
TOKEN_FILE = "CROSSMODAL_FLOW_TOKEN_FILE"

# The variable that says how the processes of a Flow write their log: "text", "json" or "off".
FLOW_LOG = "CROSSMODAL_FLOW_LOG"

# The variable that carries the settings of the process that answers gRPC.
GRPC_SETTINGS = "CROSSMODAL_GRPC_SETTINGS"

# The key of gRPC's metadata that carries either.
TOKEN_KEY = "crossmodal-token"

_TOKEN_BYTES = 32

# As many characters as 128 bits have in hexadecimal.
_MIN_TOKEN_CHARACTERS = 32


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


def make_run_token(environment: MutableMapping[str, str]) -> str:
    """A new random token of 256 bits, put into the ``environment`` that a Flow's process is started with."""
    token = environment[RUN_TOKEN] = secrets.token_urlsafe(_TOKEN_BYTES)
    return token


def read_shared_token(environment: Mapping[str, str]) -> str | None:
    """The token that this machine shares with others, from the file that a variable names; None without it.

    Raises ServiceError where the file cannot be read, or holds what is no token.
    """
    named = environment.get(TOKEN_FILE)
    if not named:
        return None
    try:
        token = Path(named).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{TOKEN_FILE} names {named}, which cannot be read ({error}).") from None
    if len(token) < _MIN_TOKEN_CHARACTERS or not token.isprintable():
        raise ServiceError(
            f"The file {named} that {TOKEN_FILE} names holds {len(token)} characters; a token is one line of "
            f"at least {_MIN_TOKEN_CHARACTERS} that cannot be guessed, as `openssl rand -hex 32` writes."
        )
    return token


def import_jina() -> Any:
    """The module ``jina``, kept quiet, without the signal handler that it installs when it is imported."""
    quiet_jina()
    before = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings(), _usable_home():
        # In another thread than the first it cannot install the handler, and warns of that.
        warnings.simplefilter("ignore")
        jina = import_module("jina")
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGINT, before)
    return jina


@contextmanager
def _usable_home() -> Iterator[None]:
    """A home folder for the time in which jina is imported, where there is none that can be written.

    jina and the client of its hub make folders of their own there at once, and fail where they cannot; in a
    container under any user's number there may be no home at all.
    """
    home = Path("~").expanduser() if _has_home() else None
    try:
        for made in (".cache/jina", ".jina"):
            if home is not None:
                (home / made).mkdir(parents=True, exist_ok=True)
    except OSError:
        home = None
    if home is not None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="crossmodal-jina-") as instead, exported({"HOME": instead}):
        yield


def _has_home() -> bool:
    return os.path.expanduser("~").startswith("/")  # noqa: PTH111  Path raises where there is none


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
    # In its environment: command lines can be read by everybody on the machine, and there may be a key in it.
    environment = {GRPC_SETTINGS: _to_json(settings)}
    quiet_jina(environment)
    return Child(
        "crossmodal.jina.grpc_process",
        name="The process that answers gRPC",
        environment=environment,
    )


def settings_from_json(text: str) -> Settings:
    """The settings that ``start_grpc_server`` handed over."""
    given: dict[str, Any] = json.loads(text)
    for field in fields(Settings):
        value = given[field.name]
        if value is not None and "Path" in str(field.type):
            given[field.name] = Path(value)
        elif isinstance(value, list):
            given[field.name] = tuple(value)
    return Settings(**given)


def _to_json(settings: Settings) -> str:
    return json.dumps(
        {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    )
