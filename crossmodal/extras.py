"""The optional packages: which extra brings each, and the sentence where one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from crossmodal.errors import MissingExtra

__all__ = ["EXTRAS", "extra_for", "how_to_install", "require_package"]

# The extra that brings each package, and what people call the package.
EXTRAS: Mapping[str, tuple[str, str]] = {
    "torch": ("clip", "PyTorch"),
    "torchvision": ("clip", "torchvision"),
    "open_clip": ("clip", "open_clip"),
    "timm": ("clip", "timm"),
    "transformers": ("clip", "transformers"),
    "matplotlib": ("plot", "matplotlib"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "lmdb": ("convert", "lmdb"),
    "pyarrow": ("parquet", "pyarrow"),
    "opentelemetry": ("otel", "OpenTelemetry"),
    "rawpy": ("raw", "rawpy"),
    "rapidocr": ("ocr", "rapidocr"),
    "reverse_geocode": ("places", "reverse_geocode"),
    "pyjpegxl": ("jxl", "pyjpegxl"),
    "av": ("video", "PyAV"),
    "pymilvus": ("milvus", "pymilvus"),
    "milvus_lite": ("milvus", "Milvus Lite"),
    "psycopg": ("postgres", "psycopg"),
    "qdrant_client": ("qdrant", "qdrant-client"),
    "ray": ("ray", "Ray"),
    "s3fs": ("s3", "s3fs"),
    "mcp": ("mcp", "the MCP SDK"),
    "jina": ("jina", "jina"),
    "docarray": ("jina", "docarray"),
}


def how_to_install(package: str, extra: str | None = None) -> str:
    """The command that brings ``package``, as the clause of a sentence; ``extra`` as in ``extra_for``."""
    if extra is None and package in EXTRAS:
        extra = EXTRAS[package][0]
    return 'pip install "crossmodal-search"' if extra is None else f'pip install "crossmodal-search[{extra}]"'


def require_package(package: str, what: str, extra: str | None = None) -> None:
    """Raises MissingExtra, which says that ``what`` needs it, where ``package`` is not installed.

    For work that takes long before it comes to that package. ``extra`` as in ``extra_for``.
    """
    if find_spec(package) is None:
        raise _missing(package, what, extra)


@contextmanager
def extra_for(what: str, extra: str | None = None) -> Iterator[None]:
    """Turns the absence of an optional package into MissingExtra, which says that ``what`` needs it.

    ``extra`` is the extra to name where it isn't the package's own, such as ``train``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise _missing(package, what, extra) from error


def _missing(package: str, what: str, extra: str | None) -> MissingExtra:
    return MissingExtra(f"{what} needs {EXTRAS[package][1]}: {how_to_install(package, extra)}.")
