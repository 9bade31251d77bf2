"""The record of one model of the zoo, and the recall@1 that its authors or open_clip's published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = ["Library", "ModelRecord", "Result", "published_results"]

Library = Literal["native", "open_clip", "transformers", "vse++"]
_OPEN_CLIP = "docs/openclip_retrieval_results.csv of github.com/mlfoundations/open_clip"
_SIGLIP2 = (
    "big_vision/configs/proj/image_text/README_siglip2.md of github.com/google-research/big_vision, which "
    "gives COCO only"
)
_MOBILECLIP = "results/{file}.jsonl of github.com/apple/ml-mobileclip"
_JINA = "the model card, huggingface.co/jinaai/jina-clip-v1"
_VSEPP = "the paper, arxiv.org/abs/1707.05612 (ResNet, fine-tuned on the data set's own train split)"
_Pair = tuple[float, float]
# Flickr30k's 1,000 and COCO's 5,000 test photos: text to image and image to text, in percent.
_RECALL: Mapping[str, tuple[_Pair | None, _Pair | None, str]] = {
    "clip-vit-b-32": ((58.78, 78.9), (30.44, 50.12), _OPEN_CLIP),
    "clip-vit-b-16": ((62.16, 82.2), (33.09, 52.42), _OPEN_CLIP),
    "clip-vit-l-14": ((64.96, 85.2), (36.51, 56.34), _OPEN_CLIP),
    "clip-vit-l-14-336": ((66.9, 87.7), (37.09, 57.94), _OPEN_CLIP),
    "openclip-vit-b-32": ((66.78, 84.1), (39.34, 56.32), _OPEN_CLIP),
    "openclip-vit-b-16": ((69.84, 86.3), (42.31, 59.44), _OPEN_CLIP),
    "openclip-vit-l-14": ((75.52, 89.5), (46.51, 63.36), _OPEN_CLIP),
    "openclip-vit-h-14": ((77.64, 90.7), (49.48, 65.92), _OPEN_CLIP),
    "xlm-roberta-b-32": ((64.48, 82.7), (37.78, 53.54), _OPEN_CLIP),
    "siglip-b-16": ((74.68, 89.1), (47.78, 65.74), _OPEN_CLIP),
    "siglip-l-16-256": ((79.04, 91.8), (52.28, 70.8), _OPEN_CLIP),
    "siglip-so400m-14-384": ((82.96, 94.3), (54.21, 72.42), _OPEN_CLIP),
    "siglip2-b-16": (None, (52.1, 68.9), _SIGLIP2),
    "siglip2-l-16-256": (None, (54.7, 71.5), _SIGLIP2),
    "siglip2-so400m-16-384": (None, (56.0, 71.2), _SIGLIP2),
    "mobileclip-s1": ((70.96, 89.2), (44.02, 62.2), _MOBILECLIP.format(file="mobileclip_s1")),
    "mobileclip-s2": ((73.38, 90.3), (45.37, 63.36), _MOBILECLIP.format(file="mobileclip_s2")),
    "mobileclip-b": ((77.28, 91.4), (50.59, 68.84), _MOBILECLIP.format(file="mobileclip_b")),
    "mobileclip2-s0": ((69.22, 86.6), (43.68, 62.68), _MOBILECLIP.format(file="mobileclip2_s0")),
    "mobileclip2-b": ((76.5, 89.7), (49.9, 67.46), _MOBILECLIP.format(file="mobileclip2_b")),
    "dfn-b-16": ((69.12, 85.4), (43.39, 60.38), _OPEN_CLIP),
    "dfn-l-14": ((75.46, 89.6), (48.56, 65.6), _OPEN_CLIP),
    "dfn-h-14": ((80.12, 92.8), (53.91, 72.3), _OPEN_CLIP),
    "jina-clip-v1": ((67.48, 81.1), (41.11, 55.44), _JINA),
    "jina-clip-v2": (None, None, "none: no recall@1 of it on these data sets was found"),
    "vse++-f30k-resnet": ((39.6, 52.9), None, _VSEPP),
    "vse++-coco-resnet": (None, (30.3, 41.3), _VSEPP),
}


@dataclass(frozen=True, slots=True)
class Result:
    """A published result in both directions, in percent.

    ``metric`` is ``recall@1`` or ``hit@10``; image to text counts a query as solved when any caption of its
    photo is found, which the field calls recall as well.
    """

    data_set: str
    metric: str
    text_to_image: float
    image_to_text: float


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model of the zoo.

    ``name`` is what ``-m`` takes. ``architecture`` and ``pretrained`` are open_clip's names for open_clip's
    models. ``repository`` is the model hub's, None where there is none. ``parameters`` counts both towers;
    ``download_size`` is in bytes, None where it isn't known. ``text_length`` is in tokens, begin and end
    included; None means any length. ``custom_code`` means that it runs only with ``--trust-remote-code``.
    ``results_source`` says where ``results`` were read, or why there are none.
    """

    name: str
    library: Library
    architecture: str
    dimension: int
    preprocessing: ImagePreprocessing
    text_length: int | None
    parameters: int
    download_size: int | None
    licence: str
    languages: str
    source: str
    results_source: str
    results: tuple[Result, ...] = ()
    pretrained: str | None = None
    repository: str | None = None
    custom_code: bool = False

    @property
    def shipped(self) -> bool:
        """Whether its weights are in this repository."""
        return self.library == "native"

    def result(self, data_set: str) -> Result | None:
        """The published result on one data set, or None."""
        return next((result for result in self.results if result.data_set == data_set), None)

    def to_json(self) -> Mapping[str, Any]:
        """The record as a JSON object."""
        return {**asdict(self), "preprocessing": self.preprocessing.describe(), "shipped": self.shipped}


def published_results(name: str) -> tuple[tuple[Result, ...], str]:
    """The results of one model, and where they were read (or why there are none)."""
    flickr30k, coco, source = _RECALL[name]
    pairs = (("flickr30k", flickr30k), ("coco", coco))
    return tuple(Result(data_set, "recall@1", *pair) for data_set, pair in pairs if pair is not None), source
