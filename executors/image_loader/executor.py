"""The step that turns a photo's bytes into pixels."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.errors import DataError
from crossmodal.images import decode_reduced
from crossmodal.models import load_preprocessing
from crossmodal.models.runtimes.machine import available_cores
from executors.flow_step import FlowStep
from executors.steps import to_encode, told_on_failure


class ImageLoader(FlowStep):
    """Decodes ``blob`` into ``pixels``, upright RGB, with no more of them than the model needs."""

    step = "image_loader"

    def __init__(self, model: str, model_cache: str, max_pixels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with told_on_failure("image_loader"):
            self._short_side = load_preprocessing(model, cache=Path(model_cache)).decoded_side
        self._max_pixels = int(max_pixels)
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")

    @requests(on=["/index", "/search", "/encode"])
    def load(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Decodes each document on its own, so that one bad file fails alone."""
        list(self._threads.map(self._load_one, to_encode(docs)))
        return self.visited(docs)

    def _load_one(self, doc: MediaDocument) -> None:
        try:
            photo = decode_reduced(doc.blob or b"", short_side=self._short_side, max_pixels=self._max_pixels)
        except DataError as error:
            doc.error = str(error)
        else:
            doc.pixels, doc.frame = photo.pixels, np.array(photo.frame)

    def close(self) -> None:
        """Ends the decoding threads."""
        self._threads.shutdown()
