"""Terms to vectors: from the index, from memory, or through the query Flow's encoders."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.documents import Document
from crossmodal.engine.ranking import SearchState
from crossmodal.errors import DataError, QueryError, RequestError
from crossmodal.flow.runner import Flow
from crossmodal.query.composition import EncodedTerm
from crossmodal.query.expression import Term
from crossmodal.query.request import SearchRequest
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.steps.encoding import unit_vector
from crossmodal.workspace import Workspace

__all__ = ["TermEncoder", "encoded"]

# A vector, float32 (dimension,), or the sentence that says why there is none.
_Encoded = NDArray[np.float32] | str

# Sentences whose vectors are remembered: at 512 dimensions 2 MB.
_REMEMBERED = 1024


def encoded(
    flow: Flow, docs: Sequence[Document], parameters: Mapping[str, Any] | None = None
) -> NDArray[np.float32]:
    """The vectors that the query Flow's encoders make of ``docs``, float32 (n, dimension).

    Raises QueryError for the first that cannot be encoded.
    """
    by_id = {doc.id: doc for doc in flow.run("encode", docs, parameters)}
    vectors = []
    for doc in docs:
        answer = by_id[doc.id]
        if answer.error is not None or answer.embedding is None:
            raise QueryError(answer.error or f"{doc.id} could not be encoded.")
        vectors.append(answer.embedding)
    return np.stack(vectors)


class TermEncoder:
    """Gives terms their vectors, and remembers those of the sentences asked last. Safe across threads."""

    def __init__(self, flow: Callable[[], Flow], workspace: Workspace) -> None:
        self._flow = flow
        self._workspace = workspace
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._counts = (0, 0)

    def take_counts(self) -> tuple[int, int]:
        """How many sentences' vectors were remembered and how many had to be made, since the last call."""
        with self._lock:
            counts, self._counts = self._counts, (0, 0)
            return counts

    def encode(self, states: Sequence[SearchState]) -> None:
        """Gives every term of every request its vector; what cannot be encoded is its request's error."""
        named = list(dict.fromkeys(term.id for state in states for term in state.request.terms if term.id))
        stored = self._stored(named) if named else {}
        terms: dict[str, Term] = {}
        for state in states:
            for term in state.request.terms:
                if (key := _key(term)) is not None:
                    if key in terms and term.text is not None:
                        self._count(hits=1)
                    terms[key] = term
        encoded = self._encode(terms)
        for state in states:
            try:
                self._take_vectors(state, stored, encoded)
            except (DataError, RequestError) as error:
                state.outcome.error = error

    def is_plain(self, request: SearchRequest) -> bool:
        """Whether a request looks for photos that fit one sentence whose vector is not remembered.

        It needs no vector before the search: the query Flow encodes and searches at once.
        """
        term = request.terms[0]
        return (
            term.text is not None
            and len(request.terms) == 1
            and term.weight > 0
            and request.modality in (None, IMAGE)
            and not request.similar
            and term.text not in self._remembered
        )

    def take_answer(self, state: SearchState, answer: Document) -> None:
        """Gives a plain request the vector that came with its matches."""
        sentence = state.request.terms[0].text or ""
        assert answer.embedding is not None, "an answer without an error has a vector"
        self._remember(sentence, answer.embedding)
        self._take_vectors(state, {}, {_text_key(sentence): answer.embedding})

    def _encode(self, terms: Mapping[str, Term]) -> dict[str, _Encoded]:
        """The vectors of sentences and photos by key: remembered, or made by the query Flow."""
        encoded: dict[str, _Encoded] = {}
        wanted = []
        for key, term in terms.items():
            vector = None if term.text is None else self._recall(term.text)
            if vector is not None:
                encoded[key] = vector
            else:
                wanted.append(Document.of_query(key, text=term.text, content=term.image))
        for doc in self._flow().run("encode", wanted) if wanted else ():
            if doc.error is not None or doc.embedding is None:
                encoded[doc.id] = doc.error or "It could not be encoded."
                continue
            encoded[doc.id] = doc.embedding
            if doc.text is not None:
                self._remember(doc.text, doc.embedding)
        return encoded

    def _recall(self, sentence: str) -> NDArray[np.float32] | None:
        with self._lock:
            vector = self._remembered.get(sentence)
            if vector is not None:
                self._remembered.move_to_end(sentence)
        if vector is not None:
            self._count(hits=1)
        return vector

    def _remember(self, sentence: str, vector: NDArray[np.float32]) -> None:
        self._count(misses=1)
        with self._lock:
            self._remembered[sentence] = vector
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)

    def _count(self, hits: int = 0, misses: int = 0) -> None:
        with self._lock:
            self._counts = (self._counts[0] + hits, self._counts[1] + misses)

    def _stored(self, ids: Sequence[str]) -> dict[str, tuple[Modality, NDArray[np.float32]]]:
        found: dict[str, tuple[Modality, NDArray[np.float32]]] = {}
        for modality in (TEXT, IMAGE):
            # A photo goes before a caption of the same id.
            for id, vector in self._workspace.vectors(ids, modality).items():
                found[id] = (modality, vector)
        return found

    def _take_vectors(
        self,
        state: SearchState,
        stored: Mapping[str, tuple[Modality, NDArray[np.float32]]],
        encoded: Mapping[str, _Encoded],
    ) -> None:
        for term in state.request.terms:
            modality, vector = self._vector_of(term, stored, encoded)
            state.terms.append(
                EncodedTerm(vector=vector, weight=term.weight, modality=modality, name=_name(term))
            )
        state.outcome.kinds = tuple(term.modality for term in state.terms)
        state.outcome.modality = state.request.modality or self._default_target(state)

    def _vector_of(
        self,
        term: Term,
        stored: Mapping[str, tuple[Modality, NDArray[np.float32]]],
        encoded: Mapping[str, _Encoded],
    ) -> tuple[Modality, NDArray[np.float32]]:
        if term.id is not None:
            if term.id not in stored:
                raise RequestError(
                    f"There is no photo or caption with the id {term.id[:80]!r} in the index.", status=404
                )
            return stored[term.id]
        if term.vector is not None:
            # How the cosines of a bare vector spread is not known; it is taken for a sentence's.
            return term.kind or TEXT, unit_vector(term.vector, dimension=self._dimension())
        made = encoded[_key(term) or ""]
        if isinstance(made, str):
            raise QueryError(made)
        return TEXT if term.text is not None else IMAGE, made

    def _default_target(self, state: SearchState) -> Modality:
        kinds = {term.modality for term in state.terms if term.weight > 0}
        if state.request.similar:
            return IMAGE if IMAGE in kinds else TEXT
        # A photo finds captions; where there are none, photos like it.
        return TEXT if kinds == {IMAGE} and self._workspace.vector_count(TEXT) else IMAGE

    def _dimension(self) -> int | None:
        identity = self._workspace.identity()
        return None if identity is None else identity.dimension


def _name(term: Term) -> str:
    """How a message calls a term."""
    if term.text is not None:
        return repr(term.text[:60])
    if term.vector is not None:
        return "the vector"
    return "the photo" if term.id is None else f"id:{term.id[:60]}"


def _key(term: Term) -> str | None:
    """What a term's cached vector is found by; None where it needs no encoding."""
    if term.text is not None:
        return _text_key(term.text)
    if term.image is not None:
        return f"image:{hashlib.sha256(term.image).hexdigest()}"
    return None


def _text_key(text: str) -> str:
    return f"text:{text}"
