"""What passes through a Flow: a photo or a caption to index, or a query, as a plain object.

Steps pass documents on by reference and fill in their fields. Only the jina extra, which sends them to other
processes, turns them into messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crossmodal import limits
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT, Modality, Record, checked_modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crossmodal.images import Frame

__all__ = ["Document", "ShardScores", "other_modality"]


@dataclass(slots=True)
class ShardScores:
    """All that one shard holds: ``cosines`` float64 (ids,) and ``hubness`` (ids,), in the order of
    ``ids``."""

    shard: int
    ids: Sequence[str]
    cosines: NDArray[np.float64]
    hubness: NDArray[np.float32]


@dataclass(slots=True)
class Document:
    """A photo or a caption to index, or a query.

    ``modality`` says what it is: "image", "text", or None for a query that is a vector alone. ``seeks`` says
    which modality a query looks for, and so which branch of the query Flow it takes; one that only compares
    itself with documents that it names seeks nothing, and its ``stage`` is "rerank". ``record`` is what is
    to be stored, with a photo's bytes once a step has put them there; ``text`` and ``content`` (the untouched
    bytes of a photo's file) are what is encoded.

    Steps add ``pixels`` uint8 (height, width, 3), first the decoded photo, then the model's input, which a
    query may also bring along;
    ``frame``, the rectangle of the decoded pixels that the photo fills; ``thumbnail``, a small JPEG; and
    ``embedding`` float32 (dimension,) of unit length, which a query may also bring along. ``outcome`` is
    added, replaced, unchanged or deleted, None where there was nothing to delete; ``warning`` is a sentence
    on a damaged photo of which the rest could be read; ``error`` is a sentence, and no later step works on a
    document that has one; ``aborted`` names the class of that error where every other document would fail
    for the same reason (a full disk).

    A query that is ``corrected`` ranks by cosine minus hubness: one of the other modality than what it seeks.
    A query's ``matches`` come best first. ``wanted`` is for evaluation: a query that names documents by id
    gets those as its matches, with their ranks among everything in the index; until the last step has
    counted, ``shard_scores`` holds what each shard said. ``shard_states`` is what each shard answers to the
    operation ``status``, and ``lost_shards`` are those that did not answer, where that may be.
    ``encoded_ms`` is what encoding it took.
    """

    id: str
    modality: Modality | None = None
    seeks: Modality | None = None
    stage: str | None = None
    text: str | None = None
    content: bytes | None = None
    record: Record | None = None
    pixels: NDArray[np.uint8] | None = None
    frame: Frame | None = None
    thumbnail: bytes | None = None
    embedding: NDArray[np.float32] | None = None
    outcome: str | None = None
    warning: str | None = None
    error: str | None = None
    aborted: str | None = None
    matches: list[Match] | None = None
    corrected: bool | None = None
    wanted: Sequence[str] | None = None
    shard_scores: list[ShardScores] | None = None
    shard_states: list[dict[str, Any]] | None = None
    lost_shards: list[str] | None = None
    encoded_ms: float | None = None

    @classmethod
    def of_record(cls, record: Record) -> Document:
        """The document that carries ``record`` into the index Flow."""
        light = record.content is None and record.made is None
        stored = record if light else replace(record, content=None, made=None)
        doc = cls(record.id, record.modality, text=record.text, content=record.content, record=stored)
        if (made := record.made) is not None:
            doc.embedding, doc.thumbnail = made.vector, made.thumbnail
            doc.warning, doc.error = made.warning, made.error
        return doc.checked()

    @classmethod
    def of_query(
        cls,
        id: str,
        *,
        text: str | None = None,
        content: bytes | None = None,
        vector: NDArray[np.float32] | None = None,
        seeks: Modality | None = None,
        corrected: bool | None = None,
    ) -> Document:
        """A sentence, a photo or a vector that looks for ``seeks``: by default the other modality.

        It is ``corrected`` by default where that is another one than its own.
        """
        modality = TEXT if text is not None else IMAGE if content is not None else None
        if seeks is None and modality is not None:
            seeks = other_modality(modality)
        if corrected is None:
            corrected = modality is not None and modality != seeks
        return cls(
            id, modality, seeks, text=text, content=content, embedding=vector, corrected=corrected
        ).checked()

    def checked(self) -> Document:
        """Itself, with an error and without what is too large where it is beyond ``limits``.

        Every way into a Flow comes by here, so that no step works on what nobody should have sent.
        """
        if (refusal := self._beyond_limits()) is not None:
            self.error = self.error or refusal
            self.text = self.content = self.embedding = None
        return self

    def _beyond_limits(self) -> str | None:
        if self.text is not None and len(self.text) > limits.SENTENCE.most:
            return limits.SENTENCE.exceeded(f"The text {limits.quoted(self.text)}", len(self.text))
        if self.content is not None and len(self.content) > limits.LARGEST_PHOTO.most:
            return limits.LARGEST_PHOTO.exceeded("The photo", len(self.content))
        if self.embedding is not None and self.embedding.size > limits.DIMENSION.most:
            return limits.DIMENSION.exceeded("The vector", self.embedding.size)
        return None if self.record is None else self.record.beyond_limits()


def other_modality(modality: Modality) -> Modality:
    """What a query of ``modality`` looks for unless it says otherwise: a sentence finds photos, and so on."""
    return TEXT if checked_modality(modality, "The query") == IMAGE else IMAGE
