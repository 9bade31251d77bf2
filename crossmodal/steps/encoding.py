"""The steps that turn photos and sentences into embeddings, and the check that an embedding can be used."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.deadlines import check_deadline
from crossmodal.documents import Document
from crossmodal.errors import DataError
from crossmodal.models.encoders import ImageEncoder as ImageModel
from crossmodal.models.encoders import TextEncoder as TextModel
from crossmodal.steps.step import TOGETHER, Step, StepContext, switched_on, to_encode

__all__ = ["ImageEncoder", "TextEncoder", "unit_vector"]


class _Encoder(Step):
    """What both have in common: the model, loaded at the first use and shared by all steps of a process."""

    def __init__(
        self,
        context: StepContext,
        *,
        model: str,
        model_cache: str,
        trust_remote_code: str | bool = False,
        runtime: str = "auto",
    ) -> None:
        super().__init__(context)
        self._model_name = model
        self._asked: dict[str, Any] = {
            "cache": Path(model_cache),
            "trust_remote_code": switched_on(trust_remote_code),
            "runtime": runtime,
        }

    @property
    def _model(self) -> ImageModel | TextModel:
        raise NotImplementedError

    @property
    def concurrency(self) -> int:
        """As many requests as the model can usefully encode at once."""
        return self._model.concurrency

    def prepare(self) -> None:
        """Loads the model."""
        _ = self._model


class ImageEncoder(_Encoder):
    """Encodes ``pixels`` (uint8, the model's input) into ``embedding``, and drops ``pixels``."""

    spent = ("pixels",)

    @property
    def _model(self) -> ImageModel:
        return self.context.loaded.image_encoder(self._model_name, **self._asked)

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Encodes the documents of one request as one batch."""
        self._encode([doc for doc in to_encode(docs) if doc.pixels is not None])

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Encodes each document by itself: the last bits of a batch's vectors depend on all that is in it."""
        if parameters.get(TOGETHER):
            self.index(docs, parameters)
            return
        for doc in to_encode(docs):
            if doc.pixels is not None:
                check_deadline()
                started = time.perf_counter()
                self._encode([doc])
                doc.encoded_ms = (time.perf_counter() - started) * 1000

    encode = search

    def _encode(self, docs: Sequence[Document]) -> None:
        if docs:
            embeddings = self._model.encode(np.stack([doc.pixels for doc in docs if doc.pixels is not None]))
            for doc, embedding in zip(docs, embeddings, strict=True):
                doc.embedding, doc.pixels = embedding, None


class TextEncoder(_Encoder):
    """Encodes ``text`` into ``embedding``."""

    @property
    def _model(self) -> TextModel:
        return self.context.loaded.text_encoder(self._model_name, **self._asked)

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Encodes the documents of one request as one batch; an empty text is an error of its document."""
        _encode_with(self._model, _with_text(docs))

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Encodes each document as if it were alone, so that its vector doesn't depend on its neighbours."""
        sentences = _with_text(docs)
        if not sentences:
            return
        started = time.perf_counter()
        model = self._model
        together = parameters.get(TOGETHER) or model.independent
        for batch in [sentences] if together else [[doc] for doc in sentences]:
            check_deadline()
            _encode_with(model, batch)
        encoded_ms = (time.perf_counter() - started) * 1000
        for doc in sentences:
            doc.encoded_ms = encoded_ms

    encode = search


def _encode_with(model: TextModel, docs: Sequence[Document]) -> None:
    if docs:
        for doc, embedding in zip(docs, model.encode([doc.text or "" for doc in docs]), strict=True):
            doc.embedding = embedding


def _with_text(docs: Sequence[Document]) -> list[Document]:
    """The documents to encode; those without a word get an error."""
    found = []
    for doc in to_encode(docs):
        if (doc.text or "").strip():
            found.append(doc)
        else:
            doc.error = "The text is empty; write at least one word."
    return found


# Vectors that were stored as float16 are off by up to 2**-11 of their length; scaling those would change
# the last bits of scores for nothing.
_LENGTH_TOLERANCE = 1e-3


def unit_vector(embedding: Any, *, dimension: int | None) -> NDArray[np.float32]:
    """``embedding`` as float32 (dimension,) of length 1; any dimension is right where None is given.

    One of another length is scaled, so that inner products are cosines. Raises DataError for another shape,
    for values that are not finite numbers, and for a length that cannot be scaled.
    """
    if embedding is None:
        raise DataError("The document has no embedding; send its text or its blob as well.")
    given = np.asarray(embedding)
    if given.dtype.kind not in "fiu":
        raise DataError(f"The embedding holds values of type {given.dtype}; it must hold numbers.")
    if given.ndim != 1 or len(given) != (dimension or len(given)) or not len(given):
        raise DataError(
            f"The embedding has the shape {given.shape}, but this index needs "
            f"({dimension or 'dimension'},). Encode with the model that built the index."
        )
    if not np.isfinite(given).all():
        raise DataError("The embedding has a value that is not a finite number.")
    length = float(np.linalg.norm(given.astype(np.float64)))
    if not 0.0 < length < float("inf"):
        raise DataError(f"The embedding has the length {length}, so it cannot be scaled to length 1.")
    scaled = given if abs(length - 1.0) <= _LENGTH_TOLERANCE else given / length
    return np.ascontiguousarray(scaled, dtype=np.float32)
