"""From a configuration to the model that a run starts with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from crossmodal.errors import ModelError, SettingsError
from crossmodal.home_folder import expanded
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.native.minilm import read_sentence_encoder
from crossmodal.models.native.mobilenet import MobileNetEdgeTPU, fold_batch_norm
from crossmodal.models.native.towers import (
    GruTextTower,
    ImageTower,
    TransformerTextTower,
    load_image_tower,
    load_text_tower,
)
from crossmodal.models.native.vocabularies import PADDING, Vocabulary, WordPieces
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.registry import find_native
from crossmodal.training.config import TrainingConfig
from crossmodal.training.trainable.base import Trainable
from crossmodal.training.trainable.native import NativeModel
from crossmodal.training.trainable.open_clip import OpenClipModel, find_open_clip

__all__ = ["build_model", "build_origin", "classifier_logits", "preprocessing_of", "pretrained_cnn"]

# What MobileNet-EdgeTPU was trained with: RGB in [-1, 1], 224 x 224.
_SIZE = 224
_HALF = (0.5, 0.5, 0.5)

_DIMENSION = 512

# Initial word embeddings are uniform in this range either side of 0, as in the VSE++ paper's code.
_EMBEDDING_RANGE = 0.1

_UNKNOWN_WORD = 1


def preprocessing_of(config: TrainingConfig, cache: Path | None) -> ImagePreprocessing:
    """How the model of ``config`` will want its photos; nothing large is read.

    Raises ModelError for a model that isn't known or cannot be trained, SettingsError for settings that don't
    concern it.
    """
    base = config.model or config.image_weights
    assert base is not None
    if checkpoint := find_native(base):
        if config.resize not in (None, checkpoint.preprocessing.mode):
            raise SettingsError(
                f"The training setting resize is {config.resize!r}, but {base} was trained with "
                f"{checkpoint.preprocessing.mode!r}: leave it out."
            )
        return checkpoint.preprocessing
    if config.model is None:
        mode: Literal["crop", "squash"] = config.resize or "squash"
        return ImagePreprocessing(_SIZE, mode, _HALF, _HALF)
    for name in ("image_weights", "text_weights", "text_tower", "resize"):
        if getattr(config, name) is not None:
            raise SettingsError(
                f"The training setting {name} concerns this project's own models; {config.model} is another."
            )
    return find_open_clip(config.model, cache).preprocessing


def build_model(config: TrainingConfig, captions: Sequence[str], cache: Path | None) -> Trainable:
    """The model to start from; new weights come from torch's generator.

    ``captions`` are all those to learn from, with and without photos, whose words a GRU knows. Raises as
    ``preprocessing_of`` does, and ModelError where weights cannot be read or don't fit.
    """
    preprocessing = preprocessing_of(config, cache)
    checkpoint = None if config.model is None else find_native(config.model)
    if config.model is not None and checkpoint is None:
        return OpenClipModel(find_open_clip(config.model, cache))
    image = _image_tower(config, checkpoint)
    text, vocabulary = _text_tower(config, checkpoint, captions, image.projection.out_features)
    return NativeModel(image, text, vocabulary, preprocessing, quantize_text=config.quantize_text)


def build_origin(config: TrainingConfig, cache: Path | None) -> Trainable:
    """The model of ``config`` with the weights that its ``origin`` names; raises as ``build_model`` does."""
    origin = config.origin
    assert origin is not None
    sides = replace(
        config,
        origin=None,
        text_tower=None,
        image_weights=origin.image_weights or config.image_weights,
        text_weights=origin.text_weights or config.text_weights,
    )
    return build_model(sides, (), cache)


def _image_tower(config: TrainingConfig, checkpoint: NativeCheckpoint | None) -> ImageTower:
    if config.image_weights is None:
        assert checkpoint is not None
        return load_image_tower(checkpoint)
    given = find_native(config.image_weights)
    dimension = checkpoint.dimension if checkpoint else config.dimension
    if given is not None:
        tower = load_image_tower(given)
        if dimension in (None, given.dimension):
            return tower
        tower.projection = _new_projection(tower.cnn.features, dimension)
        return tower
    tower = ImageTower(dimension or _DIMENSION)
    tower.projection = _new_projection(tower.cnn.features, dimension or _DIMENSION)
    _load_timm(tower.cnn, expanded(config.image_weights))
    return tower


def _new_projection(features: int, dimension: int) -> nn.Linear:
    projection = nn.Linear(features, dimension)
    nn.init.xavier_uniform_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


def classifier_logits(path: Path, batches: Iterable[Tensor], *, bfloat16: bool) -> Iterator[Tensor]:
    """For each of ``batches`` of photos (N, 3, size, size) the logits (N, classes) of a timm state dict.

    Raises ModelError where it has no classifier.
    """
    from safetensors.torch import load_file

    found = pretrained_cnn(path)
    state = load_file(path)
    if "classifier.weight" not in state:
        raise ModelError(f"{path} has no classifier.")
    weight, bias = state["classifier.weight"].float(), state["classifier.bias"].float()
    cnn: nn.Module = found.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for pixels in batches:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            features = cnn(pixels.contiguous(memory_format=torch.channels_last)).float()
        yield features @ weight.T + bias


def pretrained_cnn(path: Path) -> MobileNetEdgeTPU:
    """The network of a timm state dict. Raises ModelError where it cannot be read or is another."""
    cnn = MobileNetEdgeTPU()
    _load_timm(cnn, path)
    return cnn


def _load_timm(cnn: nn.Module, path: Path) -> None:
    """Put a timm state dict into ``cnn``, rounded to fp16 as it will be stored."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = fold_batch_norm(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The CNN's weights {path} cannot be read: {error}.") from error
    except KeyError as error:
        raise ModelError(
            f"{path} is not a timm state dict of mobilenet_edgetpu_100: it lacks {error}."
        ) from error
    try:
        cnn.load_state_dict({name: value.half().float() for name, value in state.items()})
    except RuntimeError as error:
        raise ModelError(f"The CNN's weights {path} don't fit mobilenet_edgetpu_100: {error}.") from error


