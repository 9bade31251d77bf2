"""The towers of the project's own models as torch modules: what is trained, and the plain form.

A linear layer over pooled CNN features on the photo's side. On the sentence's side either VSE++'s GRU
(Faghri, Fleet, Kiros and Fidler, "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", BMVC
2018), or a BERT encoder (Devlin et al., NAACL 2019) with mean pooling, as sentence encoders such as MiniLM
have it. Both text towers are called alike: numbers int64 (N, longest), padded at the end by 0, and each row's
length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.errors import ModelError
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.mobilenet import MobileNetEdgeTPU
from crossmodal.models.native.mobilenet_blocks import branches_of
from crossmodal.models.native.text_config import LAYER_NORM_EPSILON, GruConfig, TransformerConfig
from crossmodal.models.native.vocabularies import PADDING

__all__ = [
    "GruTextTower",
    "ImageTower",
    "TransformerTextTower",
    "load_image_tower",
    "load_text_tower",
]

# BERT's.
_INITIAL_DEVIATION = 0.02


class ImageTower(nn.Module):
    """Photos to vectors: float (N, 3, side, side) in [-1, 1] to unit length (N, dimension).

    ``branches`` are those of the CNN, 1 or 2.
    """

    def __init__(self, dimension: int, branches: int = 1) -> None:
        super().__init__()
        self.cnn = MobileNetEdgeTPU(branches)
        self.projection = nn.Linear(self.cnn.features, dimension)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.cnn(x))

    def project(self, features: Tensor) -> Tensor:
        """CNN features (N, 1280 a branch) to unit length (N, dimension)."""
        return F.normalize(self.projection(features), dim=-1)


class GruTextTower(nn.Module):
    """Word numbers to vectors: the GRU's state after the last word, at unit length (N, dimension)."""

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


class _TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network; each added to its input and normalised afterwards."""

    def __init__(self, config: TransformerConfig, dropout: float) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        # Query, key and value one below the other: one matrix product instead of three.
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, LAYER_NORM_EPSILON)
        self.feed_in = nn.Linear(width, config.hidden)
        self.feed_out = nn.Linear(config.hidden, width)
        self.feed_norm = nn.LayerNorm(width, LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """``x`` (N, longest, width); ``real`` bool (N, longest) says which places hold a piece."""
        rows, longest, width = x.shape
        split = self.attention_in(x).view(rows, longest, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=real[:, None, None, :],
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        attended = self.attention_out(attended.transpose(1, 2).reshape(rows, longest, width))
        x = self.attention_norm(x + self.dropout(attended))
        # By tanh, as the shipped weights were trained. With MiniLM's weights, captions keep a cosine of
        # 0.999998 to those by the exact GELU.
        inner = F.gelu(self.feed_in(x), approximate="tanh")
        y: Tensor = self.feed_norm(x + self.dropout(self.feed_out(inner)))
        return y


class TransformerTextTower(nn.Module):
    """Numbers of word pieces to vectors: the mean over all real pieces, projected, at unit length.

    ``positions`` holds learned positions with BERT's token type 0 already added.
    """

    def __init__(self, pieces: int, config: TransformerConfig, dimension: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(pieces, config.width)
        self.positions = nn.Parameter(torch.zeros(config.positions, config.width))
        self.norm = nn.LayerNorm(config.width, LAYER_NORM_EPSILON)
        self.layers = nn.ModuleList(_TransformerLayer(config, dropout) for _ in range(config.layers))
        self.projection = nn.Linear(config.width, dimension)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INITIAL_DEVIATION)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions, std=_INITIAL_DEVIATION)

    def forward(self, numbers: Tensor, lengths: Sequence[int]) -> Tensor:
        return F.normalize(self.projection(self.pool(numbers, lengths)), dim=-1)

    def pool(self, numbers: Tensor, lengths: Sequence[int]) -> Tensor:
        """The mean over each row's pieces, [CLS] and [SEP] included: (N, width), not of unit length."""
        count = torch.as_tensor(lengths, device=numbers.device)[:, None]
        real = torch.arange(numbers.shape[1], device=numbers.device) < count
        x = self.embedding(numbers) + self.positions[: numbers.shape[1]]
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, real)
        pooled: Tensor = (x * real[:, :, None]).sum(dim=1) / count
        return pooled


def load_image_tower(checkpoint: NativeCheckpoint) -> ImageTower:
    """The photo's side, ready to encode. Raises ModelError where the weights are missing or don't fit."""
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.image_weights().items()}
    with torch.device("meta"):
        tower = ImageTower(checkpoint.dimension, branches_of(weights))
    _fill(tower, weights, checkpoint)
    return tower


def load_text_tower(checkpoint: NativeCheckpoint) -> GruTextTower | TransformerTextTower:
    """The sentence's side, ready to encode. Raises as above."""
    config, tokens = checkpoint.text, len(checkpoint.vocabulary())
    tower: GruTextTower | TransformerTextTower
    with torch.device("meta"):
        if isinstance(config, GruConfig):
            tower = GruTextTower(tokens, config.word_dimension, checkpoint.dimension)
        else:
            tower = TransformerTextTower(tokens, config, checkpoint.dimension)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.text_weights().items()}
    _fill(tower, weights, checkpoint)
    return tower


def _fill(tower: nn.Module, weights: dict[str, torch.Tensor], checkpoint: NativeCheckpoint) -> None:
    try:
        tower.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"The weights in {checkpoint.folder} don't fit the network: {error}") from error
    tower.eval()
