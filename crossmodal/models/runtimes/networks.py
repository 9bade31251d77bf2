"""Compiled networks: from a graph and a form to a function that many threads can call."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crossmodal.machine import available_cores
from crossmodal.models.cache import replace_file
from crossmodal.models.runtimes.forms import Form, instruction_sets, openvino_core

__all__ = ["CacheEntry", "Network", "open_network"]

_log = logging.getLogger(__name__)

# All compiled networks together; those that were used last stay. One of the project's own takes some 30 MB.
_CACHED_BYTES = 2 << 30

# Writing a network takes seconds; an older unfinished file was left by a process that was killed.
_ABANDONED_SECONDS = 3600.0


class Network(Protocol):
    """A compiled network."""

    @property
    def concurrency(self) -> int:
        """How many threads can usefully call ``run`` at once; each call computes on one thread."""
        ...

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The one output for the inputs in the graph's order; safe from any number of threads.

        Raises RuntimeError where the network cannot be computed.
        """
        ...


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Where OpenVINO's compiled network is cached, so that the next start neither builds nor compiles it.

    ``folder`` holds one file for each ``name``, such as the fingerprint of weights and the tower; ``graph``
    is everything else that decides the graph: shapes, preprocessing, a fingerprint of the code.
    """

    folder: Path
    name: str
    graph: str

    def file(self, precision: str) -> Path:
        """The entry's file for ``precision``, this version of OpenVINO and this CPU."""
        import xxhash
        from openvino import get_version

        decisive = "\n".join((self.graph, get_version(), instruction_sets())).encode()
        return self.folder / f"{self.name}-{precision}-{xxhash.xxh3_64_hexdigest(decisive)}.openvino"


def open_network(
    form: Form,
    build: Callable[[], bytes],
    *,
    threads: int | None = None,
    cached: CacheEntry | None = None,
) -> Network:
    """The network that ``build`` describes (``Graph.serialize``), in a ``form`` of OpenVINO or onnxruntime.

    ``threads`` is how many threads compute at once (None: one a core), each a call of its own. Raises
    RuntimeError where the library refuses the graph.
    """
    if form.library == "openvino":
        return _OpenVinoNetwork(build, form.precision, threads or available_cores(), cached)
    return _OnnxNetwork(build(), threads or available_cores())


class _OnnxNetwork:
    """A graph in an onnxruntime session that computes each call on the thread that makes it."""

    def __init__(self, graph: bytes, threads: int) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # Errors only; it warns of every constant that it folds.
        options.log_severity_level = 3
        with _runtime_errors():
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]
        self.concurrency = threads

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """As ``Network.run`` says."""
        with _runtime_errors():
            return np.asarray(self._session.run(None, dict(zip(self._names, inputs, strict=True)))[0])


@contextmanager
def _runtime_errors() -> Iterator[None]:
    """Each kind of onnxruntime's errors is an Exception, without a class in common, as a RuntimeError."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(str(error)) from error


class _OpenVinoNetwork:
    """A compiled model with one inference thread a stream, and a request for each stream.

    Its vectors don't depend on which stream computes them.
    """

    def __init__(
        self, build: Callable[[], bytes], precision: str, threads: int, cached: CacheEntry | None
    ) -> None:
        self.concurrency = threads
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": str(self.concurrency),
            "INFERENCE_NUM_THREADS": str(self.concurrency),
            # Other processes compute as well; pinned threads would all sit on the first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        file = None if cached is None else cached.file(precision)
        compiled, mapped = (None, None) if file is None else _read(file, options)
        if compiled is None:
            core = openvino_core()
            compiled = core.compile_model(core.read_model(build()), "CPU", options)
            if file is not None:
                _write(file, compiled)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.concurrency):
            self._idle.put(compiled.create_infer_request())
        # OpenVINO computes with this memory and doesn't hold it itself; the requests are let go of before it.
        self._mapped = mapped

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """As ``Network.run`` says; waits while all inference requests are in use."""
        request = self._idle.get()
        try:
            with nullcontext() if _FIRST.done else _FIRST.lock:
                request.infer(list(inputs), share_inputs=True)
                # A copy: the next call writes to the same memory.
                vectors = np.array(request.get_output_tensor(0).data)
            _FIRST.done = True
            return vectors
        finally:
            self._idle.put(request)


class _FirstInference:
    """The first inference of a process is done alone: it fills static tables of OpenVINO's binding.

    Two threads that fill them at once deadlock, one waiting for the table and one for Python's lock (seen
    with 2026.4.1, a sentence beside a photo).
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = False


_FIRST = _FirstInference()


def _read(path: Path, options: dict[str, str]) -> tuple[Any, npt.NDArray[np.uint8] | None]:
    """The compiled model that ``_write`` left at ``path``, and the memory that it is in, or None of both."""
    import openvino
    import xxhash

    if not path.is_file():
        return None, None
    try:
        # Mapped, so that weights which are computed with as they are stored are in memory once for all
        # processes. OpenVINO wants memory that could be written to, here a copy of the page.
        content = np.memmap(path, np.uint8, "c")
        digest = xxhash.xxh3_128(b"").digest_size
        if xxhash.xxh3_128_digest(content.data[digest:]) != content[:digest].tobytes():
            raise ValueError("its checksum is wrong")
        compiled = openvino_core().import_model(
            openvino.Tensor(content[digest:], shared_memory=True), "CPU", options
        )
        with suppress(OSError):
            # The time of change records which networks were used last.
            os.utime(path)
        return compiled, content
    except (OSError, ValueError, RuntimeError) as error:
        _log.warning(
            "The compiled network %s cannot be used and is compiled again: %s.",
            path,
            " ".join(str(error).split())[:200],
        )
        return None, None


def _write(path: Path, compiled: Any) -> None:
    """Caches the network at ``path``, unless it is too large or cannot be written."""
    import xxhash

    content = compiled.export_model().getvalue()
    if len(content) > _CACHED_BYTES:
        return
    try:
        replace_file(path, xxhash.xxh3_128_digest(content), content)
        _make_room(path.parent)
    except OSError as error:
        _log.warning("The compiled network is not cached: %s.", error)


def _make_room(folder: Path) -> None:
    """Deletes unfinished files, and the networks that were used longest ago beyond ``_CACHED_BYTES``."""
    for path in folder.glob("*.openvino.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
    found = []
    for path in folder.glob("*.openvino"):
        # Another process may be making room as well.
        with suppress(FileNotFoundError):
            found.append((path.stat(), path))
    size = 0
    for status, path in sorted(found, key=lambda entry: entry[0].st_mtime, reverse=True):
        size += status.st_size
        if size > _CACHED_BYTES:
            path.unlink(missing_ok=True)