def _text_tower(
    config: TrainingConfig, checkpoint: NativeCheckpoint | None, captions: Sequence[str], dimension: int
) -> tuple[GruTextTower | TransformerTextTower, Vocabulary | WordPieces]:
    if config.text_tower == "gru":
        vocabulary = Vocabulary.of_captions(captions, min_count=config.min_word_count)
        return _new_gru(len(vocabulary), config.word_dimension, dimension), vocabulary
    if config.text_weights is not None:
        folder = expanded(config.text_weights)
        layers = _spread_layers(folder, config.text_layers)
        text, pieces = read_sentence_encoder(folder, dimension=dimension, layers=layers)
        if config.text_tower == "transformer":
            text = TransformerTextTower(len(pieces), text.config, dimension)
        return text, pieces
    assert checkpoint is not None
    tower, known = load_text_tower(checkpoint), checkpoint.vocabulary()
    if isinstance(tower, GruTextTower) and isinstance(known, Vocabulary):
        return _with_new_words(tower, known, captions, config)
    return tower, known


def _new_gru(words: int, word_dimension: int, dimension: int) -> GruTextTower:
    tower = GruTextTower(words, word_dimension, dimension)
    with torch.no_grad():
        tower.embedding.weight.uniform_(-_EMBEDDING_RANGE, _EMBEDDING_RANGE)
        tower.embedding.weight[PADDING] = 0
    return tower


def _spread_layers(folder: Path, count: int | None) -> list[int] | None:
    """Which published layers to keep: ``count`` of them, evenly spread, the first and the last among them."""
    if count is None:
        return None
    try:
        published = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{folder} is not the folder of a sentence encoder: {error!r}.") from error
    if count > published:
        raise SettingsError(
            f"The training setting text_layers is {count}, but {folder} has {published} layers."
        )
    return [round(number * (published - 1) / max(1, count - 1)) for number in range(count)]


def _with_new_words(
    tower: GruTextTower, known: Vocabulary, captions: Sequence[str], config: TrainingConfig
) -> tuple[GruTextTower, Vocabulary]:
    """The tower with the captions' words that it doesn't know, which start as the unknown word.

    What the model says of any sentence is the same at first. Words are added only where the text tower is
    trained, since they could not become anything else otherwise.
    """
    if not any(stage.text_trunk_rate for stage in config.stages):
        return tower, known
    used = Vocabulary.of_captions(captions, min_count=config.min_word_count).words
    new = [word for word in used if word not in set(known.words)]
    rows = tower.embedding.weight.detach()
    wider = nn.Embedding(len(rows) + len(new), rows.shape[1], padding_idx=PADDING)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([rows, rows[_UNKNOWN_WORD].repeat(len(new), 1)]))
    tower.embedding = wider
    return tower, Vocabulary([*known.words, *new])
