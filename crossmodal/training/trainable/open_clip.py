"""Any model of open_clip with one vector for a photo and one for a text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.errors import ModelError
from crossmodal.models.clip.network import build_network, load_tokenizer
from crossmodal.models.clip.source import ClipSource
from crossmodal.models.registry import find_published
from crossmodal.training.trainable.base import Part, Trainable

__all__ = ["OpenClipModel", "find_open_clip"]

_CONFIG = "open_clip_config.json"
_WEIGHTS = "open_clip_model.safetensors"
_NOTES = "training.json"

# A text tower that isn't open_clip's own has its tokenizer and shapes beside the weights in files called so.
_TEXT_FILES = ("tokenizer*", "vocab*", "merges*", "special_tokens*", "*.model", "config.json")

_CLASSES = ("CLIP", "CustomTextCLIP")
_TEXT_HEADS = ("network.text_projection", "network.text.text_projection", "network.text.proj.")
_EMBEDDINGS = ("token_embedding.weight", "positional_embedding", "word_embeddings.weight")


def find_open_clip(name: str, cache: Path | None) -> ClipSource:
    """The open_clip model that ``-m NAME`` means.

    Raises ModelError where it means none, or a model of another library.
    """
    model = find_published(name, cache)
    if not isinstance(model, ClipSource):
        raise ModelError(
            f"The model {name} cannot be trained here. Those that can are vse, clip-mini, checkpoints that "
            "`crossmodal train` made, and the models that open_clip builds."
        )
    return model


class OpenClipModel(Trainable):
    """An open_clip network whose image head is taken out, so that its trunk's features can be cached.

    Heads are the projections at the end of the towers; a tower whose last layer does more than project has
    none, and belongs to its trunk as a whole. Batch normalisation uses the statistics of pretraining.
    """

    def __init__(self, source: ClipSource) -> None:
        super().__init__()
        self.kind = "open_clip"
        self.network = build_network(source)
        if type(self.network).__name__ not in _CLASSES:
            raise ModelError(
                f"{source.name} is a {type(self.network).__name__}; of open_clip's models, those that are "
                f"{' or '.join(_CLASSES)} can be trained."
            )
        self.preprocessing = source.preprocessing
        self.dimension = source.dimension
        self._source = source
        self._tokenize = load_tokenizer(source)
        visual = self.network.visual
        self.image_projection: nn.Parameter | None = None
        self.image_head: nn.Module = nn.Identity()
        if isinstance(getattr(visual, "proj", None), nn.Parameter):
            self.image_projection, visual.proj = visual.proj, None
        elif hasattr(visual, "trunk") and not hasattr(visual.head, "pool"):
            self.image_head, visual.head = visual.head, nn.Identity()
        self._feature_dropout = nn.Dropout(0.0)

    def train(self, mode: bool = True) -> OpenClipModel:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return cast(list[list[int]], self._tokenize(list(texts)).tolist()) if texts else []

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network.visual(pixels)
        return features

    def images(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self._project(self._feature_dropout(features.float())), dim=-1)

    def _project(self, features: Tensor) -> Tensor:
        if self.image_projection is not None:
            return features @ self.image_projection
        projected: Tensor = self.image_head(features)
        return projected

    def texts(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        numbers = torch.tensor(tokens, device=next(self.parameters()).device)
        return F.normalize(self.network.encode_text(numbers).float(), dim=-1)

    def image_trunk(self) -> nn.Module:
        trunk: nn.Module = self.network.visual
        return trunk

    def part_of(self, name: str) -> Part | None:
        if name.startswith("network.logit_"):
            return None
        if name.startswith(("image_projection", "image_head.", *_TEXT_HEADS)):
            return "head"
        return "image_trunk" if name.startswith("network.visual.") else "text_trunk"

    def is_word_embedding(self, name: str) -> bool:
        return self.part_of(name) == "text_trunk" and name.endswith(_EMBEDDINGS)

    def set_dropout(self, text: float, features: float) -> None:
        """``text`` is not used: open_clip's networks have no dropout that they were trained with."""
        self._feature_dropout.p = features

    def learned_by_loss(self) -> dict[str, float]:
        learned = {"log_scale": self.network.logit_scale.mean().item()}
        if self.network.logit_bias is not None:
            learned["bias"] = self.network.logit_bias.mean().item()
        return learned

    def save(self, folder: Path, *, learned: Mapping[str, float], training: Mapping[str, Any]) -> None:
        """A folder as the model hub has them, with fp32 weights; the configuration is written last."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONFIG).unlink(missing_ok=True)
        save_file(self._state(learned), folder / _WEIGHTS)
        if self._source.configuration["text_cfg"].get("hf_tokenizer_name"):
            for pattern in _TEXT_FILES:
                for file in self._source.weights.parent.glob(pattern):
                    shutil.copyfile(file, folder / file.name)
        (folder / _NOTES).write_text(json.dumps(dict(training), indent=2) + "\n", encoding="utf-8")
        (folder / _CONFIG).write_text(json.dumps(self._config(), indent=2) + "\n", encoding="utf-8")

    def _state(self, learned: Mapping[str, float]) -> dict[str, Tensor]:
        """The network's parameters and buffers with the image head back in its place."""
        state = dict(self.network.state_dict())
        if self.image_projection is not None:
            state["visual.proj"] = self.image_projection
        state |= {f"visual.head.{name}": value for name, value in self.image_head.state_dict().items()}
        for ours, theirs in (("log_scale", "logit_scale"), ("bias", "logit_bias")):
            if ours in learned and theirs in state:
                state[theirs] = torch.full_like(state[theirs], learned[ours])
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def _config(self) -> dict[str, Any]:
        values = self.preprocessing.to_json()
        configuration = dict(self._source.configuration)
        if self._source.quick_gelu:
            configuration["quick_gelu"] = True
        return {
            "model_cfg": configuration,
            "preprocess_cfg": {
                "size": values["size"],
                "mean": values["mean"],
                "std": values["std"],
                "interpolation": values["interpolation"],
                "resize_mode": {"crop": "shortest", "squash": "squash"}[values["mode"]],
            },
        }
