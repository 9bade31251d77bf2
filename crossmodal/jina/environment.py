"""The environment in which jina and its libraries start quietly and ask nobody outside."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

__all__ = ["quiet_jina"]


def quiet_jina(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keeps jina and its libraries quiet and offline, here and in the processes that are started.

    Call it before jina is imported: jina starts its telemetry thread at import time.
    """
    environment["JINA_OPTOUT_TELEMETRY"] = "1"
    environment.setdefault("JINA_LOG_LEVEL", "CRITICAL")
    # gRPC prints its goodbye messages (GOAWAY) on stderr otherwise.
    environment.setdefault("GRPC_VERBOSITY", "NONE")
    environment.setdefault("GLOG_minloglevel", "3")
    # Linux gives ports from 32768 on to connections: one that jina has chosen could be taken by any client
    # before its process listens there.
    environment.setdefault("JINA_RANDOM_PORT_MIN", "10000")
    environment.setdefault("JINA_RANDOM_PORT_MAX", "19999")
