"""The step that brings every photo to the size that the encoder sees."""

from pathlib import Path
from typing import Any

import numpy as np
from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.models import load_preprocessing
from executors.flow_step import FlowStep
from executors.steps import to_encode, told_on_failure


class ImageNormalizer(FlowStep):
    """Resizes and crops ``pixels`` to the model's square, uint8, and drops ``blob``."""

    step = "image_normalizer"

    def __init__(self, model: str, model_cache: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with told_on_failure("image_normalizer"):
            self._preprocessing = load_preprocessing(model, cache=Path(model_cache))

    @requests(on=["/index", "/search", "/encode"])
    def normalize(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Leaves scaling to floats to the encoder: uint8 is a quarter of the bytes between processes."""
        for doc in docs:
            doc.blob = None
        for doc in to_encode(docs):
            left, top, right, bottom = map(float, np.asarray(doc.frame))
            doc.pixels = self._preprocessing.crop(np.asarray(doc.pixels), (left, top, right, bottom))
            doc.frame = None
        return self.visited(docs)
