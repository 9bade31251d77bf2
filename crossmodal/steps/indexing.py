"""The steps that index and search.

In the index Flow the indexers say what each document brings to the index, each in its branch, and the last
step commits all of it in one transaction. In the query Flow they search and describe what was found.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossmodal import limits
from crossmodal.documents import Document
from crossmodal.errors import CrossmodalError, DataError, StoreError, StoreUnwritable
from crossmodal.index.backends import open_vector_index
from crossmodal.index.embedded.library import TRASH_DAYS
from crossmodal.index.embedded.options import SearchOptions
from crossmodal.index.embedded.region_file import forget_regions
from crossmodal.index.embedded.search_file import save_all_vectors
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.index.protocols import SeenText
from crossmodal.match import Match
from crossmodal.models import identify_model
from crossmodal.records import IMAGE, TEXT, Modality, json_size
from crossmodal.steps.encoding import unit_vector
from crossmodal.steps.joining import add_scores
from crossmodal.steps.step import Step, StepContext, fail_all, filter_of, pending, top_k_of
from crossmodal.videos.formats import is_video_type

if TYPE_CHECKING:
    from crossmodal.index.protocols import VectorIndex

__all__ = ["Committer", "ImageKeyValueIndexer", "ImageVectorIndexer", "TextIndexer"]

# Matches whose records are in memory at the same time.
_READ_AT_ONCE = 64


class _IndexStep(Step):
    """What works with the index in ``index_path``, which the model ``model`` built or is to build.

    ``writable``, as in the index Flow: nothing is opened here, as the last step writes. Raises ModelMismatch
    where another model built the index, StoreMissing where there is none.
    """

    _store: EmbeddedStore

    def __init__(
        self, context: StepContext, *, index_path: str, model: str, model_cache: str, writable: bool = False
    ) -> None:
        super().__init__(context)
        self._path = Path(index_path)
        self._identity = identify_model(model, cache=Path(model_cache))
        self._writable = writable
        self._reopening = threading.Lock()
        if not writable:
            self._open()

    def _open(self) -> None:
        self._store = EmbeddedStore.open_reader(self._path, identity=self._identity)

    def _reopen_if_superseded(self) -> None:
        """Goes over to the index that took the place of this one while it was being searched."""
        if not self._store.superseded:
            return
        with self._reopening:
            if self._store.superseded:
                before = self._opened()
                self._open()
                for each in before:
                    each.close()

    def _opened(self) -> list[EmbeddedStore | VectorIndex]:
        return [self._store]

    def _describe(self, docs: Sequence[Document], modality: Modality) -> None:
        """Adds to each match what the index knows of it; one that was deleted in this moment is left out.

        Tags are added until they are as much as an answer may have; the other matches say what is missing.
        """
        for doc in docs:
            if doc.matches is None:
                continue
            described: list[Match] = []
            left = limits.ANSWER.most
            for start in range(0, len(doc.matches), _READ_AT_ONCE):
                matches = doc.matches[start : start + _READ_AT_ONCE]
                records = self._store.get([match.id for match in matches], modality)
                for match, record in zip(matches, records, strict=True):
                    if record is None:
                        continue
                    match.describe(record)
                    described.append(match)
                    if match.tags:
                        size = json_size(match.tags)
                        left -= size
                        if left < 0 and len(described) > 1:
                            match.leave_out_tags(size)
            doc.matches = described

    def close(self) -> None:
        """Closes the index."""
        if not self._writable:
            for each in self._opened():
                each.close()


class _VectorIndexer(_IndexStep):
    """The vectors of one modality, or a shard of them.

    ``index`` and ``index_options`` as in SearchOptions, ``backend`` and ``backend_options`` as in
    ``open_vector_index``.
    """

    modality: ClassVar[Modality]
    _index: VectorIndex

    def __init__(
        self,
        context: StepContext,
        *,
        index: str = "auto",
        index_options: dict[str, Any] | None = None,
        backend: str = "embedded",
        backend_options: dict[str, dict[str, Any]] | None = None,
        **named: Any,
    ) -> None:
        self._options = SearchOptions.of(index, index_options)
        self._backend, self._backend_options = backend, backend_options
        super().__init__(context, **named)

    def _open(self) -> None:
        super()._open()
        try:
            source = self._store.vector_source(self.modality, self.context.shard, self.context.shards)
            self._index = open_vector_index(source, self._options, self._backend, self._backend_options)
        except BaseException:
            # The next search tries again.
            self._store.close()
            raise

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Brings embeddings to unit length; one that doesn't fit the model is an error of its document."""
        for doc, vector in zip(*self._usable(pending(docs)), strict=True):
            doc.embedding = vector

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Gives each document its best ``top_k``, ids, cosines and what they are ranked by.

        ``parameters`` hold ``top_k`` and ``filter``. A document with ``wanted`` gets the cosines of
        everything instead, from which the last step ranks. Raises StoreError where the index cannot be read.
        """
        todo = pending(docs)
        self._reopen_if_superseded()
        try:
            top_k, wanted = top_k_of(parameters), filter_of(parameters)
            ranking, queries = self._usable([doc for doc in todo if doc.wanted is not None])
            if ranking:
                add_scores(ranking, *self._index.cosines(queries), shard=self.context.shard)
            searching, queries = self._usable([doc for doc in todo if doc.wanted is None])
            corrected = _corrected(searching)
            found = self._index.search(queries, top_k, wanted, corrected=corrected) if searching else []
        except DataError as error:
            fail_all(todo, error)
            return
        for doc, best in zip(searching, found, strict=True):
            doc.matches = [
                Match(hit.id, self.modality, hit.cosine, corrected=hit.score if doc.corrected else None)
                for hit in best
            ]

    def status(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Adds to each document how searches are answered."""
        self._reopen_if_superseded()
        status = self._index.status()
        for doc in pending(docs):
            doc.shard_states = [{"modality": self.modality, "shard": self.context.shard, **status}]

    def _opened(self) -> list[EmbeddedStore | VectorIndex]:
        return [self._index, self._store]

    def _usable(self, docs: Sequence[Document]) -> tuple[list[Document], NDArray[np.float32]]:
        """The documents with an embedding that fits this index, and those: float32 (n, dimension).

        The others get an error of their own, so that their request goes on without them.
        """
        dimension = self._identity.dimension
        usable, vectors = list[Document](), list[NDArray[np.float32]]()
        for doc in docs:
            try:
                vectors.append(unit_vector(doc.embedding, dimension=dimension))
            except DataError as error:
                doc.error = str(error)
            else:
                usable.append(doc)
        return usable, np.stack(vectors) if vectors else np.empty((0, dimension), np.float32)


