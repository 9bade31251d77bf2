"""What can compute the sentence's tower of an open_clip model: rows of tokens to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossmodal.models.clip import torch_towers
from crossmodal.models.clip.graph_towers import text_graph
from crossmodal.models.clip.runner import Runner, graph_runner, sent, torch_runner, torch_type
from crossmodal.models.clip.towers import Reading, TextTower
from crossmodal.models.runtimes.forms import Form
from crossmodal.models.runtimes.network import open_network

__all__ = [
    "cut_padding",
    "masked_padding",
    "sentences_by_graph",
    "sentences_by_open_clip",
    "sentences_by_torch",
]

Rows = Sequence[Sequence[int]]

# Poolers of open_clip's towers from transformers that take no notice of what the attention mask hides.
_MASKED_POOLERS = ("MeanPooler", "ClsPooler", "ClsLastHiddenStatePooler")


def masked_padding(network: Any) -> int | None:
    """The number of the padding where a network's text tower masks it and it may be cut off; else None."""
    from open_clip.hf_model import HFTextEncoder

    text: Any = getattr(network, "text", None)
    if type(text) is not HFTextEncoder or type(text.pooler).__name__ not in _MASKED_POOLERS:
        return None
    padding = text.config.pad_token_id
    return padding if isinstance(padding, int) else None


def cut_padding(tokens: Tensor, padding: int) -> list[list[int]]:
    """Rows of ``tokens`` (N, context) without the padding at their ends; at least one token stays."""
    places = torch.arange(1, tokens.shape[1] + 1)
    lengths = ((tokens != padding) * places).amax(dim=1).clamp(min=1)
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


def sentences_by_open_clip(network: Any, form: Form, padding: int = 0) -> Runner:
    """open_clip's own forward pass; ``network`` has the type that ``form`` says, and masks ``padding``, or
    gets only whole rows."""

    def run(rows: Rows) -> Tensor:
        vectors: Tensor = network.encode_text(_padded(rows, padding))
        return vectors

    return torch_runner(form, run)


def sentences_by_torch(tower: TextTower, form: Form) -> Runner:
    """``torch_towers`` on a CPU or a GPU, for rows that its reading has cut."""
    there = torch_towers.moved(tower, torch_type(form), form.device)

    def run(rows: Rows) -> Tensor:
        tokens, places = _tokens_and_places(there.reading, rows)
        return torch_towers.encode_tokens(there, sent(tokens, form.device), sent(places, form.device))

    return torch_runner(form, run)


def sentences_by_graph(tower: TextTower, form: Form, *, threads: int | None) -> Runner:
    """``graph_towers`` through OpenVINO or onnxruntime, for rows that its reading has cut."""
    network = open_network(form, lambda: text_graph(tower), threads=threads)
    reading = tower.reading

    def inputs(rows: Rows) -> tuple[npt.NDArray[np.int64], ...]:
        tokens, places = _tokens_and_places(reading, rows)
        return tokens.numpy(), places[:, None].numpy()

    return graph_runner(form, network, inputs)


def _tokens_and_places(reading: Reading, rows: Rows) -> tuple[Tensor, Tensor]:
    """Rows as int64 (N, longest), and which place of each is read, int64 (N,)."""
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
