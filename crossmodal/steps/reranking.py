"""The step that looks at the candidates of a search again, slower and closer than their vectors do."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from crossmodal.deadlines import check_deadline
from crossmodal.documents import Document
from crossmodal.errors import DataError, DeadlinePassed, ObjectsUnavailable
from crossmodal.images.limits import MEGABYTE
from crossmodal.images.pool import shared_pool
from crossmodal.index.embedded.region_file import RegionFile
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT, Modality, Record
from crossmodal.rerankers import Item, RegionReranker, Reranker, load_reranker, public_name
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
        self._kept: RegionFile | None = None
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
        if query.photo is not None and isinstance(reranker, RegionReranker):
            if seeks == IMAGE:
                raise DataError(
                    f"The reranker {public_name(self._name)} compares a sentence with photos, or a photo "
                    "with captions."
                )
            with self._failing():
                query = Item(regions=reranker.regions(query.photo))
        matches: list[Match] = []
        for start in range(0, len(wanted), _BATCH):
            check_deadline()
            items = self._items(reranker, wanted[start : start + _BATCH], seeks)
            given = self._given(reranker, query, list(items.values())) if items else []
            matches += [Match(id, seeks, value) for id, value in zip(items, given, strict=True)]
        return matches

    def _given(self, reranker: Reranker, query: Item, candidates: list[Item]) -> list[float]:
        """What it gives a batch. Raises DataError where it fails, or gives something else than numbers."""
        with self._failing():
            given = [float(value) for value in reranker(query, candidates)]
        if len(given) != len(candidates) or not all(map(math.isfinite, given)):
            raise DataError(
                f"The reranker {public_name(self._name)} gave {given!r:.200} for {len(candidates)} "
                "candidates; it has to give each a finite number."
            )
        return given

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """For what a reranker computes, code of others: its failure costs the second stage and no more."""
        name = public_name(self._name)
        try:
            yield
        except (DataError, DeadlinePassed):
            raise
        except Exception as error:
            _logger.exception("The reranker %s failed.", name)
            raise DataError(f"The reranker {name} failed: {type(error).__name__}: {error}.") from error

    def _items(self, reranker: Reranker, ids: Sequence[str], seeks: Modality) -> dict[str, Item]:
        records = self._workspace.records(ids, seeks)
        known = [records[id] for id in ids if id in records]
        if seeks != IMAGE:
            return {record.id: Item(record.text or "") for record in known}
        if isinstance(reranker, RegionReranker):
            return {record.id: item for record in known if (item := self._regions(reranker, record))}
        photos = {record.id: self._photo(record.id)[0] for record in known}
        return {id: Item(photo=photo) for id, photo in photos.items() if photo is not None}

    def _regions(self, reranker: RegionReranker, record: Record) -> Item | None:
        """The photo by its regions, which are kept for the next search, also where this one is too late."""
        if self._kept is None:
            self._kept = RegionFile(self._workspace.path, reranker.identity)
        regions = None if record.digest is None else self._kept.get(record.id, record.digest)
        if regions is None:
            check_deadline()
            photo, whole = self._photo(record.id)
            if photo is None:
                return None
            with self._failing():
                regions = reranker.regions(photo)
            if whole and record.digest is not None:
                self._kept.put(record.id, record.digest, regions)
        return Item(regions=regions)

    def _photo(self, id: str) -> tuple[bytes | None, bool]:
        """The photo as a JPEG, or its thumbnail where its file is gone, or it is a moment of a video.

        And whether there will be no better one: decoding may fail once only.
        """
        whole = True
        try:
            if (found := self._workspace.content(id)) is not None:
                return self._jpeg(found[0]), True
        except DataError:
            whole = False
        small = self._workspace.thumbnail(id)
        return None if small is None else small[0], whole

    def _jpeg(self, file: bytes) -> bytes:
        return self._pool.picture(file, max_pixels=self._max_pixels, side=_SIDE)

    def _reranker(self) -> Reranker:
        with self._loading:
            if self._loaded is None:
                self._loaded = load_reranker(self._name, cache=self._cache)
            return self._loaded
