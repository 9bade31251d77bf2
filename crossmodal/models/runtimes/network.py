"""A network that computes: from a graph and a form to something that can be called from many threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crossmodal.models.runtimes.forms import Form

__all__ = ["Keep", "Network", "open_network"]


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
class Keep:
    """Where what OpenVINO made of a graph is kept, so that the next start neither builds nor reads it.

    ``folder`` holds one file for each ``name``, such as the fingerprint of weights and the tower; ``graph``
    is everything else that decides the graph: shapes, preprocessing, a fingerprint of the code.
    """

    folder: Path
    name: str
    graph: str


def open_network(
    form: Form,
    build: Callable[[], bytes],
    *,
    threads: int | None = None,
    keep: Keep | None = None,
) -> Network:
    """The network that ``build`` describes (``Graph.serialize``), in ``form`` (OpenVINO's or onnxruntime's).

    ``threads`` is how many of them compute at once (None: one a core), each a call of its own.
    """
    if form.library == "openvino":
        from crossmodal.models.runtimes.openvino_network import OpenVinoNetwork

        return OpenVinoNetwork(build, form.precision, threads=threads, keep=keep)
    from crossmodal.models.runtimes.onnx_network import OnnxNetwork

    return OnnxNetwork(build(), threads=threads)
