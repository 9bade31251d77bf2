"""Networks through OpenVINO's CPU plugin."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crossmodal.models.cached_files import replace_file
from crossmodal.models.runtimes.machine import available_cores, instruction_sets

if TYPE_CHECKING:
    from crossmodal.models.runtimes.network import Keep

__all__ = ["OpenVinoNetwork", "computes_in"]

_log = logging.getLogger(__name__)


# All compiled networks together; those that were used last stay. One of the project's own takes some 30 MB.
_KEPT_BYTES = 2 << 30

# Writing a network takes seconds; what is older was left by a process that was killed.
_ABANDONED_SECONDS = 3600.0


class OpenVinoNetwork:
    """A compiled model with one inference thread a stream, and a request for each stream.

    Its vectors don't depend on which stream computes them.
    """

    def __init__(
        self,
        build: Callable[[], bytes],
        precision: str,
        *,
        threads: int | None = None,
        keep: Keep | None = None,
    ) -> None:
        """Arguments as for ``network.open_network``. Raises RuntimeError where OpenVINO refuses the graph."""
        self.concurrency = threads or available_cores()
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": str(self.concurrency),
            "INFERENCE_NUM_THREADS": str(self.concurrency),
            # Other processes compute as well; pinned threads would all sit on the first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        kept = None if keep is None else _file(keep, precision)
        compiled = _read(kept, options)
        if compiled is None:
            compiled = _core().compile_model(_core().read_model(build()), "CPU", options)
            if kept is not None:
                _write(kept, compiled)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.concurrency):
            self._idle.put(compiled.create_infer_request())

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """As ``Network.run`` says; waits while all requests are at work."""
        request = self._idle.get()
        try:
            with nullcontext() if _FIRST.is_over else _FIRST.lock:
                request.infer(list(inputs), share_inputs=True)
                # A copy: the next call writes to the same memory.
                vectors = np.array(request.get_output_tensor(0).data)
            _FIRST.is_over = True
            return vectors
        finally:
            self._idle.put(request)


class _FirstInference:
    """The first inference of a process is done alone: it fills static tables of OpenVINO's binding.

    Two threads that fill them at once wait for each other for ever, one for the table and one for Python's
    lock (seen with 2026.4.1, a sentence beside a photo).
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_over = False


_FIRST = _FirstInference()


def computes_in(precision: str) -> bool:
    """Whether the CPU has instructions for ``precision``, as OpenVINO calls it: BF16, FP16, INT8."""
    return precision in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> Any:
    # The runtime itself sends no telemetry; only OpenVINO's converters do, and none is used.
    import openvino

    return openvino.Core()


def _file(keep: Keep, precision: str) -> Path:
    import xxhash
    from openvino import get_version

    decisive = "\n".join((keep.graph, get_version(), instruction_sets())).encode()
    return keep.folder / f"{keep.name}-{precision}-{xxhash.xxh3_64_hexdigest(decisive)}.openvino"


def _read(path: Path | None, options: dict[str, str]) -> Any:
    """The compiled model that ``_write`` left at ``path``, or None."""
    import xxhash

    if path is None or not path.is_file():
        return None
    try:
        content = path.read_bytes()
        digest = xxhash.xxh3_128(b"").digest_size
        if xxhash.xxh3_128_digest(memoryview(content)[digest:]) != content[:digest]:
            raise ValueError("its checksum is wrong")
        compiled = _core().import_model(io.BytesIO(content[digest:]), "CPU", options)
        with suppress(OSError):
            # By this time it is told which were used last.
            os.utime(path)
        return compiled
    except (OSError, ValueError, RuntimeError) as error:
        _log.warning(
            "The compiled network %s cannot be used and is made again: %s.",
            path,
            " ".join(str(error).split())[:200],
        )
        return None


def _write(path: Path, compiled: Any) -> None:
    """Keeps the network at ``path``, unless it is too large or cannot be written."""
    import xxhash

    content = compiled.export_model().getvalue()
    if len(content) > _KEPT_BYTES:
        return
    try:
        replace_file(path, xxhash.xxh3_128_digest(content), content)
        _make_room(path.parent)
    except OSError as error:
        _log.warning("The compiled network is not kept: %s.", error)


def _make_room(folder: Path) -> None:
    """Deletes networks half written, and those that were used longest ago, as far as they are too many."""
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
        if size > _KEPT_BYTES:
            path.unlink(missing_ok=True)
