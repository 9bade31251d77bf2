"""The step that turns a caption or a sentence into an embedding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docarray import DocList
from jina import requests

from crossmodal.documents import MediaDocument
from crossmodal.models import load_text_encoder
from executors.flow_step import FlowStep
from executors.steps import switched_on, to_encode, told_on_failure


class TextEncoder(FlowStep):
    """Encodes ``text`` into ``embedding``."""

    step = "text_encoder"

    def __init__(
        self, model: str, model_cache: str, trust_remote_code: str | bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with told_on_failure("text_encoder"):
            self._encoder = load_text_encoder(
                model, cache=Path(model_cache), trust_remote_code=switched_on(trust_remote_code)
            )

    @requests(on=["/index", "/search"])
    def encode_together(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Encodes the documents of one request as one batch; an empty text is an error of its document."""
        self._encode(_with_text(docs))
        return self.visited(docs)

    @requests(on="/encode")
    def encode_alone(self, docs: DocList[MediaDocument], **kwargs: Any) -> DocList[MediaDocument]:
        """Encodes each document by itself: the last bits of a batch's vectors depend on all that is in it."""
        for doc in _with_text(docs):
            self._encode([doc])
        return self.visited(docs)

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
