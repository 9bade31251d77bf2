"""clip-server's executor for torch, called without its Flow. Argument: a file with open_clip's weights."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from bench.peers.turns import answer

# Any name whose weights it reads as open_clip's.
_NAME = "ViT-B-32::laion400m_e31"

# torchvision's wheel doesn't load its operators beside a CPU torch; clip-server calls none of them.
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _main(weights: str) -> None:
    import torch

    library: Any = torch.library
    declared = library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        declared.define(operator)
    from clip_server.executors.clip_torch import CLIPEncoder
    from clip_server.model import openclip_model
    from docarray import Document, DocumentArray

    # Its own downloads come from its maker's bucket, and are checked against sums of the published weights.
    openclip_model.download_model = lambda url, **options: weights
    encoder = CLIPEncoder(name=_NAME, device="cpu")

    def encode(documents: list[Any]) -> None:
        array = DocumentArray(documents)
        asyncio.run(encoder.encode(array))
        assert array.embeddings.shape == (len(documents), 512)

    answer(
        {
            "photos": lambda paths: encode([Document(blob=Path(path).read_bytes()) for path in paths]),
            "texts": lambda texts: encode([Document(text=text) for text in texts]),
        }
    )


if __name__ == "__main__":
    _main(sys.argv[1])
