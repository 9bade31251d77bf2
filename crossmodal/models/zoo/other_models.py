"""The models of other libraries, and this project's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.zoo.record import ModelRecord, Result
from crossmodal.models.zoo.results import published_results

__all__ = ["TRANSFORMERS_MODELS", "VSEPP_MODELS", "native_models"]

_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

TRANSFORMERS_MODELS: tuple[ModelRecord, ...] = (
    ModelRecord(
        name="jina-clip-v1",
        library="transformers",
        architecture="JinaCLIPModel",
        repository="jinaai/jina-clip-v1",
        dimension=768,
        preprocessing=ImagePreprocessing(224, "crop", _OPENAI_MEAN, _OPENAI_STD),
        text_length=8192,
        parameters=223_000_000,
        download_size=891_000_000,
        licence="Apache-2.0",
        languages="English",
        source="arxiv.org/abs/2405.20204",
        results=published_results("jina-clip-v1")[0],
        results_source=published_results("jina-clip-v1")[1],
        custom_code=True,
    ),
    ModelRecord(
        name="jina-clip-v2",
        library="transformers",
        architecture="JinaCLIPModel",
        repository="jinaai/jina-clip-v2",
        dimension=1024,
        preprocessing=ImagePreprocessing(512, "crop", _OPENAI_MEAN, _OPENAI_STD),
        text_length=8192,
        parameters=865_000_000,
        download_size=1_730_000_000,
        licence="CC-BY-NC-4.0",
        languages="89",
        source="arxiv.org/abs/2412.08802",
        results=published_results("jina-clip-v2")[0],
        results_source=published_results("jina-clip-v2")[1],
        custom_code=True,
    ),
)


def _vsepp(name: str) -> ModelRecord:
    results, results_source = published_results(name)
    return ModelRecord(
        name=name,
        library="vse++",
        architecture="ResNet-152 + GRU",
        dimension=1024,
        # Resize(256) and CenterCrop(224) of data.py, with torchvision's default interpolation.
        preprocessing=ImagePreprocessing(
            224, "crop", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", short_side=256
        ),
        text_length=None,
        # A ResNet-152 without its classifier, the projection and the GRU; the words' vectors come on top.
        parameters=64_300_000,
        # All published checkpoints come in one archive, whose size its page doesn't tell.
        download_size=None,
        licence="Apache-2.0",
        languages="English",
        source="arxiv.org/abs/1707.05612, github.com/fartashf/vsepp",
        results=results,
        results_source=results_source,
    )


VSEPP_MODELS: tuple[ModelRecord, ...] = (_vsepp("vse++-f30k-resnet"), _vsepp("vse++-coco-resnet"))


def native_models() -> tuple[ModelRecord, ...]:
    """The shipped models, as their folders describe them; a model whose weights are not there is left out.

    Raises ModelError where a folder is damaged.
    """
    return tuple(
        _native(name, folder) for name, folder in SHIPPED.items() if (folder / "config.json").is_file()
    )


def _native(name: str, folder: Path) -> ModelRecord:
    checkpoint = NativeCheckpoint.open(folder, name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        results = _measured(config["training"]["metrics"])
        sizes = [file.stat().st_size for file in folder.glob("*") if file.suffix != ".md"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The shipped model {name} in {folder} is damaged: {error!r}.") from error
    return ModelRecord(
        name=name,
        library="native",
        architecture=f"MobileNetEdgeTPU + {config['text']['kind']}",
        dimension=checkpoint.dimension,
        preprocessing=checkpoint.preprocessing,
        text_length=config["text"].get("positions"),
        parameters=_parameters(folder),
        download_size=sum(sizes),
        licence="model card",
        languages="English",
        source=f"crossmodal/models/native/weights/{name}/MODEL_CARD.md",
        results=results,
        results_source="measured when it was trained (its config.json)",
    )


def _measured(metrics: Mapping[str, Any]) -> tuple[Result, ...]:
    text_to_image, image_to_text = (100 * metrics[way]["hit@10"] for way in ("text2image", "image2text"))
    return (Result("flickr8k dev", "hit@10", round(text_to_image, 1), round(image_to_text, 1)),)


def _parameters(folder: Path) -> int:
    """The numbers in the weight files, from their headers; scales of quantised matrices count too."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for side in entry["shape"]:
                    count *= side
                total += count
    return total
