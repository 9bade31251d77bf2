"""The steps that turn a photo's bytes into what a model sees."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crossmodal.documents import Document
from crossmodal.errors import DataError
from crossmodal.images.limits import MEGABYTE
from crossmodal.images.pool import PhotoRequest, shared_pool
from crossmodal.limits import PHOTO, photo_limit
from crossmodal.machine import available_cores
from crossmodal.models import load_preprocessing
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
            # Each with a copy of the context: the request's deadline holds in there as well.
            contexts = [copy_context() for _ in photos]
            list(self._threads.map(lambda context, photo: context.run(work, photo), contexts, photos))


class ImageLoader(_PhotoStep):
    """Decodes ``content`` into ``pixels``, upright RGB, as the model sees them; in processes of their own.

    Photos come from strangers: only the square that the model sees leaves those processes, whatever the
    photo's size. A photo is decoded once, so what is to be indexed gets its thumbnail here as well.
    ``max_photo_bytes`` is how many bytes ``content`` may have. ``decode_memory`` is what all decoding
    together may take, in MB; 0 is a share of the machine's memory.
    """

    def __init__(
        self,
        context: StepContext,
        *,
        model: str,
        model_cache: str,
        max_pixels: str,
        max_photo_bytes: str = str(PHOTO.most),
        decode_memory: str = "0",
    ) -> None:
        super().__init__(context)
        preprocessing = load_preprocessing(model, cache=Path(model_cache))
        self._wanted = PhotoRequest(
            preprocessing.square, preprocessing.decoded_side, max_pixels=int(max_pixels)
        )
        self._limit = photo_limit(int(max_photo_bytes))
        held = ExitStack()
        self._pool = held.enter_context(shared_pool(int(decode_memory) * MEGABYTE))
        # Also where nobody closes this step.
        self._let_go = weakref.finalize(self, held.close)

    def prepare(self) -> None:
        """Starts a process that decodes, while other steps load their models."""
        self._pool.prepare()

    def close(self) -> None:
        """Ends the threads, and the processes where no other step uses them."""
        super().close()
        self._let_go()

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Decodes each document on its own, so that one bad file fails alone."""
        self._load_all(replace(self._wanted, thumbnail=True), docs)

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """The same without a thumbnail, for those that bring no vector of their own."""
        self._load_all(self._wanted, docs)

    encode = search

    def _load_all(self, wanted: PhotoRequest, docs: Sequence[Document]) -> None:
        """Decodes each document on its own; those that bring pixels already pass."""
        for doc in docs:
            self._refuse_large(doc)
        self._each(partial(self._load, wanted), [doc for doc in docs if doc.pixels is None])

    def _refuse_large(self, doc: Document) -> None:
        size = len(doc.content or b"")
        if doc.error is None and size > self._limit.most:
            doc.error = self._limit.exceeded("The photo", size)

    def _load(self, wanted: PhotoRequest, doc: Document) -> None:
        try:
            photo = self._pool.decode(doc.content or b"", wanted)
        except DataError as error:
            doc.error = str(error)
        else:
            doc.pixels, doc.thumbnail, doc.warning = photo.pixels, photo.thumbnail, photo.warning


class ImageNormalizer(_PhotoStep):
    """Resizes and crops ``pixels`` to the model's input, uint8; the encoder scales them to floats.

    Those of ``ImageLoader`` are of that size already; those of a step in its place may be of any.
    """

    spent = ("content", "thumbnail", "frame")

    def __init__(self, context: StepContext, *, model: str, model_cache: str) -> None:
        super().__init__(context)
        self._preprocessing = load_preprocessing(model, cache=Path(model_cache))

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Brings every photo to the size that the encoder sees."""
        self._each(self._normalize, docs)

    search = encode = index

    def _normalize(self, doc: Document) -> None:
        size = self._preprocessing.size
        if doc.pixels is not None and doc.pixels.shape[:2] != (size, size):
            doc.pixels = self._preprocessing.crop(doc.pixels, doc.frame)
            doc.frame = None
