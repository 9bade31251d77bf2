"""From a published BERT sentence encoder, such as MiniLM-L6, to a text tower that can be fine-tuned.

The folder holds ``config.json``, ``vocab.txt`` (lower case) and ``model.safetensors`` in the form in which
transformers saves a ``BertModel``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crossmodal.errors import ModelError
from crossmodal.models.native.text_config import LAYER_NORM_EPSILON, TransformerConfig
from crossmodal.models.native.towers import TransformerTextTower
from crossmodal.models.native.vocabularies import MAX_PIECES, SPECIAL_PIECES, WordPieces

__all__ = ["read_sentence_encoder"]

# What the tower computes; each is also what BERT's configuration means where it says nothing.
_REQUIRED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": LAYER_NORM_EPSILON,
}
# Punctuation outside ASCII that phones and word processors put into English sentences.
_TYPOGRAPHIC = frozenset("\u2018\u2019\u201c\u201d\u2013\u2014\u2026")


def read_sentence_encoder(
    folder: Path,
    *,
    dimension: int,
    layers: Sequence[int] | None = None,
    positions: int = MAX_PIECES,
    trim: bool = True,
) -> tuple[TransformerTextTower, WordPieces]:
    """A tower with the published weights and a new projection to ``dimension``, and its word pieces.

    ``layers`` says which of the published layers to keep, counted from 0, in the order given (None: all);
    ``positions`` how many pieces of a text are read. ``trim`` drops the pieces that no English sentence
    needs: unused and mask tokens, and every piece with a character outside ASCII except typographic
    punctuation. The numbers of pieces are always new, since [PAD], [UNK], [CLS] and [SEP] come first.

    Raises ModelError where a file is missing, damaged or of another architecture, or where ``layers`` or
    ``positions`` exceed what there is.
    """
    published = _read_config(folder)
    selected = tuple(range(published["num_hidden_layers"]) if layers is None else layers)
    if not selected or not all(0 <= layer < published["num_hidden_layers"] for layer in selected):
        raise ModelError(
            f"The layers to keep are {list(selected)}; {folder} has the layers 0 to "
            f"{published['num_hidden_layers'] - 1}, and at least one is needed."
        )
    if positions > published["max_position_embeddings"]:
        raise ModelError(
            f"{positions} positions are requested; {folder} has {published['max_position_embeddings']}."
        )
    config = TransformerConfig(
        layers=len(selected),
        width=published["hidden_size"],
        heads=published["num_attention_heads"],
        hidden=published["intermediate_size"],
        positions=positions,
    )
    rows, pieces = _read_vocabulary(folder / "vocab.txt", trim)
    vocabulary = WordPieces(pieces, positions)
    tower = TransformerTextTower(len(vocabulary), config, dimension)
    weights = _read_weights(folder / "model.safetensors")
    try:
        state = _state(weights, rows, selected, positions)
        tower.load_state_dict({**tower.projection.state_dict(prefix="projection."), **state})
    except (KeyError, IndexError, RuntimeError) as error:
        raise ModelError(f"The weights in {folder} don't fit its configuration: {error}.") from error
    return tower, vocabulary


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    needed = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
    )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        shapes = {name: int(config[name]) for name in needed}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} is not the configuration of a sentence encoder: {error!r}.") from error
    for name, required in _REQUIRED.items():
        if config.get(name, required) != required:
            raise ModelError(f"{path} has {name} {config[name]!r}; only {required!r} can be read.")
    return shapes


def _read_vocabulary(path: Path, trim: bool) -> tuple[list[int], list[str]]:
    """The rows of the published embedding to keep, in their new order, and the pieces after the special."""
    try:
        # Not splitlines, which would also split at characters that are pieces.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"The vocabulary {path} cannot be read: {error}.") from error
    row_of = {piece: row for row, piece in enumerate(lines)}
    if missing := [piece for piece in SPECIAL_PIECES if piece not in row_of]:
        raise ModelError(f"The vocabulary {path} lacks {', '.join(missing)}.")
    pieces = [
        piece for piece in row_of if piece not in SPECIAL_PIECES and (not trim or _is_for_english(piece))
    ]
    return [row_of[piece] for piece in (*SPECIAL_PIECES, *pieces)], pieces


def _is_for_english(piece: str) -> bool:
    special = piece == "[MASK]" or piece.startswith("[unused")
    return not special and (piece.isascii() or piece in _TYPOGRAPHIC)


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weight file {path} cannot be read: {error}.") from error


def _state(
    weights: Mapping[str, Tensor], rows: Sequence[int], selected: Sequence[int], positions: int
) -> dict[str, Tensor]:
    """The published weights under the tower's names, without the projection."""
    places = weights["embeddings.position_embeddings.weight"][:positions]
    state = {
        "embedding.weight": weights["embeddings.word_embeddings.weight"][list(rows)],
        # A caption is one sentence, so every piece has the same token type.
        "positions": places + weights["embeddings.token_type_embeddings.weight"][0],
    }
    names = {"norm": "embeddings.LayerNorm"}
    for new, old in enumerate(selected):
        ours, theirs = f"layers.{new}", f"encoder.layer.{old}"
        names[f"{ours}.attention_out"] = f"{theirs}.attention.output.dense"
        names[f"{ours}.attention_norm"] = f"{theirs}.attention.output.LayerNorm"
        names[f"{ours}.feed_in"] = f"{theirs}.intermediate.dense"
        names[f"{ours}.feed_out"] = f"{theirs}.output.dense"
        names[f"{ours}.feed_norm"] = f"{theirs}.output.LayerNorm"
        for part in ("weight", "bias"):
            state[f"{ours}.attention_in.{part}"] = torch.cat(
                [weights[f"{theirs}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            )
    for our_name, their_name in names.items():
        for part in ("weight", "bias"):
            state[f"{our_name}.{part}"] = weights[f"{their_name}.{part}"]
    return state
