"""The two towers of VSE++ as torch modules: trained together, and used for photos.

Faghri, Fleet, Kiros and Fidler, "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives",
BMVC 2018: a linear layer over pooled CNN features, and a GRU over word embeddings whose last state is the
sentence; both scaled to unit length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.models.vse.mobilenet import FEATURES, MobileNetEdgeTPU
from crossmodal.models.vse.vocabulary import PADDING

__all__ = ["ImageTower", "TextTower"]


class ImageTower(nn.Module):
    """Photos to vectors: float (N, 3, side, side) in [-1, 1] to unit length (N, dimension)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.cnn = MobileNetEdgeTPU()
        self.projection = nn.Linear(FEATURES, dimension)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.cnn(x))

    def project(self, features: Tensor) -> Tensor:
        """CNN features (N, 1280) to unit length (N, dimension)."""
        return F.normalize(self.projection(features), dim=-1)


class TextTower(nn.Module):
    """Word numbers to vectors: int64 (N, longest), padded at the end by 0, to unit length (N, dimension)."""

    def __init__(self, words: int, word_dimension: int, dimension: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_dimension, padding_idx=PADDING)
        self.gru = nn.GRU(word_dimension, dimension, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: Tensor, lengths: Sequence[int]) -> Tensor:
        embedded = self.dropout(self.embedding(numbers))
        packed = pack_padded_sequence(
            embedded, torch.as_tensor(lengths), batch_first=True, enforce_sorted=False
        )
        _, last = self.gru(packed)
        return F.normalize(self.dropout(last[0]), dim=-1)
