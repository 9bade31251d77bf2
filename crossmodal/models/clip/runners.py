"""What computes the towers of an open_clip model: its own modules, ``torch_towers`` or ``graph_towers``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.models.clip import torch_towers
from crossmodal.models.clip.graph_towers import image_graph, text_graph
from crossmodal.models.clip.towers import ImageTower, Reading, TextTower
from crossmodal.models.encoders import Runner
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.runtimes.forms import Form, torch_concurrency
from crossmodal.models.runtimes.networks import open_network

__all__ = [
    "cut_padding",
    "image_runner",
    "masked_padding",
    "open_clip_image_runner",
    "open_clip_text_runner",
    "text_runner",
]

Pixels = npt.NDArray[np.uint8]
Rows = Sequence[Sequence[int]]

# Rows of one run. On a CPU more of them are no faster; with fewer, a request is shared out between the cores.
_GRAPH = 8
_TORCH_CPU = 32
_TORCH_GPU = 256

# Poolers of open_clip's towers from transformers that ignore what the attention mask hides.
_MASKED_POOLERS = ("MeanPooler", "ClsPooler", "ClsLastHiddenStatePooler")


def image_runner(
    tower: ImageTower, preprocessing: ImagePreprocessing, form: Form, *, threads: int | None = None
) -> Runner:
    """``tower`` in ``form``, for model inputs uint8 (N, size, size, 3)."""
    if form.library != "torch":
        network = open_network(form, lambda: image_graph(tower, preprocessing), threads=threads)
        return Runner(str(form), network.concurrency, _GRAPH, network.run)
    there = torch_towers.moved(tower, _torch_type(form), form.device)
    mean, std = (
        torch.tensor(values, device=form.device).view(3, 1, 1) * 255
        for values in (preprocessing.mean, preprocessing.std)
    )

    def run(pixels: Pixels) -> Tensor:
        # Scaled on the device: uint8 is a quarter of the bytes.
        values = _sent(torch.from_numpy(np.ascontiguousarray(pixels)), form.device).permute(0, 3, 1, 2)
        return torch_towers.encode_photos(there, (values - mean) / std)

    return _torch_runner(form, run)


def text_runner(tower: TextTower, form: Form, *, threads: int | None = None) -> Runner:
    """``tower`` in ``form``, for rows of tokens that its reading has cut."""
    reading = tower.reading
    if form.library != "torch":
        network = open_network(form, lambda: text_graph(tower), threads=threads)

        def run_graph(rows: Rows) -> npt.NDArray[np.float32]:
            tokens, places = _tokens_and_places(reading, rows)
            return network.run(tokens.numpy(), places[:, None].numpy())

        return Runner(str(form), network.concurrency, _GRAPH, run_graph)
    there = torch_towers.moved(tower, _torch_type(form), form.device)

    def run(rows: Rows) -> Tensor:
        tokens, places = _tokens_and_places(reading, rows)
        return torch_towers.encode_tokens(there, _sent(tokens, form.device), _sent(places, form.device))

    return _torch_runner(form, run)


def open_clip_image_runner(network: Any, preprocessing: ImagePreprocessing, form: Form) -> Runner:
    """open_clip's own forward pass; ``network`` has the type that ``form`` names."""

    def run(pixels: Pixels) -> Tensor:
        values = torch.from_numpy(preprocessing.scale(pixels)).to(_torch_type(form))
        vectors: Tensor = network.encode_image(values.contiguous(memory_format=torch.channels_last))
        return vectors

    return _torch_runner(form, run)


def open_clip_text_runner(network: Any, form: Form, padding: int = 0) -> Runner:
    """open_clip's own forward pass; ``network`` has the type that ``form`` names.

    It masks ``padding``, or gets rows of one length only.
    """

    def run(rows: Rows) -> Tensor:
        vectors: Tensor = network.encode_text(_padded(rows, padding))
        return vectors

    return _torch_runner(form, run)


def masked_padding(network: Any) -> int | None:
    """The token number of the padding where a network's text tower masks it, so that it may be cut off."""
    from open_clip.hf_model import HFTextEncoder

    text: Any = getattr(network, "text", None)
    if type(text) is not HFTextEncoder or type(text.pooler).__name__ not in _MASKED_POOLERS:
        return None
    padding = text.config.pad_token_id
    return padding if isinstance(padding, int) else None


def cut_padding(tokens: Tensor, padding: int) -> list[list[int]]:
    """Rows of ``tokens`` (N, context) without the padding at their ends; at least one token remains."""
    places = torch.arange(1, tokens.shape[1] + 1)
    lengths = ((tokens != padding) * places).amax(dim=1).clamp(min=1)
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


def _torch_runner(form: Form, run: Callable[[Any], Tensor]) -> Runner:
    def computed(rows: Any) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(run(rows).float().cpu().numpy())

    if form.device == "cpu":
        return Runner(str(form), torch_concurrency(), _TORCH_CPU, computed)
    return Runner(str(form), 1, _TORCH_GPU, computed)


def _sent(tensor: Tensor, device: str) -> Tensor:
    """The tensor on ``device``; to a GPU through pinned memory, which is copied while the CPU goes on."""
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _torch_type(form: Form) -> torch.dtype:
    return torch.bfloat16 if form.precision == "bf16" else torch.float32


def _tokens_and_places(reading: Reading, rows: Rows) -> tuple[Tensor, Tensor]:
    """Rows as int64 (N, longest), and which position of each is read, int64 (N,)."""
    tokens = _padded(rows, 0)
    if reading.causal:
        # Such rows end where they are read.
        return tokens, torch.tensor([len(row) - 1 for row in rows])
    return tokens, reading.places(tokens)


def _padded(rows: Rows, padding: int) -> Tensor:
    """int64 (N, longest)."""
    tokens = torch.full((len(rows), max(map(len, rows))), padding)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row)
    return tokens
