"""The models that open_clip builds. A test derives every number here from open_clip itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossmodal.models.preprocessing import ImagePreprocessing
from crossmodal.models.zoo.record import ModelRecord
from crossmodal.models.zoo.results import published_results

__all__ = ["OPEN_CLIP_MODELS"]

_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class _Family:
    """What the models of one paper have in common."""

    licence: str
    source: str
    text_length: int = 77
    languages: str = "English"


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


def _openai(size: int, mode: Literal["crop", "squash"] = "crop") -> ImagePreprocessing:
    return ImagePreprocessing(size, mode, _OPENAI_MEAN, _OPENAI_STD)


def _halves(size: int, mode: Literal["crop", "squash"] = "squash") -> ImagePreprocessing:
    return ImagePreprocessing(size, mode, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _unscaled(size: int) -> ImagePreprocessing:
    return ImagePreprocessing(size, "crop", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear")


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
    results, results_source = published_results(name)
    return ModelRecord(
        name=name,
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
        results=results,
        results_source=results_source,
    )


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
