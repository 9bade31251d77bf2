"""The steps that turn a photo's bytes into what a model sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from crossmodal.documents import Document
from crossmodal.errors import DataError
from crossmodal.images import decode_reduced, thumbnail_of
from crossmodal.models import load_preprocessing
from crossmodal.models.runtimes.forms import available_cores
from crossmodal.steps.step import Step, StepContext, to_encode

__all__ = ["ImageLoader", "ImageNormalizer"]


class _PhotoStep(Step):
    """Works on several photos of a request at once, in threads of its own."""

    def __init__(self, context: StepContext) -> None:
        super().__init__(context)
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix=context.name)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    def _each(self, work: Callable[[Document], None], docs: Sequence[Document]) -> None:
        """Does ``work`` on all that have no embedding yet."""
        photos = to_encode(docs)
        if len(photos) == 1:
            work(photos[0])
        else:
            list(self._threads.map(work, photos))


class ImageLoader(_PhotoStep):
    """Decodes ``content`` into ``pixels``, upright RGB, with no more of them than the model needs.

    A photo is decoded once: what is to be indexed gets its thumbnail here as well.
    """

    def __init__(self, context: StepContext, *, model: str, model_cache: str, max_pixels: str) -> None:
        super().__init__(context)
        self._short_side = load_preprocessing(model, cache=Path(model_cache)).decoded_side
        self._max_pixels = int(max_pixels)

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Decodes each document on its own, so that one bad file fails alone."""
        self._each(self._load_with_thumbnail, docs)

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """The same without a thumbnail, for those that bring no vector of their own."""
        self._each(self._load, docs)

    encode = search

    def _load_with_thumbnail(self, doc: Document) -> None:
        self._load(doc, thumbnail=True)

    def _load(self, doc: Document, *, thumbnail: bool = False) -> None:
        try:
            photo = decode_reduced(
                doc.content or b"", short_side=self._short_side, max_pixels=self._max_pixels
            )
            if thumbnail:
                doc.thumbnail = thumbnail_of(photo)
        except DataError as error:
            doc.error = str(error)
        else:
            doc.pixels, doc.frame = photo.pixels, photo.frame


class ImageNormalizer(_PhotoStep):
    """Resizes and crops ``pixels`` to the model's input, uint8; the encoder scales them to floats."""

    spent = ("content", "thumbnail", "frame")

    def __init__(self, context: StepContext, *, model: str, model_cache: str) -> None:
        super().__init__(context)
        self._preprocessing = load_preprocessing(model, cache=Path(model_cache))

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Brings every photo to the size that the encoder sees."""
        self._each(self._normalize, docs)

    search = encode = index

    def _normalize(self, doc: Document) -> None:
        if doc.pixels is not None:
            doc.pixels = self._preprocessing.crop(doc.pixels, doc.frame)
            doc.frame = None
