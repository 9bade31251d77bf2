"""What can compute the photo's tower of an open_clip model: uint8 (N, size, size, 3) to vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.models.clip import torch_towers
from crossmodal.models.clip.graph_towers import image_graph
from crossmodal.models.clip.runner import Runner, graph_runner, sent, torch_runner, torch_type
from crossmodal.models.clip.towers import ImageTower
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.forms import Form
from crossmodal.models.runtimes.network import open_network

__all__ = ["photos_by_graph", "photos_by_open_clip", "photos_by_torch"]

Pixels = npt.NDArray[np.uint8]


def photos_by_open_clip(network: Any, preprocessing: ImagePreprocessing, form: Form) -> Runner:
    """open_clip's own forward pass; ``network`` has the type that ``form`` says."""

    def run(pixels: Pixels) -> Tensor:
        values = torch.from_numpy(preprocessing.scale(pixels)).to(torch_type(form))
        vectors: Tensor = network.encode_image(values.contiguous(memory_format=torch.channels_last))
        return vectors

    return torch_runner(form, run)


def photos_by_torch(tower: ImageTower, preprocessing: ImagePreprocessing, form: Form) -> Runner:
    """``torch_towers`` on a CPU or a GPU."""
    there = torch_towers.moved(tower, torch_type(form), form.device)
    mean, std = (
        torch.tensor(values, device=form.device).view(3, 1, 1) * 255
        for values in (preprocessing.mean, preprocessing.std)
    )

    def run(pixels: Pixels) -> Tensor:
        # Scaled on the device: uint8 is a quarter of the bytes.
        values = sent(torch.from_numpy(np.ascontiguousarray(pixels)), form.device).permute(0, 3, 1, 2)
        return torch_towers.encode_photos(there, (values - mean) / std)

    return torch_runner(form, run)


def photos_by_graph(
    tower: ImageTower, preprocessing: ImagePreprocessing, form: Form, *, threads: int | None
) -> Runner:
    """``graph_towers`` through OpenVINO or onnxruntime."""
    network = open_network(form, lambda: image_graph(tower, preprocessing), threads=threads)
    return graph_runner(form, network, lambda pixels: (pixels,))