def _corrected(docs: Sequence[Document]) -> NDArray[np.bool_]:
    """Which of the queries are ranked by cosine minus hubness: bool (docs,)."""
    return np.array([bool(doc.corrected) for doc in docs], np.bool_)


class ImageVectorIndexer(_VectorIndexer):
    """The photos' vectors."""

    modality = IMAGE


class TextIndexer(_VectorIndexer):
    """The captions: their vectors and their texts in one."""

    modality = TEXT

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Finds the best captions, with their texts."""
        super().search(docs, parameters)
        self._describe(pending(docs), TEXT)


class ImageKeyValueIndexer(_IndexStep):
    """The photos by id: a thumbnail, and the original where it is to be kept, or lies in no file here."""

    spent = ("content", "thumbnail", "pixels", "frame")

    def __init__(self, context: StepContext, *, keep: str = "path", **named: Any) -> None:
        super().__init__(context, **named)
        self._keep_original = keep == "original"

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Puts what is to be stored of each photo into its record: the thumbnail that the loader made, and
        the original."""
        for doc in pending(docs):
            if doc.record is not None:
                kept = self._keep_original or doc.record.local is None
                # Of a video the content is a frame; its file is never copied.
                original = doc.content if kept and not is_video_type(doc.record.mime_type) else None
                doc.record = replace(doc.record, content=original, thumbnail=doc.thumbnail)

    def update(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Puts the original into the record of a photo that comes with it because it is not stored yet."""
        for doc in pending(docs):
            if self._keep_original and doc.record is not None and doc.content is not None:
                doc.record = replace(doc.record, content=doc.content)

    def search(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Adds to the matches what the index knows of its photos."""
        self._reopen_if_superseded()
        self._describe(pending(docs), IMAGE)


class Committer(Step):
    """The only writer of the index: commits what the branches brought of each document, all of it together.

    At the end the vectors are written to a derived file for each shard of the searches that were last made,
    or else for ``shards``. ``objects`` is where a new index puts originals and thumbnails, "" as it is.
    Raises ModelMismatch where another model built the index, StoreLocked where another process writes,
    StoreUnwritable, and SettingsError for ``objects`` that cannot be used.
    """

    writes = True
    spent = ("content", "thumbnail", "pixels", "frame", "record", "text", "embedding")

    def __init__(
        self,
        context: StepContext,
        *,
        index_path: str,
        model: str,
        model_cache: str,
        shards: str | int = 1,
        objects: str = "",
    ) -> None:
        super().__init__(context)
        identity = identify_model(model, cache=Path(model_cache))
        self._store = EmbeddedStore.open_writer(Path(index_path), identity=identity, objects=objects or None)
        # On a full disk the trash has to wait for a deletion.
        with suppress(StoreUnwritable):
            self._store.library.empty_trash(older_than_days=TRASH_DAYS)
        self._shards = int(shards)

    @property
    def superseded(self) -> bool:
        """Whether the index was deleted or replaced on disk."""
        return self._store.superseded

    def index(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Stores the documents in one transaction, and says of each what became of it once it is on disk."""
        todo = pending(docs)
        for doc in todo:
            if doc.record is None or doc.embedding is None:
                doc.error = "The document came to the last step without its record or its embedding."
        todo = pending(todo)
        if not todo:
            return
        records = [doc.record for doc in todo if doc.record is not None]
        vectors = [doc.embedding for doc in todo if doc.embedding is not None]
        try:
            outcomes = self._store.put(records, np.stack(vectors))
        except CrossmodalError as error:
            fail_all(todo, error, abort=isinstance(error, StoreError))
        else:
            for doc, outcome in zip(todo, outcomes, strict=True):
                doc.outcome = outcome

    def update(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Stores what is new of documents of which the index has the content, in one transaction.

        A document without a path in its file names a new root. With the parameter ``seen_texts`` the metadata
        of photos hold nothing but the ``text`` that was read in them.
        """
        todo = pending(docs)
        if parameters.get("seen_texts"):
            self._put_texts(todo)
            return
        for doc in todo:
            if (file := doc.record and doc.record.local) and not file.path:
                self._store.library.add_root(file.root)
        todo = [doc for doc in todo if not (doc.record and doc.record.local and not doc.record.local.path)]
        records = [doc.record for doc in todo if doc.record is not None]
        try:
            outcomes = self._store.update(records)
        except CrossmodalError as error:
            fail_all(todo, error, abort=isinstance(error, StoreError))
        else:
            for doc, outcome in zip(todo, outcomes, strict=True):
                doc.outcome = outcome

    def _put_texts(self, docs: Sequence[Document]) -> None:
        texts = [
            SeenText(doc.id, doc.record.digest, str(doc.record.metadata["text"]))
            for doc in docs
            if doc.record is not None and doc.record.digest is not None
        ]
        try:
            self._store.put_texts(texts)
        except CrossmodalError as error:
            fail_all(docs, error, abort=isinstance(error, StoreError))

    def forget(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Forgets the files of the documents' records; photos that lie nowhere else go to the trash.

        A document without a file names a photo that may lie in none any more, and as its ``photo_id`` the one
        that took its place, or a caption and the file that doesn't give it any more.
        """
        todo = pending(docs)
        withdrawn: dict[str, list[str]] = {}
        for doc in todo:
            if doc.record is not None and doc.record.origin is not None:
                withdrawn.setdefault(doc.record.origin, []).append(doc.id)
        files = [doc.record.local for doc in todo if doc.record is not None and doc.record.local is not None]
        try:
            if files:
                self._store.library.forget(files)
            photos = {
                doc.id: doc.record.photo_id
                for doc in todo
                if doc.record is not None and doc.record.local is None and doc.record.origin is None
            }
            if photos:
                self._store.library.forget_superseded(photos)
            for origin, captions in withdrawn.items():
                self._store.library.withdraw_captions(origin, captions)
        except CrossmodalError as error:
            fail_all(todo, error, abort=isinstance(error, StoreError))

    def delete(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Deletes photos and captions of these ids in one transaction, and says which of them there were.

        The parameter ``captions`` says whether captions that describe the photos go with them, ``modality``
        ("": both) of which modality they are.
        """
        todo = pending(docs)
        captions, modality = bool(parameters.get("captions")), parameters.get("modality") or None
        try:
            deleted = self._store.delete((doc.id for doc in todo), captions=captions, modality=modality)
        except CrossmodalError as error:
            fail_all(todo, error, abort=isinstance(error, StoreError))
            return
        gone = {id for _, id in deleted}
        for doc in todo:
            if doc.id in gone:
                doc.outcome = "deleted"

    def close(self) -> None:
        """Brings the derived files up to date, and closes the index."""
        try:
            if not self._store.superseded:
                save_all_vectors(self._store, self._shards)
                forget_regions(self._store.path, lambda ids: self._store.known_ids(ids, IMAGE))
        finally:
            self._store.close()
