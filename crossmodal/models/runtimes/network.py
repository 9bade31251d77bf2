"""A network that computes: from a graph and a form to something that can be called from many threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crossmodal.models.runtimes.forms import Form

__all__ = ["Network", "open_network"]


class Network(Protocol):
    """A compiled network."""

    @property
    def concurrency(self) -> int:
        """How many threads can usefully call ``run`` at once; each call computes on one thread."""
        ...

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The one output for the inputs in the graph's order; safe from any number of threads."""
        ...


def open_network(
    form: Form,
    build: Callable[[], bytes],
    *,
    threads: int | None = None,
    kept_as: Path | None = None,
) -> Network:
    """The network that ``build`` describes (``Graph.serialize``), in ``form`` (OpenVINO's or onnxruntime's).

    ``threads`` is how many of them compute at once (None: one a core), each a call of its own. ``kept_as`` is
    a file without its ending that holds what OpenVINO made of the graph, so that the next start neither
    builds nor reads it; its name has to change with all that decides the graph.
    """
    if form.library == "openvino":
        from crossmodal.models.runtimes.openvino_network import OpenVinoNetwork

        return OpenVinoNetwork(build, form.precision, threads=threads, kept_as=kept_as)
    from crossmodal.models.runtimes.onnx_network import OnnxNetwork

    return OnnxNetwork(build(), threads=threads)
