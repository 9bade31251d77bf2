"""The step that turns a photo's bytes into pixels."""

from concurrent.futures import ThreadPoolExecutor

from docarray import DocList
from jina import Executor, requests

from crossmodal.documents import MediaDocument
from crossmodal.errors import DataError
from crossmodal.images import decode_image
from crossmodal.models import load_preprocessing
from executors.steps import pending, told_on_failure

# Decoding releases the interpreter lock; more threads than this only take turns with the encoder's.
_DECODING_THREADS = 2


class ImageLoader(Executor):
    """Decodes ``blob`` into ``pixels``: upright RGB, at least twice as large as the model needs."""

    def __init__(self, model: str, model_cache: str, max_pixels: int, **kwargs):
        super().__init__(**kwargs)
        with told_on_failure("image_loader"):
            self._side = load_preprocessing(model, cache=model_cache).size
        self._max_pixels = int(max_pixels)
        self._threads = ThreadPoolExecutor(_DECODING_THREADS, thread_name_prefix="decode")

    @requests(on=["/index", "/search"])
    def load(self, docs: DocList[MediaDocument], **kwargs) -> DocList[MediaDocument]:
        """Decodes each document on its own, so that one bad file fails alone."""
        list(self._threads.map(self._load_one, pending(docs)))
        return docs

    def _load_one(self, doc: MediaDocument) -> None:
        try:
            doc.pixels = decode_image(doc.blob or b"", at_least=self._side, max_pixels=self._max_pixels)
        except DataError as error:
            doc.error = str(error)

    def close(self) -> None:
        """Ends the decoding threads."""
        self._threads.shutdown()
