"""The step that turns a photo's bytes into pixels."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.errors import DataError
from crossmodal.images import decode_image
from executors.flow_step import FlowStep
from executors.steps import to_encode

# Decoding releases the interpreter lock; more threads than this only take turns with the encoder's.
_DECODING_THREADS = 2


class ImageLoader(FlowStep):
    """Decodes ``blob`` into ``pixels``: the whole photo, upright RGB."""

    step = "image_loader"

    def __init__(self, max_pixels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._max_pixels = int(max_pixels)
        self._threads = ThreadPoolExecutor(_DECODING_THREADS, thread_name_prefix="decode")

    @requests(on=["/index", "/search", "/encode"])
    def load(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Decodes each document on its own, so that one bad file fails alone."""
        list(self._threads.map(self._load_one, to_encode(docs)))
        return self.visited(docs)

    def _load_one(self, doc: MediaDocument) -> None:
        try:
            doc.pixels = decode_image(doc.blob or b"", max_pixels=self._max_pixels)
        except DataError as error:
            doc.error = str(error)

    def close(self) -> None:
        """Ends the decoding threads."""
        self._threads.shutdown()
