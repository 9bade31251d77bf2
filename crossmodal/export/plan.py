"""What runs where, from the YAML of the Flows: the encoders elsewhere, everything else beside the index."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from crossmodal.errors import SettingsError
from crossmodal.flow.topology import FLOW_KINDS, StepEntry, configured_class, flow_file, read_topology
from crossmodal.index.backends import Backend
from crossmodal.index.embedded.schema import INDEX_FILE
from crossmodal.models import DEFAULT_MODEL
from crossmodal.models.recommendation import resolve_best
from crossmodal.models.zoo import find_record
from crossmodal.settings import Settings
from crossmodal.steps.encoding import ImageEncoder, TextEncoder
from crossmodal.yaml_files import read_yaml, yaml_text

__all__ = [
    "COMMON_VARIABLES",
    "ENCODER_PORT",
    "FOLDERS",
    "IMAGE",
    "PROXY_IMAGE",
    "SERVER",
    "TLS_PORT",
    "Encoder",
    "Plan",
    "make_plan",
]

# The image with EXTRAS=jina,clip, and what ends TLS in front of an encoder: jina's executors don't.
IMAGE = "crossmodal:jina"
PROXY_IMAGE = "nginxinc/nginx-unprivileged:1.27-alpine"

SERVER = "crossmodal"
TLS_PORT, ENCODER_PORT = 8443, 5000

# In the image: the volume of the index, what models are downloaded to, the Flows, and what is secret.
FOLDERS = {
    "workspace": PurePosixPath("/app/workspace"),
    "cache": PurePosixPath("/home/search/.cache"),
    "flows": PurePosixPath("/app/flows"),
    "secrets": PurePosixPath("/run/crossmodal"),
    "tls": PurePosixPath("/run/crossmodal-tls"),
    "temporary": PurePosixPath("/tmp"),
}

# Below the volume's root: Docker copies into a new volume what the image has there, the toy photos as the
# default model sees them.
_WORKSPACE = FOLDERS["workspace"] / "index"

# Of every process: nothing but volumes can be written, and `jina` looks for this project's package.
COMMON_VARIABLES = {
    "HOME": str(FOLDERS["temporary"]),
    "PYTHONPATH": "/app",
    "JINA_OPTOUT_TELEMETRY": "1",
    "JINA_WORKSPACE": str(_WORKSPACE),
}

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder: the ``step`` of the Flows, its service's ``name``, how many at least, and what runs it."""

    step: str
    name: str
    replicas: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run.

    ``first_command`` makes an index of the toy photos where there is none. ``flows`` are the texts of the
    Flows' files in which encoders are external, ``memory`` is what a process with the model takes, in GiB,
    and ``database_port`` that of the vector database, None without one.
    """

    first_command: tuple[str, ...]
    server_command: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    flows: Mapping[str, str]
    memory: int
    database_port: int | None


def make_plan(settings: Settings) -> Plan:
    """The plan for the model, the backend, the shards and the replicas of ``settings``.

    Raises SettingsError for a model or a database that lies on this machine, where no container finds it.
    """
    model = resolve_best(settings.model or DEFAULT_MODEL, settings.model_cache)
    if Path(model.partition("?")[0].partition(":")[2] or model.partition("?")[0]).expanduser().exists():
        raise SettingsError(
            f"-m {model} is a file or a folder of this machine, which the containers don't have. Name a "
            "model that `crossmodal models` lists, or build it into the image."
        )
    backend = Backend.of(settings.backend)
    if backend.local:
        raise SettingsError(
            f"--backend {settings.backend} is a file of one process. Name a server, such as --backend "
            "milvus+http://crossmodal-milvus:19530."
        )
    inside = replace(
        settings,
        model=model,
        workspace=Path(_WORKSPACE),
        model_cache=Path(FOLDERS["cache"] / "crossmodal"),
    )
    encoders: dict[str, Encoder] = {}
    flows = {}
    for kind in FLOW_KINDS:
        path = flow_file(kind)
        for entry in read_topology(path, inside.flow_environment()).steps:
            if issubclass(configured_class(entry.config), ImageEncoder | TextEncoder):
                encoders[entry.name] = _encoder(entry)
        flows[path.name] = _with_external(path, encoders)
    return Plan(
        _first_command(inside),
        _server_command(inside),
        tuple(encoders.values()),
        flows,
        _memory(model),
        _port(backend),
    )


def _encoder(entry: StepEntry) -> Encoder:
    given = [f"{name}:{value}" for name, value in entry.uses_with.items()]
    return Encoder(
        entry.name,
        f"{SERVER}-{entry.name.replace('_', '-')}",
        entry.replicas,
        (
            *("jina", "executor", "--name", entry.name),
            *("--uses", f"executors/{entry.config.parent.name}/config.yml"),
            *("--host", "127.0.0.1", "--port", str(ENCODER_PORT), "--uses-with", *given),
        ),
    )


def _with_external(path: Path, encoders: Mapping[str, Encoder]) -> str:
    described = read_yaml(path)
    for step in described["executors"]:
        if (encoder := encoders.get(step["name"])) is not None:
            step.update(external=True, host=encoder.name, port=TLS_PORT, tls=True)
            for name in ("replicas", "grpc_server_options"):
                step.pop(name, None)
    return yaml_text(described)


def _first_command(settings: Settings) -> tuple[str, ...]:
    model = shlex.quote(str(settings.model))
    making = f"python app.py -t index -d toy-data -m {model} --model-cache {settings.model_cache} --public"
    return ("sh", "-c", f"test -e {_WORKSPACE / INDEX_FILE} || {making}")


def _server_command(settings: Settings) -> tuple[str, ...]:
    given = ["--host", "0.0.0.0", "--layout", "pods", "-m", str(settings.model)]
    given += ["--model-cache", str(settings.model_cache)]
    if settings.backend != "embedded":
        given += ["--backend", settings.backend]
    if settings.shards is not None:
        given += ["--shards", str(settings.shards)]
    if settings.index != "auto":
        given += ["--index", settings.index]
    return ("python", "app.py", "-t", "query_restful", *given)


def _memory(model: str) -> int:
    """GiB of a process with the model: its weights, once more while they are read, and a GiB for the rest."""
    record = find_record(model.partition("?")[0])
    size = 0 if record is None or record.download_size is None else record.download_size
    return 1 + max(1, math.ceil(2 * size / _GIB))


def _port(backend: Backend) -> int | None:
    if backend.kind == "embedded":
        return None
    parts = urlsplit(backend.address)
    return parts.port or {"milvus": 19530, "qdrant": 6333}[backend.kind]
