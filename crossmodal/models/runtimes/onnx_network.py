"""Networks through onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from crossmodal.models.runtimes.machine import available_cores

__all__ = ["OnnxNetwork"]


class OnnxNetwork:
    """A graph in an onnxruntime session that computes each call on the thread that makes it."""

    def __init__(self, graph: bytes, *, threads: int | None = None) -> None:
        """Arguments as for ``network.open_network``; RuntimeError where onnxruntime refuses the graph."""
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # Errors only; it warns of every constant that it folds.
        options.log_severity_level = 3
        with _runtime_errors():
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]
        self.concurrency = threads or available_cores()

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
