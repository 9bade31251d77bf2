"""Terms to vectors: from the index, from memory, or through the query Flow's encoders."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import MediaDocument
from crossmodal.errors import QueryError, RequestError
from crossmodal.query.composition import EncodedTerm
from crossmodal.query.request import SearchRequest
from crossmodal.query.terms import Term
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.workspace import Workspace
from flows.searching.running import Running, attempt

__all__ = ["Send", "TermEncoder"]

Send = Callable[[list[MediaDocument], str, dict[str, Any]], Awaitable[dict[str, MediaDocument]]]

# A vector, float32 (dimension,), or the sentence that says why there is none.
_Encoded = NDArray[np.float32] | str

# Sentences whose vectors are remembered: at 512 dimensions 2 MB.
_REMEMBERED = 1024


class TermEncoder:
    """Gives terms their vectors, and remembers those of the sentences asked last."""

    def __init__(self, send: Send, workspace: Workspace) -> None:
        self._send = send
        self._workspace = workspace
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._counts = (0, 0)

    def take_counts(self) -> tuple[int, int]:
        """How many sentences' vectors were remembered and how many had to be made, since the last call."""
        counts, self._counts = self._counts, (0, 0)
        return counts

    async def encode(self, running: Sequence[Running]) -> None:
        """Gives every term of every request its vector; what cannot be encoded is its request's error."""
        named = list(
            dict.fromkeys(term.id for one in running for term in one.request.terms if term.id is not None)
        )
        stored = await asyncio.to_thread(self._stored, named) if named else {}
        terms = {
            key: term for one in running for term in one.request.terms if (key := _key(term)) is not None
        }
        encoded = await self._encode(terms)
        for one in running:
            attempt(one, lambda one: _take_vectors(one, stored, encoded))

    def asks_only_a_new_sentence(self, request: SearchRequest) -> bool:
        """Whether a request looks for photos that fit one sentence whose vector is not remembered.

        It needs no vector before the search: the query Flow encodes and searches in one walk.
        """
        term = request.terms[0]
        return (
            len(request.terms) == 1
            and term.text is not None
            and term.weight > 0
            and request.modality in (None, IMAGE)
            and _text_key(term.text) not in self._remembered
        )

    def take_answer(self, one: Running, answer: MediaDocument) -> None:
        """Gives a request of one new sentence the vector that came with its matches."""
        (term,) = one.request.terms
        sentence = term.text or ""
        _take_vectors(one, {}, {_text_key(sentence): self.remember_answer(sentence, answer)})

    def document_of(self, id: str, sentence: str) -> MediaDocument:
        """The query for one sentence, with its vector where that is remembered."""
        vector = self._recall(_text_key(sentence))
        if vector is None:
            return MediaDocument(id=id, modality=TEXT, text=sentence)
        return MediaDocument(id=id, modality=TEXT, embedding=vector)

    def remember_answer(self, sentence: str, answer: MediaDocument) -> NDArray[np.float32]:
        """The vector that came with the answer to a sentence, which is remembered from now on."""
        vector = np.asarray(answer.embedding, np.float32)
        self._remember(_text_key(sentence), vector)
        return vector

    async def _encode(self, terms: Mapping[str, Term]) -> dict[str, _Encoded]:
        """The vectors of sentences and uploaded photos by key: remembered, or made by the query Flow."""
        encoded: dict[str, _Encoded] = {
            key: vector for key in terms if (vector := self._recall(key)) is not None
        }
        wanted = [
            MediaDocument(
                id=key, modality=TEXT if term.text is not None else IMAGE, text=term.text, blob=term.image
            )
            for key, term in terms.items()
            if key not in encoded
        ]
        for key, doc in (await self._send(wanted, "/encode", {}) if wanted else {}).items():
            encoded[key] = doc.error or np.asarray(doc.embedding, np.float32)
            if doc.error is None and terms[key].text is not None:
                self._remember(key, np.asarray(doc.embedding, np.float32))
        return encoded

    def _recall(self, key: str) -> NDArray[np.float32] | None:
        vector = self._remembered.get(key)
        if vector is not None:
            hits, misses = self._counts
            self._counts = (hits + 1, misses)
            self._remembered.move_to_end(key)
        return vector

    def _remember(self, key: str, vector: NDArray[np.float32]) -> None:
        hits, misses = self._counts
        self._counts = (hits, misses + 1)
        self._remembered[key] = vector
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    def _stored(self, ids: Sequence[str]) -> dict[str, tuple[Modality, NDArray[np.float32]]]:
        found: dict[str, tuple[Modality, NDArray[np.float32]]] = {}
        for modality in (TEXT, IMAGE):
            # A photo goes before a caption of the same id.
            for id, vector in self._workspace.vectors(ids, modality).items():
                found[id] = (modality, vector)
        return found


def _take_vectors(
    one: Running,
    stored: dict[str, tuple[Modality, NDArray[np.float32]]],
    encoded: Mapping[str, _Encoded],
) -> None:
    for term in one.request.terms:
        if term.id is not None:
            if term.id not in stored:
                raise RequestError(
                    f"There is no photo or caption with the id {term.id[:80]!r} in the index.", status=404
                )
            modality, vector = stored[term.id]
        else:
            made = encoded[_key(term) or ""]
            if isinstance(made, str):
                raise QueryError(made)
            modality, vector = TEXT if term.text is not None else IMAGE, made
        one.terms.append(EncodedTerm(vector=vector, weight=term.weight, modality=modality, name=_name(term)))
    one.outcome.kinds = tuple(term.modality for term in one.terms)
    one.outcome.modality = one.request.modality or _default_target(one)


def _default_target(one: Running) -> Modality:
    kinds = {term.modality for term in one.terms if term.weight > 0}
    if one.request.similar:
        return IMAGE if IMAGE in kinds else TEXT
    return TEXT if kinds == {IMAGE} else IMAGE


def _name(term: Term) -> str:
    """How a message calls a term."""
    if term.text is not None:
        return repr(term.text[:60])
    return "the photo" if term.id is None else f"id:{term.id[:60]}"


def _key(term: Term) -> str | None:
    """What tells the vector of one term from that of another; None for a document of the index."""
    if term.text is not None:
        return _text_key(term.text)
    if term.image is not None:
        return f"image:{hashlib.sha256(term.image).hexdigest()}"
    return None


def _text_key(text: str) -> str:
    return f"text:{text}"
