"""The shapes of a text tower, as a checkpoint's configuration holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from crossmodal.errors import ModelError
from crossmodal.models.native.vocabularies import MAX_PIECES

__all__ = ["LAYER_NORM_EPSILON", "GruConfig", "TextConfig", "TransformerConfig", "read_text_config"]

Shapes = dict[str, tuple[int, ...]]

# BERT's.
LAYER_NORM_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class GruConfig:
    """A GRU over word embeddings of ``word_dimension``; its state is as long as the model's vectors."""

    kind: ClassVar[Literal["gru"]] = "gru"
    word_dimension: int

    def shapes(self, tokens: int, dimension: int) -> Shapes:
        """The parameters of ``towers.GruTextTower`` for ``tokens`` words, and their shapes."""
        return {
            "embedding.weight": (tokens, self.word_dimension),
            "gru.weight_ih_l0": (3 * dimension, self.word_dimension),
            "gru.weight_hh_l0": (3 * dimension, dimension),
            "gru.bias_ih_l0": (3 * dimension,),
            "gru.bias_hh_l0": (3 * dimension,),
        }

    def to_json(self) -> dict[str, Any]:
        """The configuration as a JSON object."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """An encoder of ``layers`` layers over word pieces.

    ``width`` is the length of a piece's vector, split over ``heads`` attention heads; ``hidden`` the inner
    width of the feed-forward layers; ``positions`` how many pieces of a text are read, [CLS] and [SEP]
    included. The defaults are MiniLM-L6's shapes.
    """

    kind: ClassVar[Literal["transformer"]] = "transformer"
    layers: int = 6
    width: int = 384
    heads: int = 12
    hidden: int = 1536
    positions: int = MAX_PIECES

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ModelError(f"A transformer's {name} must be at least 1, not {value}.")
        if self.width % self.heads:
            raise ModelError(f"A transformer's width ({self.width}) must divide by its heads ({self.heads}).")
        if self.positions < 3:
            raise ModelError(
                f"A transformer needs at least 3 positions ([CLS], a piece, [SEP]), not {self.positions}."
            )

    def shapes(self, tokens: int, dimension: int) -> Shapes:
        """The parameters of ``towers.TransformerTextTower`` for ``tokens`` word pieces, and their shapes."""
        width, hidden = self.width, self.hidden
        shapes: Shapes = {
            "embedding.weight": (tokens, width),
            "positions": (self.positions, width),
            "norm.weight": (width,),
            "norm.bias": (width,),
            "projection.weight": (dimension, width),
            "projection.bias": (dimension,),
        }
        linear = {
            "attention_in": (3 * width, width),
            "attention_out": (width, width),
            "feed_in": (hidden, width),
            "feed_out": (width, hidden),
        }
        for number in range(self.layers):
            for name, shape in linear.items():
                shapes[f"layers.{number}.{name}.weight"] = shape
                shapes[f"layers.{number}.{name}.bias"] = shape[:1]
            for name in ("attention_norm", "feed_norm"):
                shapes[f"layers.{number}.{name}.weight"] = shapes[f"layers.{number}.{name}.bias"] = (width,)
        return shapes

    def to_json(self) -> dict[str, Any]:
        """The configuration as a JSON object."""
        return {"kind": self.kind, **asdict(self)}


TextConfig = GruConfig | TransformerConfig


def read_text_config(value: Mapping[str, Any]) -> TextConfig:
    """The reverse of ``to_json``. Raises ModelError where a field is missing, unknown or out of range."""
    kinds: dict[str, type[TextConfig]] = {"gru": GruConfig, "transformer": TransformerConfig}
    try:
        fields = dict(value)
        kind = kinds[fields.pop("kind")]
        return kind(**{name: int(number) for name, number in fields.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"This is not a text tower's configuration: {value!r} ({error!r}).") from error
