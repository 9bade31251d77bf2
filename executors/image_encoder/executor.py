"""The step that turns a photo's pixels into an embedding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.models import load_image_encoder
from executors.flow_step import FlowStep
from executors.steps import switched_on, to_encode, told_on_failure


class ImageEncoder(FlowStep):
    """Encodes ``pixels`` (uint8, the model's square) into ``embedding``, and drops ``pixels``."""

    step = "image_encoder"

    def __init__(
        self,
        model: str,
        model_cache: str,
        trust_remote_code: str | bool = False,
        runtime: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with told_on_failure("image_encoder"):
            self._encoder = load_image_encoder(
                model,
                cache=Path(model_cache),
                trust_remote_code=switched_on(trust_remote_code),
                runtime=runtime,
            )
        # How many requests the fused layout may bring at once.
        self.concurrency = self._encoder.concurrency

    @requests(on=["/index", "/search"])
    def encode_together(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Encodes the documents of one request as one batch."""
        self._encode(to_encode(docs))
        return self._done(docs)

    @requests(on="/encode")
    def encode_alone(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Encodes each document by itself: the last bits of a batch's vectors depend on all that is in it."""
        for doc in to_encode(docs):
            self._encode([doc])
        return self._done(docs)

    def _encode(self, docs: Sequence[MediaDocument]) -> None:
        if docs:
            embeddings = self._encoder.encode(np.stack([np.asarray(doc.pixels) for doc in docs]))
            for doc, embedding in zip(docs, embeddings, strict=True):
                doc.embedding = embedding

    def _done(self, docs: DocList[MediaDocument]) -> DocList[MediaDocument]:
        for doc in docs:
            doc.pixels = None
        return self.visited(docs)
