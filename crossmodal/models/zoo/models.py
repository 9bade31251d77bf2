"""The models of the zoo. A test derives the numbers of open_clip's models from open_clip itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crossmodal.errors import ModelError
from crossmodal.models.native.checkpoint import SHIPPED, NativeCheckpoint
from crossmodal.models.preprocessing import OPENAI_MEAN, OPENAI_STD, ImagePreprocessing
from crossmodal.models.zoo.record import ModelRecord, Result, published_results

__all__ = ["OPEN_CLIP_MODELS", "TRANSFORMERS_MODELS", "VSEPP_MODELS", "native_models"]


@dataclass(frozen=True, slots=True)
class _Family:
    """What the models of one paper have in common."""

    licence: str
    source: str
    text_length: int = 77
    languages: str = "English"


def _openai(size: int, mode: Literal["crop", "squash"] = "crop") -> ImagePreprocessing:
    return ImagePreprocessing(size, mode, OPENAI_MEAN, OPENAI_STD)


def _halves(size: int, mode: Literal["crop", "squash"] = "squash") -> ImagePreprocessing:
    return ImagePreprocessing(size, mode, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _unscaled(size: int) -> ImagePreprocessing:
    return ImagePreprocessing(size, "crop", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear")


def _published(name: str, **fields: Any) -> ModelRecord:
    """The record of a published model, with its published results."""
    results, source = published_results(name)
    return ModelRecord(name=name, results=results, results_source=source, **fields)


def _record(
    name: str,
    family: _Family,
    model: str,
    repository: str,
    dimension: int,
    parameters: int,
    preprocessing: ImagePreprocessing,
) -> ModelRecord:
    architecture, _, pretrained = model.partition("/")
    return _published(
        name,
        library="open_clip",
        architecture=architecture,
        pretrained=pretrained,
        repository=repository,
        dimension=dimension,
        preprocessing=preprocessing,
        text_length=family.text_length,
        parameters=parameters,
        # As float32, which is how open_clip publishes weights; a repository may hold other forms too.
        download_size=4 * parameters,
        licence=family.licence,
        languages=family.languages,
        source=family.source,
    )


def _vsepp(name: str) -> ModelRecord:
    return _published(
        name,
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
        # All published checkpoints come in one archive, whose size its page doesn't state.
        download_size=None,
        licence="Apache-2.0",
        languages="English",
        source="arxiv.org/abs/1707.05612, github.com/fartashf/vsepp",
    )


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
                total += math.prod(entry["shape"])
    return total


_CLIP = _Family("MIT", "arxiv.org/abs/2103.00020")
_OPENCLIP = _Family("MIT", "arxiv.org/abs/2212.07143")
_XLM = _Family(
    "MIT", "huggingface.co/laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k", languages="about 100"
)
_SIGLIP = _Family("Apache-2.0", "arxiv.org/abs/2303.15343", 64)
_SIGLIP2 = _Family("Apache-2.0", "arxiv.org/abs/2502.14786", 64, "109")
_MOBILECLIP = _Family("Apple AMLR", "arxiv.org/abs/2311.17049")
_MOBILECLIP2 = _Family("Apple AMLR", "arxiv.org/abs/2508.20691")
_DFN = _Family("Apple AMLR", "arxiv.org/abs/2309.17425")

_ROWS = (
    ("clip-vit-b-32", _CLIP, "ViT-B-32-quickgelu/openai", 512, 151_277_313, _openai(224)),
    ("clip-vit-b-16", _CLIP, "ViT-B-16-quickgelu/openai", 512, 149_620_737, _openai(224)),
    ("clip-vit-l-14", _CLIP, "ViT-L-14-quickgelu/openai", 768, 427_616_513, _openai(224)),
    ("clip-vit-l-14-336", _CLIP, "ViT-L-14-336-quickgelu/openai", 768, 427_944_193, _openai(336)),
    ("openclip-vit-b-32", _OPENCLIP, "ViT-B-32/laion2b_s34b_b79k", 512, 151_277_313, _openai(224)),
    ("openclip-vit-b-16", _OPENCLIP, "ViT-B-16/laion2b_s34b_b88k", 512, 149_620_737, _openai(224)),
    ("openclip-vit-l-14", _OPENCLIP, "ViT-L-14/laion2b_s32b_b82k", 768, 427_616_513, _halves(224, "crop")),
    ("openclip-vit-h-14", _OPENCLIP, "ViT-H-14/laion2b_s32b_b79k", 1024, 986_109_441, _openai(224)),
    ("xlm-roberta-b-32", _XLM, "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", 512, 366_121_473, _openai(224)),
    ("siglip-b-16", _SIGLIP, "ViT-B-16-SigLIP/webli", 768, 203_155_970, _halves(224)),
    ("siglip-l-16-256", _SIGLIP, "ViT-L-16-SigLIP-256/webli", 1024, 652_150_786, _halves(256)),
    ("siglip-so400m-14-384", _SIGLIP, "ViT-SO400M-14-SigLIP-384/webli", 1152, 877_960_498, _halves(384)),
    ("siglip2-b-16", _SIGLIP2, "ViT-B-16-SigLIP2/webli", 768, 375_187_970, _halves(224)),
    ("siglip2-l-16-256", _SIGLIP2, "ViT-L-16-SigLIP2-256/webli", 1024, 881_526_786, _halves(256)),
    ("siglip2-so400m-16-384", _SIGLIP2, "ViT-SO400M-16-SigLIP2-384/webli", 1152, 1_136_039_602, _halves(384)),
    ("mobileclip-s1", _MOBILECLIP, "MobileCLIP-S1/datacompdr", 512, 84_969_729, _unscaled(256)),
    ("mobileclip-s2", _MOBILECLIP, "MobileCLIP-S2/datacompdr", 512, 99_243_329, _unscaled(256)),
    ("mobileclip-b", _MOBILECLIP, "MobileCLIP-B/datacompdr", 512, 149_777_153, _unscaled(224)),
    ("mobileclip2-s0", _MOBILECLIP2, "MobileCLIP2-S0/dfndr2b", 512, 74_835_073, _unscaled(256)),
    ("mobileclip2-b", _MOBILECLIP2, "MobileCLIP2-B/dfndr2b", 512, 149_777_153, _unscaled(224)),
    ("dfn-b-16", _DFN, "ViT-B-16-quickgelu/dfn2b", 512, 149_620_737, _openai(224)),
    ("dfn-l-14", _DFN, "ViT-L-14-quickgelu/dfn2b", 768, 427_616_513, _openai(224)),
    # The largest sees whole frames, the other two squares cut out of them.
    ("dfn-h-14", _DFN, "ViT-H-14-quickgelu/dfn5b", 1024, 986_109_441, _openai(224, "squash")),
)

_REPOSITORIES = {
    "clip-vit-b-32": "timm/vit_base_patch32_clip_224.openai",
    "clip-vit-b-16": "timm/vit_base_patch16_clip_224.openai",
    "clip-vit-l-14": "timm/vit_large_patch14_clip_224.openai",
    "clip-vit-l-14-336": "timm/vit_large_patch14_clip_336.openai",
    "openclip-vit-b-32": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "openclip-vit-b-16": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "openclip-vit-l-14": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "openclip-vit-h-14": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "xlm-roberta-b-32": "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
    "siglip-b-16": "timm/ViT-B-16-SigLIP",
    "siglip-l-16-256": "timm/ViT-L-16-SigLIP-256",
    "siglip-so400m-14-384": "timm/ViT-SO400M-14-SigLIP-384",
    "siglip2-b-16": "timm/ViT-B-16-SigLIP2",
    "siglip2-l-16-256": "timm/ViT-L-16-SigLIP2-256",
    "siglip2-so400m-16-384": "timm/ViT-SO400M-16-SigLIP2-384",
    "mobileclip-s1": "apple/MobileCLIP-S1-OpenCLIP",
    "mobileclip-s2": "apple/MobileCLIP-S2-OpenCLIP",
    "mobileclip-b": "apple/MobileCLIP-B-OpenCLIP",
    "mobileclip2-s0": "timm/MobileCLIP2-S0-OpenCLIP",
    "mobileclip2-b": "timm/MobileCLIP2-B-OpenCLIP",
    "dfn-b-16": "apple/DFN2B-CLIP-ViT-B-16",
    "dfn-l-14": "apple/DFN2B-CLIP-ViT-L-14",
    "dfn-h-14": "apple/DFN5B-CLIP-ViT-H-14",
}

OPEN_CLIP_MODELS: tuple[ModelRecord, ...] = tuple(
    _record(name, family, model, _REPOSITORIES[name], dimension, parameters, preprocessing)
    for name, family, model, dimension, parameters, preprocessing in _ROWS
)

TRANSFORMERS_MODELS: tuple[ModelRecord, ...] = (
    _published(
        "jina-clip-v1",
        library="transformers",
        architecture="JinaCLIPModel",
        repository="jinaai/jina-clip-v1",
        dimension=768,
        preprocessing=ImagePreprocessing(224, "crop", OPENAI_MEAN, OPENAI_STD),
        text_length=8192,
        parameters=223_000_000,
        download_size=891_000_000,
        licence="Apache-2.0",
        languages="English",
        source="arxiv.org/abs/2405.20204",
        custom_code=True,
    ),
    _published(
        "jina-clip-v2",
        library="transformers",
        architecture="JinaCLIPModel",
        repository="jinaai/jina-clip-v2",
        dimension=1024,
        preprocessing=ImagePreprocessing(512, "crop", OPENAI_MEAN, OPENAI_STD),
        text_length=8192,
        parameters=865_000_000,
        download_size=1_730_000_000,
        licence="CC-BY-NC-4.0",
        languages="89",
        source="arxiv.org/abs/2412.08802",
        custom_code=True,
    ),
)

VSEPP_MODELS: tuple[ModelRecord, ...] = (_vsepp("vse++-f30k-resnet"), _vsepp("vse++-coco-resnet"))
