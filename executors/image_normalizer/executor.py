"""The step that brings every photo to the size that the encoder sees."""

from pathlib import Path
from typing import Any

import numpy as np
from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from crossmodal.models import load_preprocessing
from executors.steps import pending, told_on_failure, visited


class ImageNormalizer(Executor):
    """Resizes and crops ``pixels`` to the model's square, uint8, and drops ``blob``."""

    def __init__(self, model: str, model_cache: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with told_on_failure("image_normalizer"):
            self._preprocessing = load_preprocessing(model, cache=Path(model_cache))

    @requests(on=["/index", "/search"])
    def normalize(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Leaves scaling to floats to the encoder: uint8 is a quarter of the bytes between processes."""
        for doc in docs:
            doc.blob = None
        for doc in pending(docs):
            doc.pixels = self._preprocessing.crop(np.asarray(doc.pixels))
        return visited(docs, "image_normalizer")
