"""sentence-transformers' CLIP, as its documentation uses it. Argument: a folder with the model."""

from __future__ import annotations

import sys
from typing import Any

from bench.peers.turns import answer


def _main(folder: str) -> None:
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import CLIPModel

    model = SentenceTransformer(modules=[CLIPModel(folder)], device="cpu")

    def photos(paths: list[str]) -> Any:
        return model.encode([Image.open(path) for path in paths], batch_size=32)

    answer({"photos": photos, "texts": lambda texts: model.encode(texts, batch_size=32)})


if __name__ == "__main__":
    _main(sys.argv[1])
