"""The step that looks at the candidates of a search again, slower and closer than their vectors do."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from crossmodal.deadlines import check_deadline
from crossmodal.documents import Document
from crossmodal.errors import DataError, ObjectsUnavailable
from crossmodal.images.limits import MEGABYTE
from crossmodal.images.pool import shared_pool
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT, Modality
from crossmodal.rerankers import Item, Reranker, load_reranker, public_name
from crossmodal.steps.step import Step, StepContext, pending
from crossmodal.workspace import Workspace

__all__ = ["RerankingStep"]

_logger = logging.getLogger(__name__)

# Candidates that are read and compared at once; between two batches it is looked whether somebody waits.
_BATCH = 8

# No reranker of which we know looks at more pixels.
_SIDE = 1024


class RerankingStep(Step):
    """Says at ``rerank`` how well the documents that a query wants fit it, by the reranker ``rerank``.

    ``wanted`` are ids of photos, or where the parameter ``seeks`` says so of captions; they become its
    ``matches``, in that order, each with what the reranker gave as its cosine. One that isn't in the index
    any more is left out. The reranker is loaded when the Flow is made ready, or first needed; without a name
    there is nothing to do.
    """

    spent = ("content",)

    def __init__(
        self,
        context: StepContext,
        *,
        rerank: str,
        index_path: str,
        model_cache: str,
        max_pixels: str,
        decode_memory: str = "0",
    ) -> None:
        super().__init__(context)
        self._name = rerank
        self._cache = Path(model_cache)
        self._max_pixels = int(max_pixels)
        self._workspace = Workspace(Path(index_path))
        self._loading = threading.Lock()
        self._loaded: Reranker | None = None
        held = ExitStack()
        if rerank:
            self._pool = held.enter_context(shared_pool(int(decode_memory) * MEGABYTE))
        # Also where nobody closes this step.
        self._let_go = weakref.finalize(self, held.close)

    def prepare(self) -> None:
        """Loads the reranker."""
        if self._name:
            self._reranker()

    def rerank(self, docs: list[Document], parameters: Mapping[str, Any]) -> None:
        """Compares each query with what it wants. Raises DeadlinePassed between two batches."""
        seeks: Modality = TEXT if parameters.get("seeks") == TEXT else IMAGE
        for doc in pending(docs):
            try:
                query = Item(doc.text, self._jpeg(doc.content) if doc.content is not None else None)
                doc.matches = self._compared(query, doc.wanted or (), seeks)
            except (DataError, ObjectsUnavailable) as error:
                doc.error = str(error)

    def close(self) -> None:
        """Lets go of the index, and of the processes that decode where no other step uses them."""
        self._let_go()
        self._workspace.close()

    def _compared(self, query: Item, wanted: Sequence[str], seeks: Modality) -> list[Match]:
        reranker = self._reranker()
        matches: list[Match] = []
        for start in range(0, len(wanted), _BATCH):
            check_deadline()
            items = self._items(wanted[start : start + _BATCH], seeks)
            given = self._given(reranker, query, list(items.values())) if items else []
            matches += [Match(id, seeks, value) for id, value in zip(items, given, strict=True)]
        return matches

    def _given(self, reranker: Reranker, query: Item, candidates: list[Item]) -> list[float]:
        """What it gives a batch. Raises DataError where it fails, or gives something else than numbers."""
        name = public_name(self._name)
        try:
            given = [float(value) for value in reranker(query, candidates)]
        except DataError:
            raise
        except Exception as error:
            # Code of others: it costs the second stage of a search, and nothing else.
            _logger.exception("The reranker %s failed.", name)
            raise DataError(f"The reranker {name} failed: {type(error).__name__}: {error}.") from error
        if len(given) != len(candidates) or not all(map(math.isfinite, given)):
            raise DataError(
                f"The reranker {name} gave {given!r:.200} for {len(candidates)} candidates; it has to give "
                "each a finite number."
            )
        return given

    def _items(self, ids: Sequence[str], seeks: Modality) -> dict[str, Item]:
        if seeks != IMAGE:
            records = self._workspace.records(ids, seeks)
            return {id: Item(records[id].text or "") for id in ids if id in records}
        photos = {id: self._photo(id) for id in ids}
        return {id: Item(photo=photo) for id, photo in photos.items() if photo is not None}

    def _photo(self, id: str) -> bytes | None:
        """The photo as a JPEG, or its thumbnail where its file is gone, or it is a moment of a video."""
        try:
            found = self._workspace.content(id)
            return None if found is None else self._jpeg(found[0])
        except DataError:
            small = self._workspace.thumbnail(id)
            return None if small is None else small[0]

    def _jpeg(self, file: bytes) -> bytes:
        return self._pool.picture(file, max_pixels=self._max_pixels, side=_SIDE)

    def _reranker(self) -> Reranker:
        with self._loading:
            if self._loaded is None:
                self._loaded = load_reranker(self._name, cache=self._cache)
            return self._loaded
