"""Small checkpoints of the project's own transformer model, with random weights."""

from __future__ import annotations

import csv
import string
from collections.abc import Sequence
from pathlib import Path

import torch
from photos import REPOSITORY

from crossmodal.models.native.checkpoint import save_checkpoint
from crossmodal.models.native.text_config import TransformerConfig
from crossmodal.models.native.towers import ImageTower, TransformerTextTower
from crossmodal.models.native.vocabularies import WordPieces
from crossmodal.models.preprocessing import ImagePreprocessing

SMALL = TransformerConfig(layers=2, width=48, heads=4, hidden=96, positions=24)
DIMENSION = 32
SQUASH = ImagePreprocessing(224, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_SIGNS = string.ascii_lowercase + string.digits + string.punctuation
PIECES = (
    *_SIGNS,
    *(f"##{sign}" for sign in _SIGNS),
    "dog",
    "woman",
    "##man",
    "run",
    "##ning",
    "\u2019",
)


def toy_captions() -> list[str]:
    """The captions of the photos that this repository carries."""
    path = REPOSITORY / "data" / "toy-data" / "captions.txt"
    with path.open(encoding="utf-8", newline="") as file:
        return [row["caption"] for row in csv.DictReader(file)]


def random_tower(config: TransformerConfig, pieces: int, dimension: int) -> TransformerTextTower:
    """A text tower whose layers matter, as trained ones do; BERT's initial values change hardly anything."""
    torch.manual_seed(0)
    tower = TransformerTextTower(pieces, config, dimension)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if "norm.weight" in name:
                parameter.uniform_(0.6, 1.4)
            elif parameter.ndim == 1:
                parameter.normal_(std=0.1)
            else:
                parameter.normal_(std=1.5 / parameter.shape[1] ** 0.5)
    return tower.eval()


def padded(vocabulary: WordPieces, texts: Sequence[str]) -> tuple[torch.Tensor, list[int]]:
    """What a text tower takes: numbers int64 (N, longest), and lengths."""
    rows = [vocabulary.numbers_of(text) for text in texts]
    numbers = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for number, row in enumerate(rows):
        numbers[number, : len(row)] = torch.tensor(row)
    return numbers, [len(row) for row in rows]


def save_random_checkpoint(
    folder: Path, config: TransformerConfig = SMALL, *, quantize_text: bool = False
) -> TransformerTextTower:
    """Write a checkpoint of the transformer kind to ``folder``; returns the text tower in float32."""
    vocabulary = WordPieces(PIECES, config.positions)
    text = random_tower(config, len(vocabulary), DIMENSION)
    image = ImageTower(DIMENSION)
    save_checkpoint(
        folder,
        image_weights={name: value.numpy() for name, value in image.state_dict().items()},
        text_weights={name: value.numpy() for name, value in text.state_dict().items()},
        text=config,
        vocabulary=vocabulary,
        dimension=DIMENSION,
        preprocessing=SQUASH,
        training={},
        quantize_text=quantize_text,
    )
    return text
