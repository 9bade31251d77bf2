"""An index of photos and captions from Python, without any server.

It reads and writes the same stores as the Flows do, so an index made by either opens in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from crossmodal.data_sets.photos import read_photo_file
from crossmodal.errors import DataError
from crossmodal.filters import Filter, parse_filter
from crossmodal.models import DEFAULT_MODEL
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, TEXT, Failure, Modality, Outcome, Record
from crossmodal.search.matches import merge_matches, shard_of
from crossmodal.stores import Store
from crossmodal.workspace import IMAGE_CONTENTS, IMAGE_VECTORS, TEXTS, Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crossmodal.models import ImageEncoder, ImagePreprocessing, TextEncoder
    from crossmodal.search import VectorIndex

__all__ = ["AddSummary", "Match", "PhotoIndex"]

# Records that are decoded, encoded and committed together: one batch of an encoder.
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Match:
    """One result: a photo or a caption of the index with its cosine ``score`` in [-1, 1].

    ``uri`` is where the photo was when it was indexed; ``photo_id`` is, for a caption, the id of the photo
    that it describes.
    """

    id: str
    score: float
    modality: Modality
    text: str | None
    uri: str | None
    mime_type: str | None
    photo_id: str | None
    tags: Mapping[str, Any]


@dataclass(slots=True)
class AddSummary:
    """What became of the photos and captions of one ``PhotoIndex.add``."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Add to the three numbers."""
        for outcome in outcomes:
            setattr(self, outcome, getattr(self, outcome) + 1)


