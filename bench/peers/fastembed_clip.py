"""fastembed's photo tower of CLIP in onnxruntime. Argument: a folder with the exported model."""

from __future__ import annotations

import sys

from bench.peers.turns import answer


def _main(folder: str) -> None:
    from fastembed import ImageEmbedding

    # A path keeps it from asking the model hub.
    model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=folder, threads=1)
    answer({"photos": lambda paths: list(model.embed(paths, batch_size=32))})


if __name__ == "__main__":
    _main(sys.argv[1])
