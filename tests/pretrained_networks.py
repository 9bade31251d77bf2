"""Files of pretrained networks, as timm writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.native.mobilenet import FEATURES, MobileNetEdgeTPU
from crossmodal.models.native.towers import load_image_tower
from crossmodal.models.native.weight_files import weights_as_bytes


def save_as_timm_does(path: Path, classifier: np.ndarray, times: float = 1.0) -> None:
    """The first branch of ``vse``'s CNN, ``times`` as large, and a classifier (classes, features) as timm has
    them."""
    from safetensors.torch import save_file

    checkpoint = NativeCheckpoint.open(SHIPPED["vse"], "vse")
    state = {"classifier.weight": torch.from_numpy(classifier)}
    state["classifier.bias"] = torch.zeros(len(classifier))
    for name, value in checkpoint.image_weights().items():
        if name.startswith("cnn.") and not name.startswith("cnn.beside."):
            state[name.removeprefix("cnn.")] = times * torch.from_numpy(value.copy()).float()
    cnn = MobileNetEdgeTPU()
    for name, module in cnn.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            parent, _, last = name.rpartition(".")
            of_block = [child for child, _ in cnn.get_submodule(parent).named_children()] if parent else []
            number = of_block.index(last) + 1 if parent else 1 + (last == "conv_head")
            norm = f"{parent}.bn{number}" if parent else f"bn{number}"
            width = module.out_channels
            state[f"{norm}.bias"] = state.pop(f"{name}.bias")
            state |= {f"{norm}.weight": torch.ones(width), f"{norm}.running_mean": torch.zeros(width)}
            state[f"{norm}.running_var"] = torch.full((width,), 1 - 1e-5)
    save_file(state, path)


def save_one_branch(folder: Path) -> None:
    """``vse`` with the first branch of its CNN alone, as a folder that can be trained on."""
    checkpoint = NativeCheckpoint.open(SHIPPED["vse"], "vse")
    weights = dict(checkpoint.image_weights())
    for name in [name for name in weights if name.startswith("cnn.beside.")]:
        del weights[name]
    weights["projection.weight"] = weights["projection.weight"][:, :FEATURES]
    folder.mkdir()
    (folder / "image.safetensors").write_bytes(weights_as_bytes(weights))
    for name in ("config.json", "text.safetensors", "vocabulary.txt"):
        shutil.copy(SHIPPED["vse"] / name, folder)


def cnn_features(squares: np.ndarray) -> np.ndarray:
    """What that branch makes of photos uint8 (photos, 224, 224, 3): (photos, 1280)."""
    checkpoint = NativeCheckpoint.open(SHIPPED["vse"], "vse")
    with torch.inference_mode():
        scaled = torch.from_numpy(checkpoint.preprocessing.scale(squares))
        features: np.ndarray = load_image_tower(checkpoint).cnn(scaled)[:, :FEATURES].numpy()
    return features
