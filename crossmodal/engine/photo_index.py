"""An index of photos and captions from Python: the engine's face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import numpy as np

from crossmodal.engine.archive import PhotoArchive, write_archive
from crossmodal.engine.browsing import MOMENT_MINUTES, moment_of
from crossmodal.engine.duplicates import DuplicateGroup
from crossmodal.engine.engine import Engine
from crossmodal.engine.layout import Layout
from crossmodal.engine.library import LibraryRun
from crossmodal.engine.opening import check_values, chosen_model, resolved_for_reading
from crossmodal.engine.query_options import QueryOptions, request_of, terms_of
from crossmodal.engine.query_values import Results, photo_bytes, term_of
from crossmodal.engine.suggestions import Suggestion
from crossmodal.engine.summaries import AddSummary, ArchiveSummary, TextSummary
from crossmodal.errors import DataError
from crossmodal.filters import parse_filter, tag_name
from crossmodal.filters.sorting import parse_order
from crossmodal.images.limits import MEGABYTE
from crossmodal.images.pool import shared_pool
from crossmodal.images.previews import MAX_PREVIEW_SIDE
from crossmodal.index.embedded.opening import name_documents
from crossmodal.index.protocols import Facet, FacetOrder, FacetRequest, Per
from crossmodal.query.expression import Term
from crossmodal.query.heat_maps import HeatMap
from crossmodal.query.request import SearchRequest
from crossmodal.records import IMAGE, MODALITIES, TEXT, Failure, Look, Modality, Record
from crossmodal.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossmodal.data_sets import DataSet
    from crossmodal.engine.query_values import PhotoInput

__all__ = ["AddSummary", "ArchiveSummary", "PhotoIndex", "QueryOptions", "TextSummary"]

# Records that are read at once where all of them are listed.
_PAGE = 256


class PhotoIndex:
    """A sentence finds photos, a photo finds captions.

    ::

        index = PhotoIndex("workspace")
        index.add("holiday-photos")
        index.search("two people on a beach")

    ``workspace`` is the index's folder, made by the first ``add``. ``model`` is a model's name; without one
    it is the model that built the index, or the default one for a new index. ``data_root`` holds the named
    data sets, ``model_cache`` downloaded weights and compiled networks (None: ``~/.cache/crossmodal``).
    ``runtime``, ``index``, ``rerank``, ``keep``, ``documents``, ``objects``, ``shards``,
    ``trust_remote_code``, ``max_pixels``, ``max_photo_bytes``, ``max_video_bytes`` and ``decode_memory`` (in
    MB) are the command line's options. Models are loaded when first needed. Safe to use from several threads.
    Close it, or use it in a ``with`` statement.

    Raises ``ModelMismatch`` if another model built the index, ``SettingsError`` for a value that an option
    doesn't have, and ``TypeError`` for an id that is no text.
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
        rerank: str | None = None,
        keep: str = "path",
        documents: str | None = None,
        objects: str | None = None,
        shards: int | None = None,
        trust_remote_code: bool = False,
        max_pixels: int | None = None,
        max_photo_bytes: int | None = None,
        max_video_bytes: int | None = None,
        decode_memory: int | None = None,
    ) -> None:
        settings = Settings(
            workspace=Path(workspace),
            model=model,
            data_root=Path(data_root),
            runtime=runtime,
            index=index,
            rerank=rerank,
            keep=keep,
            documents=documents,
            objects=objects,
            shards=shards,
            trust_remote_code=trust_remote_code,
            decode_memory=decode_memory,
        )
        if model_cache is not None:
            settings = replace(settings, model_cache=Path(model_cache))
        limits: dict[str, Any] = {
            "max_pixels": max_pixels,
            "max_photo_bytes": max_photo_bytes,
            "max_video_bytes": max_video_bytes,
        }
        settings = replace(settings, **{name: value for name, value in limits.items() if value is not None})
        check_values(settings)
        if documents is not None:
            name_documents(settings.workspace, documents)
        self._settings = settings
        self._engine = Engine(settings)
        self._workspace = self._engine.workspace
        built_by = self._workspace.identity()
        self.model = chosen_model(settings, None if built_by is None else built_by.name)
        if built_by is not None:
            # Before anything is asked: another model may have built it.
            resolved_for_reading(settings, self._workspace)

    def close(self) -> None:
        """Let go of all files; a later call opens them again."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        counts = {name: self._workspace.vector_count(name) for name in MODALITIES}
        return (
            f"PhotoIndex({str(self._settings.workspace)!r}, model={self.model!r}: "
            f"{counts[IMAGE]:,} photos, {counts[TEXT]:,} captions)"
        )

    def __len__(self) -> int:
        """How many photos and captions there are."""
        return sum(self._workspace.vector_count(modality) for modality in MODALITIES)

    def __bool__(self) -> bool:
        """An index is not nothing because it is empty."""
        return True

    def __iter__(self) -> Iterator[Record]:
        """All photos, then all captions, each in order of id, without their bytes."""
        for modality in MODALITIES:
            after: str | None = None
            while page := self.page(modality, after=after, limit=_PAGE):
                yield from page
                after = page[-1].id

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self.get(id) is not None

    def get(self, id: str) -> Record | None:
        """The photo with that id, else the caption, without its bytes; None if there is neither."""
        return self._workspace.find(_checked_id(id))

    def page(
        self,
        modality: Modality = IMAGE,
        *,
        after: str | Record | None = None,
        limit: int = 24,
        filter: Mapping[str, Any] | None = None,
        sort: str | None = None,
    ) -> list[Record]:
        """The first ``limit`` photos or captions behind ``after``, in order of id, that match ``filter``.

        With ``sort``, a tag such as "taken" or "-taken" (the newest first), in that order. ``after`` is the
        last record of the page before, or its id. Raises ``FilterError``, and ``DataError`` for a ``sort``
        that names no tag, or an id where a record is needed.
        """
        order = None if sort is None else parse_order(sort)
        if isinstance(after, Record):
            after = after.id if order is None else order.place_of(after.all_tags, after.id)
        wanted = None if filter is None else parse_filter(filter)
        return self._workspace.list_records(modality, limit, after, filter=wanted, order=order)

    def facet(
        self,
        tag: str,
        *,
        per: Per | None = None,
        below: str | None = None,
        filter: Mapping[str, Any] | None = None,
        order: FacetOrder = "count",
        limit: int = 100,
        modality: Modality = IMAGE,
    ) -> Facet:
        """How many photos, or captions, of those that match ``filter``, have which value of ``tag``.

        ``per="month"`` (or year, or day) counts dates by their months, ``below="trips"`` the folders in that
        one ("": the outermost). The first ``limit`` values come, the most frequent ones first, or in the
        ``order`` "value" or "-value". Raises ``FilterError``.
        """
        request = FacetRequest(tag_name(tag) or "", per, below, order, limit)
        return self._workspace.facet(modality, request, None if filter is None else parse_filter(filter))

    def suggest(self, text: str, limit: int = 10) -> list[Suggestion]:
        """What somebody may mean who has typed the beginning of it: tags, dates, places, folders, files.

        Each has the ``filter`` that finds it. What begins with ``text`` comes before what has words that do,
        and what most photos have comes first. Case and accents don't count.
        """
        return self._engine.suggest(text, limit)

    def layout(self) -> Layout:
        """A map of all photos: a place on a plane for each, photos that are alike lie together.

        The first call computes it, which takes seconds to minutes; it is kept beside the index, and computed
        anew where more than a twentieth of the photos came or went.
        """
        return self._engine.layout(wait=True)

    def moment_of(self, id: str, *, minutes: float = MOMENT_MINUTES, limit: int = 200) -> list[Record]:
        """The photos that were taken within ``minutes`` of the photo ``id``, with itself, the earliest first.

        They are of the same camera, where that is known. Raises ``DataError`` where there is no such photo,
        or it isn't known when it was taken.
        """
        filter = moment_of(self._workspace, _checked_id(id), minutes)
        return self._workspace.list_records(IMAGE, limit, filter=filter, order=parse_order("taken"))

    def captions_of(self, photo_id: str) -> list[Record]:
        """The captions that describe a photo, in natural order."""
        return self._workspace.captions_of([_checked_id(photo_id)])[photo_id]

    def photo(self, id: str) -> bytes | None:
        """The untouched file of a photo; None if there is no such photo. Raises ``OriginalGone``."""
        found = self._workspace.content(_checked_id(id))
        return None if found is None else found[0]

    def thumbnail(self, id: str, *, side: int | None = None) -> bytes | None:
        """The small JPEG of a photo; None if there is no such photo.

        With ``side`` a WebP made of the photo's file, its shorter side that many pixels, or fewer where the
        photo has fewer or is a strip: the longer side has at most six times as many. Raises ``OriginalGone``
        where the file is gone, ``ImageError`` where it cannot be read, ``DataError`` for a moment of a video.
        """
        if side is None:
            found = self._workspace.thumbnail(_checked_id(id))
            return None if found is None else found[0]
        if not 1 <= side <= MAX_PREVIEW_SIDE:
            raise DataError(f"The side is {side!r}; a preview has 1 to {MAX_PREVIEW_SIDE:,} pixels.")
        if (file := self.photo(id)) is None:
            return None
        with shared_pool((self._settings.decode_memory or 0) * MEGABYTE) as pool:
            return pool.preview(file, side, max_pixels=self._settings.max_pixels)

    def look(self, id: str) -> Look | None:
        """The sides of a photo in pixels and its average colour; None if there is no such photo."""
        return self._workspace.looks([_checked_id(id)]).get(id)

    def write_archive(
        self,
        file: str | Path,
        ids: Iterable[str] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,
        locations: bool = True,
    ) -> ArchiveSummary:
        """Write a zip with the files of photos, those of ``ids`` or those that match ``filter``.

        They are stored as they are, below the path from their root. What cannot be had, because its file is
        gone, is missing in the summary, and named in the archive's ``missing.txt``. Without ``locations`` no
        file says where it was taken. ``file`` has to be a new one. Raises ``DataError`` where it is there
        already, or where not just one of ``ids`` and ``filter`` is given, and OSError.
        """
        if (ids is None) == (filter is None):
            raise DataError("An archive is of ids or of what matches a filter: give one of the two.")
        if filter is not None:
            ids = self._workspace.matching_ids(IMAGE, parse_filter(filter))
        archive = PhotoArchive(self._workspace, map(_checked_id, ids or ()), locations=locations)
        write_archive(archive, Path(file))
        return ArchiveSummary(archive.photos, archive.missing)

    def add(
        self, source: str | Path | Iterable[Record | Failure], *, delete_missing: bool = False
    ) -> AddSummary:
        """Index a data set (its name or path) or any records; what is there already is skipped or replaced.

        After a folder the index has what the folder has: photos whose files are gone go to the trash, unless
        they are more than ten and more than a fifth of them, for which ``delete_missing`` is needed. An input
        that can't be used is a failure in the summary, and the rest goes on. Everything counted is
        on disk. Raises ``DataSetError``, ``StoreLocked`` (another process is indexing), ``StoreUnwritable``.
        """
        from crossmodal.data_sets import DataSet

        if isinstance(source, str | Path):
            source = self._opened(source)
        summary = AddSummary()
        run = None
        if isinstance(source, DataSet):
            run = LibraryRun(self._engine, source, delete_missing)
        indexed = self._engine.index(_checked_records(source)) if run is None else run.index()
        # One opening of the Flow for all of it.
        with ExitStack() as writing:
            if run is not None:
                writing.enter_context(self._engine.writing())
            summary.count(indexed)
            if run is not None:
                settled = run.settle()
                summary.deleted = settled.photos + settled.captions
                summary.kept = " ".join(settled.kept) or None
                summary.warnings += run.data_set.warnings
        return summary

    def add_embeddings(self, path: str | Path) -> AddSummary:
        """Index photos and captions whose vectors are there: npy as clip-retrieval has it, or Parquet.

        No model is loaded; its identity is that of ``model``, of the files, or of the index, in this order.
        What is there already stays; a row that can't be used is a failure in the summary, and the rest goes
        on. Raises ``DataSetError`` where the files don't belong together or hold no vectors,
        ``ModelMismatch`` where they are another model's, ``MissingExtra`` without pyarrow, ``StoreLocked``,
        ``StoreUnwritable``.
        """
        from crossmodal.engine.vectors import index_vectors
        from crossmodal.vector_files import open_vector_files

        summary = AddSummary()
        files = open_vector_files(Path(path))
        summary.count(index_vectors(self._settings, self._workspace, files))
        return summary

    def embed(
        self, source: str | Path | Iterable[Record | Failure], output: str | Path, format: str = "npy"
    ) -> AddSummary:
        """Write the vectors of a data set, or of any records, into the folder ``output``, and index nothing.

        ``format`` is "npy", in folders as clip-retrieval has them, or "parquet". What is in the folder
        already is unchanged. Raises ``DataSetError``, ``MissingExtra`` without pyarrow, ``StoreUnwritable``.
        """
        from crossmodal.engine.vectors import embed_records, model_to_embed

        if isinstance(source, str | Path):
            source = self._opened(source)
        settings = model_to_embed(replace(self._settings, model=self.model, format=format))
        check_values(settings)
        summary = AddSummary()
        summary.count(embed_records(settings, _checked_records(source), Path(output), format))
        return summary

    def _opened(self, source: str | Path) -> DataSet:
        from crossmodal.data_sets import Limits, open_data_set

        settings = self._settings
        return open_data_set(str(source), data_root=settings.data_root, limits=Limits.of(settings))

    def read_texts(self, progress: Callable[[int, int], None] | None = None) -> TextSummary:
        """Read the text in photos: in all those of the index in which nobody has looked for any yet.

        Then hybrid searches find them by their words. It can be ended at any moment; the next call goes on.
        ``progress`` is called with the number of photos done and in all. A photo that cannot be read is a
        failure in the summary, and waits for the next call. Raises ``MissingExtra`` without the extra
        ``ocr``, ``StoreMissing`` if nothing is indexed, ``StoreLocked``, ``StoreUnwritable``.
        """
        total = self._workspace.text_counts().waiting
        summary = TextSummary()
        with closing(self._engine.read_texts()) as reading:
            for done, item in enumerate(reading, 1):
                if item.failure is not None:
                    summary.failures.append(item.failure)
                else:
                    summary.read += 1
                    summary.with_text += bool(item.text)
                if progress is not None:
                    progress(done, max(done, total))
        return summary

    def text_in_photo(self, id: str) -> str | None:
        """What was read in a photo: empty where it has no text, None where nobody has looked for any yet."""
        return self._workspace.text_of(_checked_id(id))

    def delete(self, ids: Iterable[str], *, captions: bool = True) -> list[str]:
        """Delete photos and captions by id; a photo takes the captions that describe it along.

        ``captions`` False leaves those. Returns the ids of what there was: those named, in their order, then
        the others. Raises ``StoreMissing`` if nothing is indexed, ``StoreLocked`` (another process is
        indexing), ``StoreUnwritable``.
        """
        return self._engine.delete(list(dict.fromkeys(map(_checked_id, ids))), captions=captions)

    @overload
    def search(
        self, query: str | Path | bytes | Any, top_k: int = 10, **options: Unpack[QueryOptions]
    ) -> Results: ...

    @overload
    def search(self, query: list[Any], top_k: int = 10, **options: Unpack[QueryOptions]) -> list[Results]: ...

    def search(self, query: Any, top_k: int = 10, **options: Unpack[QueryOptions]) -> Results | list[Results]:
        """The best ``top_k`` matches of a query, the best first; of a list of queries one result each.

        A query is an expression of sentences and ids (``"dog + 0.5*id:42 - snow"``), a photo (a ``Path``,
        bytes, a PIL image, or pixels uint8 (height, width, 3)), a vector float (dimension,), a ``Term``, or
        several ``Term``s as a tuple. ``options``:

        ``modality``
            what to look for: "image", "text" or "both"; by default the other one of what is given
        ``filter``
            a condition on tags, such as ``{"place": "harbour", "year": {"$gte": 2019}}``
        ``min_score``, ``offset``
            leave out matches with a lower score in [0, 1], and the first so many
        ``hybrid``
            look for the words of the captions, and of the text in photos, as well
        ``group_duplicates``
            show one of several near-duplicates, and of the photos of a burst
        ``sort``
            a tag to sort what was found by, such as "taken", or "-taken" for the newest first
        ``recognise``
            False takes years, places and names of files in a sentence as words and not as filters
        ``explain``
            say of each match what it was found by: ``match.explanation``
        ``rerank``
            a ``Rerank``: the reranker that the index was opened with looks at the best candidates again
        ``exclude``
            ids that are no results

        Raises ``DataError`` for a query that cannot be read, ``QueryError`` for one that cannot be answered,
        ``FilterError``, and ``StoreMissing`` if nothing is indexed.
        """
        if isinstance(query, list):
            return self._find_all([request_of(terms_of(one), top_k, options) for one in query])
        return self._find(terms_of(query), top_k, options)

    def search_text(self, query: str, top_k: int = 10, **options: Unpack[QueryOptions]) -> Results:
        """The ``top_k`` photos that fit the sentence ``query`` best; ``options`` as in ``search``.

        Signs and quotation marks are words here, unlike in an expression.
        """
        return self._find((term_of(str(query)),), top_k, options)

    def search_image(self, photo: PhotoInput, top_k: int = 10, **options: Unpack[QueryOptions]) -> Results:
        """The ``top_k`` captions that fit ``photo`` (a path, bytes, a PIL image, pixels) best.

        ``options`` as in ``search``: with ``modality="image"`` it finds photos that look like it.
        """
        return self._find((Term(image=photo_bytes(photo)),), top_k, options)

    def similar(self, to: str | PhotoInput, top_k: int = 10, **options: Unpack[QueryOptions]) -> Results:
        """The ``top_k`` photos most like a photo, or captions most like a caption.

        ``to`` is an id of the index, which is no result itself, or a photo (a ``Path``, bytes, a PIL image,
        pixels). Raises ``RequestError`` where nothing has that id.
        """
        if not isinstance(to, str):
            term = Term(image=photo_bytes(to))
        else:
            term = Term(id=to)
            options["exclude"] = frozenset({to, *options.get("exclude", ())})
        return self._find_all([request_of((term,), top_k, options, similar=True)])[0]

    def heat_map(self, id: str, text: str) -> HeatMap | None:
        """Which parts of the photo ``id`` fit the sentence ``text``; None if there is no such photo.

        It takes a second or less. Raises ``QueryError`` with a model for which that has not been measured to
        agree with its scores, ``OriginalGone`` where the photo's file is gone, ``DataError`` where it cannot
        be read, and for a moment of a video.
        """
        return self._engine.heat_map(_checked_id(id), text)

    def duplicates(self) -> list[DuplicateGroup]:
        """All photos that repeat another, in groups: saved again, made smaller, or with a margin cut off.

        Raises ``StoreMissing`` if nothing is indexed.
        """
        return self._engine.duplicates()

    @overload
    def encode_text(self, text: str) -> NDArray[np.float32]: ...

    @overload
    def encode_text(self, text: Sequence[str]) -> NDArray[np.float32]: ...

    def encode_text(self, text: str | Sequence[str]) -> NDArray[np.float32]:
        """The vector of a sentence, float32 (dimension,) of unit length; of several, (n, dimension)."""
        if isinstance(text, str):
            (vector,) = self._engine.encode(texts=[text])
            return np.asarray(vector)
        return self._engine.encode(texts=list(text))

    def encode_image(self, photo: PhotoInput | list[PhotoInput]) -> NDArray[np.float32]:
        """The vector of a photo, float32 (dimension,) of unit length; of a list of them, (n, dimension)."""
        if isinstance(photo, list):
            return self._engine.encode(photos=[photo_bytes(one) for one in photo])
        (vector,) = self._engine.encode(photos=[photo_bytes(photo)])
        return np.asarray(vector)

    def _find(self, terms: tuple[Term, ...], top_k: int, options: QueryOptions) -> Results:
        return self._find_all([request_of(terms, top_k, options)])[0]

    def _find_all(self, requests: Sequence[SearchRequest]) -> list[Results]:
        outcomes, _ = self._engine.search(requests)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return [Results.of(outcome, self.thumbnail) for outcome in outcomes]


def _checked_id(id: object) -> str:
    if not isinstance(id, str):
        raise TypeError(f"The id is {id!r:.80}; it must be a text.")
    return id


def _checked_records(items: Iterable[object]) -> Iterator[Record | Failure]:
    for item in items:
        if not isinstance(item, Record | Failure):
            raise TypeError(f"The item {item!r:.80} to add is a {type(item).__name__}; it must be a Record.")
        yield item
