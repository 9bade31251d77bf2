"""Every option's value, typed and with its default, and the limits and choices that other parts know too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from crossmodal.errors import SettingsError
from crossmodal.home_folder import expanded

__all__ = [
    "DIRECTIONS",
    "ENCODING",
    "EXPORTS",
    "FORMATS",
    "INDEXES",
    "KEEP",
    "LAYOUTS",
    "LOGS",
    "LOSSES",
    "LOST_SHARDS",
    "MAX_PORT",
    "MAX_WORKERS",
    "OCR",
    "PRINTS",
    "PROTOCOLS",
    "READ_AS",
    "RUNTIMES",
    "SCOPES",
    "STDIN",
    "TARGETS",
    "VIEWS",
    "WRITING",
    "Direction",
    "GivenQuestion",
    "Scope",
    "Settings",
    "Target",
    "backend_token",
    "exported",
]

LAYOUTS = ("fused", "pods")
# What a search answers without the shards that don't.
LOST_SHARDS = ("error", "partial")
# Where photos are read and encoded.
ENCODING = ("here", "ray")
KEEP = ("path", "original")
# Of files of vectors.
FORMATS = ("npy", "parquet")
EXPORTS = ("kubernetes", "compose", "helm")
OCR = ("auto", "off")
# As a data set, a list of photos on stdin.
STDIN = "-"
READ_AS = ("auto", "folder", "kaggle", "table", "karpathy", "coco", "shards")
WRITING = ("auto", "on", "off")
LOGS = ("text", "json", "off")
# How many views of a photo its vector may be the mean of; see models.views.
VIEWS = ("1", "2", "3", "6")
RUNTIMES = ("auto", "torch", "openvino", "onnx")
INDEXES = ("auto", "exact", "scan", "coarse", "ivf", "hnsw", "ivfpq", "lsh")
LOSSES = (
    "max-of-hinges",
    "sum-of-hinges",
    "triplet-random",
    "triplet-semi-hard",
    "triplet-hardest",
    "infonce",
    "mnr",
    "sigmoid",
)
Target = Literal["image", "text", "both"]
TARGETS: tuple[Target, ...] = get_args(Target)
Direction = Literal["text2image", "image2text", "both"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Scope = Literal["read", "write", "admin"]
# Each one includes those before it.
SCOPES: tuple[Scope, ...] = get_args(Scope)
PRINTS = ("table", "paths", "json", "jsonl", "csv")
PROTOCOLS = ("whole", "flickr8k-1k", "flickr30k-1k", "coco-5k", "coco-1k", "original")

MAX_PORT = 65535
MAX_WORKERS = 64


class GivenQuestion(NamedTuple):
    """One question of ``search``: the long name of the option that gives it, and its value."""

    option: str
    value: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option with its type and default; a field's name is the option's long name.

    ``questions`` holds the values of all options that ask one, in the order of the command line, and
    ``data_sets`` each value of ``--data_set``.
    """

    task: str = ""
    data_sets: tuple[str, ...] = ("toy-data",)
    read_as: str = "auto"
    on: str = "here"
    exclude: tuple[str, ...] = ()
    num_docs: int | None = None
    split: str | None = None
    model: str | None = None
    dim: int | None = None
    centering: Path | None = None
    views: int | None = None
    workspace: Path = Path("workspace")
    data_root: Path = Path("data")
    model_cache: Path = Path("~/.cache/crossmodal")
    trust_remote_code: bool = False
    runtime: str = "auto"
    request_size: int = 32
    keep: str = "path"
    moments: int = 60
    delete_missing: bool = False
    verify: bool = False
    ocr: str = "auto"
    public: bool = False
    strict: bool = False
    file: Path | None = None
    replace: bool = False
    wait: float = 0.0
    top_k: int = 10
    questions: tuple[GivenQuestion, ...] = ()
    modality: Target | None = None
    filter: str | None = None
    min_score: float | None = None
    offset: int = 0
    hybrid: bool | None = None
    sort: str | None = None
    literal: bool = False
    rerank: str | None = None
    rerank_depth: int = 50
    explain: bool = False
    group_duplicates: bool = True
    print: str = "table"
    null: bool = False
    url: str | None = None
    # Never in what is printed of the settings.
    key: str | None = field(default=None, repr=False)
    tls_ca: Path | None = None
    picture: Path | None = None
    host: str = "127.0.0.1"
    port: int = 45678
    workers: int = 1
    request_timeout: float = 60.0
    grpc_port: int = 0
    writing: str = "auto"
    log: str = "text"
    allow_origin: tuple[str, ...] = ()
    insecure_no_auth: bool = False
    make_key: bool = False
    trusted_proxy: tuple[str, ...] = ()
    root_path: str = ""
    rate_limit: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    fetch_urls: bool = False
    show_locations: bool = False
    fetch_from: tuple[str, ...] = ()
    otlp: str | None = None
    layout: str = "fused"
    parallel: int = 1
    shards: int | None = None
    lost_shards: str = "error"
    index: str = "auto"
    backend: str = "embedded"
    documents: str | None = None
    objects: str | None = None
    max_pixels: int = 178_956_970
    max_photo_bytes: int = 67_108_864
    max_video_bytes: int = 17_179_869_184
    decode_memory: int | None = None
    direction: Direction = "both"
    direct: bool = False
    protocol: str | None = None
    num_indexed: int | None = None
    compare: str | None = None
    gap: bool = False
    calibrate: bool = False
    config: Path | None = None
    loss: str | None = None
    output: Path | None = None
    embeddings: Path | None = None
    format: str = "npy"
    to: str | None = None
    action: str = "list"
    name: str | None = None
    items: tuple[str, ...] = ()
    scope: Scope = "read"
    json: bool = False

    def __post_init__(self) -> None:
        # Also where no command line was read: a folder called "~" is never meant.
        object.__setattr__(self, "model_cache", expanded(self.model_cache))
        # As an IPv6 address stands in a URL.
        if self.host.startswith("[") and self.host.endswith("]"):
            object.__setattr__(self, "host", self.host[1:-1])

    @property
    def data_set(self) -> str:
        """The one data set; raises SettingsError where there are several."""
        if len(self.data_sets) > 1:
            raise SettingsError(
                f"-d is given {len(self.data_sets)} times ({', '.join(self.data_sets)}), and only `index` "
                "takes more than one."
            )
        return self.data_sets[0]

    def flow_environment(self) -> dict[str, str]:
        """The variables that ``flows/*.yml`` refer to."""
        return {
            "JINA_WORKSPACE": str(self.workspace.absolute()),
            "JINA_SHARDS": str(self.shards or 1),
            "JINA_PARALLEL": str(self.parallel),
            "CROSSMODAL_MODEL": self.model or "",
            "CROSSMODAL_MODEL_CACHE": str(self.model_cache.absolute()),
            "CROSSMODAL_TRUST_REMOTE_CODE": "true" if self.trust_remote_code else "false",
            "CROSSMODAL_RUNTIME": self.runtime,
            "CROSSMODAL_MAX_PIXELS": str(self.max_pixels),
            "CROSSMODAL_MAX_PHOTO_BYTES": str(self.max_photo_bytes),
            # 0 leaves it to the machine that decodes.
            "CROSSMODAL_DECODE_MEMORY": str(self.decode_memory or 0),
            "CROSSMODAL_KEEP": self.keep,
            "CROSSMODAL_RERANK": self.rerank or "",
            "CROSSMODAL_INDEX": self.index,
            "CROSSMODAL_BACKEND": self.backend,
            # Empty is as the index says.
            "CROSSMODAL_OBJECTS": self.objects or "",
        }


def backend_token() -> str:
    """The token of the vector database, or user:password, from ``$CROSSMODAL_BACKEND_TOKEN``; "" without one.

    It is on no command line and in no Flow, where others could read it.
    """
    return os.environ.get("CROSSMODAL_BACKEND_TOKEN", "")


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets ``variables`` for the processes that start in this context, and then restores the old values."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
