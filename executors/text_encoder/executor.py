"""The step that turns a caption or a sentence into an embedding."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docarray import DocList
from jina import requests

from crossmodal.documents import ALONE, MediaDocument
from crossmodal.models import load_text_encoder
from executors.flow_step import FlowStep
from executors.steps import switched_on, to_encode, told_on_failure


class TextEncoder(FlowStep):
    """Encodes ``text`` into ``embedding``."""

    step = "text_encoder"

    def __init__(
        self,
        model: str,
        model_cache: str,
        trust_remote_code: str | bool = False,
        runtime: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with told_on_failure("text_encoder"):
            self._encoder = load_text_encoder(
                model,
                cache=Path(model_cache),
                trust_remote_code=switched_on(trust_remote_code),
                runtime=runtime,
            )
        # How many requests the fused layout may bring at once.
        self.concurrency = self._encoder.concurrency

    @requests(on="/index")
    def encode_together(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Encodes the documents of one request as one batch; an empty text is an error of its document."""
        self._encode(_with_text(docs))
        return self.visited(docs)

    @requests(on="/encode")
    def encode_alone(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Encodes each document as if it were alone, so that its vector doesn't depend on its neighbours."""
        self._encode_each(_with_text(docs))
        return self.visited(docs)

    @requests(on="/search")
    def encode_query(
        self, docs: DocList[MediaDocument], parameters: dict[str, Any], **kwargs: Any
    ) -> DocList[MediaDocument]:
        """Encodes as one batch, or with the parameter ``alone`` as at /encode."""
        encode = self._encode_each if parameters.get(ALONE) else self._encode
        encode(_with_text(docs))
        return self.visited(docs)

    def _encode_each(self, docs: Sequence[MediaDocument]) -> None:
        started = time.perf_counter()
        # The last bits of a batch's vectors depend on all that is in it, unless the encoder says otherwise.
        for batch in [docs] if self._encoder.independent else [[doc] for doc in docs]:
            self._encode(batch)
        for doc in docs:
            doc.encoded_ms = (time.perf_counter() - started) * 1000

    def _encode(self, docs: Sequence[MediaDocument]) -> None:
        if docs:
            embeddings = self._encoder.encode([doc.text or "" for doc in docs])
            for doc, embedding in zip(docs, embeddings, strict=True):
                doc.embedding = embedding


def _with_text(docs: DocList[MediaDocument]) -> list[MediaDocument]:
    """The documents to encode; those without a word get an error."""
    for doc in to_encode(docs):
        if not (doc.text or "").strip():
            doc.error = "The text is empty; write at least one word."
    return to_encode(docs)