class PhotoIndex:
    """A sentence finds photos, a photo finds captions.

    ``workspace`` is the index's folder, made by the first ``add``. ``model`` is a model's name; without one
    it is the model that built the index, or the default one for a new index. ``data_root`` holds the named
    data sets, ``model_cache`` downloaded weights (None: the model library's own folder). ``runtime`` is that
    of ``load_image_encoder``. ``index`` is how vectors are searched, as ``--index`` says it. Models are
    loaded when first needed. Close it, or use it in a ``with`` statement.

    Raises ``ModelMismatch`` if another model built the index, ``SettingsError`` at the first search for an
    ``index`` that there is not.
    """

    def __init__(
        self,
        workspace: str | Path = "workspace",
        model: str | None = None,
        *,
        data_root: str | Path = "data",
        model_cache: str | Path | None = None,
        runtime: str = "auto",
        index: str = "auto",
    ) -> None:
        self._workspace = Workspace(Path(workspace))
        self._data_root = Path(data_root)
        self._tier = index
        self._cache = None if model_cache is None else Path(model_cache)
        self._runtime = runtime
        built_by = self._workspace.identity()
        self.model = model or (DEFAULT_MODEL if built_by is None else built_by.name)
        self._indexes: dict[str, list[tuple[Store, VectorIndex]]] = {}
        if built_by is not None:
            self._workspace.check_model(self._identity)

    def close(self) -> None:
        """Let go of all files; a later search opens them again."""
        for shards in self._indexes.values():
            _close(shards)
        self._indexes.clear()
        self._workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, source: str | Path | Iterable[Record | Failure]) -> AddSummary:
        """Index a data set (its name or path) or any records; what is there already is skipped or replaced.

        An input that can't be used is a failure in the summary, and the rest goes on. Everything counted is
        on disk. Raises ``DataSetError``, ``StoreLocked`` (another process is indexing), ``StoreUnwritable``.
        """
        if isinstance(source, str | Path):
            from crossmodal.data_sets import open_data_set

            source = open_data_set(str(source), data_root=self._data_root)
        summary = AddSummary()
        with ExitStack() as stack:
            writers = _Writers(stack, self._workspace, self._identity)
            for batch in _batches(source, summary.failures):
                known = self._workspace.unchanged(batch, originals=True)
                summary.unchanged += sum(record.id in known for record in batch)
                todo = [record for record in batch if record.id not in known]
                photos = [record for record in todo if record.modality == IMAGE]
                captions = [record for record in todo if record.modality != IMAGE]
                summary.count(self._add_photos(photos, writers, summary.failures))
                summary.count(self._add_captions(captions, writers, summary.failures))
            writers.save_vectors()
        return summary

    def delete(self, ids: Iterable[str], *, captions: bool = True) -> list[str]:
        """Delete photos and captions by id; a photo takes the captions that describe it along.

        ``captions`` False leaves those. Returns the ids of what there was: photos, then captions. Raises
        ``StoreMissing`` if nothing is indexed, ``StoreLocked`` (another process is indexing),
        ``StoreUnwritable``.
        """
        self._workspace.require()
        wanted = list(dict.fromkeys(ids))
        with ExitStack() as stack:
            writers = _Writers(stack, self._workspace, self._identity)
            described = self._workspace.captions_of(wanted) if captions else {}
            photos = dict.fromkeys(
                [*writers.delete(IMAGE_VECTORS, wanted), *writers.delete(IMAGE_CONTENTS, wanted)]
            )
            taken = [caption.id for photo_id in photos for caption in described.get(photo_id, ())]
            return [*photos, *writers.delete(TEXTS, dict.fromkeys([*wanted, *taken]))]

    def search_text(
        self, query: str, top_k: int = 10, *, filter: Mapping[str, Any] | None = None
    ) -> list[Match]:
        """The ``top_k`` photos that fit the sentence ``query`` best, the best first.

        ``filter`` is a condition on their tags, ``{"place": "harbour", "year": {"$gte": 2019}}`` (see
        ``crossmodal.filters``): the best of those that match come. Raises ``DataError`` for an empty query,
        ``FilterError``, and ``StoreMissing`` if nothing is indexed.
        """
        wanted = None if filter is None else parse_filter(filter)
        self._workspace.require()
        if not query.strip():
            raise DataError("The query is empty; write at least one word.")
        return self._search(self._text_encoder.encode([query]), IMAGE, top_k, wanted)

    def search_image(
        self, photo: str | Path | bytes, top_k: int = 10, *, filter: Mapping[str, Any] | None = None
    ) -> list[Match]:
        """The ``top_k`` captions that fit ``photo`` (a file, or its bytes) best, the best first.

        ``filter`` is a condition on the captions' tags, as in ``search_text``. Raises ``DataError`` for a
        file that is missing or not a photo, ``FilterError``, and ``StoreMissing`` if nothing is indexed.
        """
        wanted = None if filter is None else parse_filter(filter)
        self._workspace.require()
        blob = photo if isinstance(photo, bytes) else read_photo_file(Path(photo))
        return self._search(self._encode_photos([self._square(blob)]), TEXT, top_k, wanted)

    @cached_property
    def _identity(self) -> ModelIdentity:
        from crossmodal.models import identify_model

        return identify_model(self.model, cache=self._cache)

    @cached_property
    def _preprocessing(self) -> ImagePreprocessing:
        from crossmodal.models import load_preprocessing

        return load_preprocessing(self.model, cache=self._cache)

    @cached_property
    def _image_encoder(self) -> ImageEncoder:
        from crossmodal.models import load_image_encoder

        return load_image_encoder(self.model, cache=self._cache, runtime=self._runtime)

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        from crossmodal.models import load_text_encoder

        return load_text_encoder(self.model, cache=self._cache, runtime=self._runtime)

    def _square(self, blob: bytes) -> NDArray[np.uint8]:
        return self._preprocessing.square(blob)

    def _encode_photos(self, squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import numpy as np

        return self._image_encoder.encode(np.stack(squares))

    def _add_photos(
        self, records: Sequence[Record], writers: _Writers, failures: list[Failure]
    ) -> Iterator[Outcome]:
        from crossmodal.images import make_thumbnail

        usable: list[Record] = []
        squares = []
        for record in records:
            try:
                square = self._square(record.content or b"")
                usable.append(replace(record, thumbnail=make_thumbnail(record.content or b"")))
                squares.append(square)
            except DataError as error:
                failures.append(Failure(record.uri or record.id, str(error)))
        if usable:
            vectors = self._encode_photos(squares)
            bare = [
                Record(
                    id=record.id,
                    modality=record.modality,
                    tags=record.tags,
                    content_hash=record.content_hash,
                )
                for record in usable
            ]
            searched = writers.put(IMAGE_VECTORS, bare, vectors)
            shown = writers.put(IMAGE_CONTENTS, usable, None)
            # After a crash between the two commits one store had the photo already.
            yield from (
                second if first == "unchanged" else first
                for first, second in zip(searched, shown, strict=True)
            )

    def _add_captions(
        self, records: Sequence[Record], writers: _Writers, failures: list[Failure]
    ) -> Iterator[Outcome]:
        usable = []
        for record in records:
            if (record.text or "").strip():
                usable.append(record)
            else:
                failures.append(Failure(record.uri or record.id, "The caption is empty."))
        if usable:
            vectors = self._text_encoder.encode([record.text or "" for record in usable])
            yield from writers.put(TEXTS, usable, vectors)

    def _index(self, name: str) -> list[tuple[Store, VectorIndex]]:
        """The shards of the store ``name`` with their indexes, opened anew if they were deleted meanwhile."""
        from crossmodal.search import SearchOptions, VectorIndex

        shards = self._indexes.get(name, [])
        if not shards or any(store.superseded for store, _ in shards):
            _close(self._indexes.pop(name, []))
            shards = []
            options = SearchOptions.of(self._tier)
            count = self._workspace.shards(name) or 0
            try:
                for shard in range(count):
                    path = self._workspace.store_path(name, shard, count)
                    store = Store.open_reader(path, identity=self._identity)
                    try:
                        shards.append((store, VectorIndex(store, folder=path, options=options)))
                    except BaseException:
                        store.close()
                        raise
            except BaseException:
                # Else the next search would take those that could be opened for all there are.
                _close(shards)
                raise
            self._indexes[name] = shards
        return shards

    def _search(
        self, vector: NDArray[np.float32], target: Modality, top_k: int, wanted: Filter | None
    ) -> list[Match]:
        indexes = self._index(IMAGE_VECTORS if target == IMAGE else TEXTS)
        found = merge_matches((index.search(vector, top_k, wanted)[0] for _, index in indexes), top_k)
        records = self._workspace.records((id for id, _ in found), target)
        matches = []
        for id, score in found:
            record = records.get(id)
            # None: a crash between two commits left the vector alone; the next add completes it.
            if record is not None:
                matches.append(
                    Match(
                        id=id,
                        score=score,
                        modality=record.modality,
                        text=record.text,
                        uri=record.uri,
                        mime_type=record.mime_type,
                        photo_id=record.photo_id,
                        tags=record.tags,
                    )
                )
        return matches


class _Writers:
    """The stores of a workspace, open for writing until ``stack`` ends; a new one gets one shard."""

    def __init__(self, stack: ExitStack, workspace: Workspace, identity: ModelIdentity) -> None:
        self._shards: dict[str, list[Store]] = {}
        for name in (IMAGE_VECTORS, IMAGE_CONTENTS, TEXTS):
            count = workspace.shards(name) or 1
            self._shards[name] = [
                stack.enter_context(
                    Store.open_writer(workspace.store_path(name, shard, count), identity=identity)
                )
                for shard in range(count)
            ]

    def put(self, name: str, records: Sequence[Record], vectors: NDArray[np.float32] | None) -> list[Outcome]:
        """Each shard's own part in one transaction; the outcomes are in the order of ``records``."""
        stores = self._shards[name]
        outcomes: list[Outcome] = ["unchanged"] * len(records)
        for shard, store in enumerate(stores):
            mine = [
                position
                for position, record in enumerate(records)
                if shard_of(record.id, len(stores)) == shard
            ]
            if mine:
                part = None if vectors is None else vectors[mine]
                for position, outcome in zip(
                    mine, store.put([records[position] for position in mine], part), strict=True
                ):
                    outcomes[position] = outcome
        return outcomes

    def save_vectors(self) -> None:
        """Write the derived files of the vectors, where they have fallen behind."""
        from crossmodal.search import save_vectors

        for name in (IMAGE_VECTORS, TEXTS):
            for store in self._shards[name]:
                save_vectors(store, store.path)

    def delete(self, name: str, ids: Iterable[str]) -> list[str]:
        """Each shard's own part in one transaction; the ids of what there was, in the order of ``ids``."""
        stores = self._shards[name]
        wanted = list(ids)
        removed: set[str] = set()
        for shard, store in enumerate(stores):
            if mine := [id for id in wanted if shard_of(id, len(stores)) == shard]:
                removed.update(store.delete(mine))
        return [id for id in wanted if id in removed]


def _close(shards: Iterable[tuple[Store, VectorIndex]]) -> None:
    for store, index in shards:
        index.close()
        store.close()


def _batches(source: Iterable[Record | Failure], failures: list[Failure]) -> Iterator[list[Record]]:
    """Up to 32 records at a time, each with its content hash; failures go to ``failures``."""

    def records() -> Iterator[Record]:
        for item in source:
            if isinstance(item, Failure):
                failures.append(item)
            else:
                yield item if item.content_hash else item.hashed()

    stream = records()
    while batch := list(islice(stream, _BATCH)):
        yield batch
