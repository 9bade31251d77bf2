"""Other projects' encoders, each run in its own environment, where nothing else of this project is.

Arguments: the project, and its model's file or folder. Reads lines of JSON, ``{"photos": [paths]}`` or
``{"texts": [sentences]}``, and prints the seconds that encoding each took; first 0 once it is ready.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["MARK"]

# Before what is meant for the benchmark: a library may print as well.
MARK = "measured:"

_Encoders = Mapping[str, Callable[[list[str]], Any]]


def _sentence_transformers(folder: str) -> _Encoders:
    """CLIP as the documentation uses it."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import CLIPModel

    model = SentenceTransformer(modules=[CLIPModel(folder)], device="cpu")
    return {
        "photos": lambda paths: model.encode([Image.open(path) for path in paths], batch_size=32),
        "texts": lambda texts: model.encode(texts, batch_size=32),
    }


def _fastembed(folder: str) -> _Encoders:
    """The photo tower of CLIP in onnxruntime."""
    from fastembed import ImageEmbedding

    # A path keeps it from asking the model hub.
    model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=folder, threads=1)
    return {"photos": lambda paths: list(model.embed(paths, batch_size=32))}


def _clip_server(weights: str) -> _Encoders:
    """The executor for torch, called without its Flow; ``weights`` are open_clip's."""
    import torch

    library: Any = torch.library
    declared = library.Library("torchvision", "FRAGMENT")
    # torchvision's wheel doesn't load its operators beside a CPU torch; clip-server calls none of them.
    for operator in ("nms", "qnms"):
        declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from clip_server.executors.clip_torch import CLIPEncoder
    from clip_server.model import openclip_model
    from docarray import Document, DocumentArray

    # Its own downloads come from its maker's bucket, and are checked against sums of the published weights.
    openclip_model.download_model = lambda url, **options: weights
    # Any name whose weights it reads as open_clip's.
    encoder = CLIPEncoder(name="ViT-B-32::laion400m_e31", device="cpu")

    def encode(documents: list[Any]) -> None:
        array = DocumentArray(documents)
        asyncio.run(encoder.encode(array))
        assert array.embeddings.shape == (len(documents), 512)

    return {
        "photos": lambda paths: encode([Document(blob=Path(path).read_bytes()) for path in paths]),
        "texts": lambda texts: encode([Document(text=text) for text in texts]),
    }


def _main(project: str, model: str) -> None:
    encoders = {
        "sentence-transformers": _sentence_transformers,
        "fastembed": _fastembed,
        "clip-server": _clip_server,
    }[project](model)
    print(MARK, 0.0, flush=True)
    for line in sys.stdin:
        ((kind, items),) = json.loads(line).items()
        started = time.perf_counter()
        encoders[kind](items)
        print(MARK, time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
