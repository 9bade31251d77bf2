"""Ranks through an engine: a gallery is indexed, then the ranks of each query's counterparts are searched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from crossmodal.documents import Document, other_modality
from crossmodal.engine.engine import Engine
from crossmodal.engine.reranking import asking, in_order
from crossmodal.errors import ModelError
from crossmodal.evaluation.retrieval import Retrieval, Subset
from crossmodal.flow.pipeline import MAX_REQUEST_BYTES, batched
from crossmodal.records import IMAGE, TEXT, Failure, Modality, Record, checked_modality
from crossmodal.steps.step import TOGETHER

__all__ = ["Gallery", "evaluation_batches", "index_gallery", "rank_queries"]

_DIRECTIONS: Mapping[Modality, str] = {TEXT: "text2image", IMAGE: "image2text"}


@dataclass(slots=True)
class Gallery:
    """What has been indexed of one fold: by the photo's id, the ids of the photo and of its captions."""

    photos: dict[str, list[str]] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)

    def searched_by(self, modality: Modality) -> dict[str, list[str]]:
        """What a query of ``modality`` searches: the other one."""
        return self.captions if modality == IMAGE else self.photos


def evaluation_batches(
    records: Iterable[Record | Failure],
    folds: Sequence[Subset],
    size: int,
    failures: list[Failure] | None = None,
) -> Iterator[tuple[int, list[Record]]]:
    """The records that the folds use, as batches of one fold and one modality: (fold, records).

    A batch is a request to the index Flow, a request to the query Flow and what encoders take at once in
    memory, because a vector depends in its last bits on what it is encoded with: the three then agree.
    A batch is in its fold's gallery as a whole, or not at all. Iterating over the same data again gives the
    same batches. ``failures`` collects what the data set could not read.
    """
    waiting: dict[tuple[int, Modality, bool], list[Record]] = {}
    fold_of = {id: number for number, fold in enumerate(folds) for id in fold.gallery | fold.queries}
    for record in records:
        if isinstance(record, Failure):
            if failures is not None:
                failures.append(record)
            continue
        if (number := fold_of.get(record.id)) is None:
            continue
        modality = checked_modality(record.modality, f"The record {record.id}")
        role = number, modality, record.id in folds[number].gallery
        held = waiting.setdefault(role, [])
        held.append(record)
        if len(held) == size or sum(one.size for one in held) > MAX_REQUEST_BYTES:
            del waiting[role]
            for batch in batched(held, size):
                yield number, batch
    for (number, *_), held in waiting.items():
        for batch in batched(held, size):
            yield number, batch


def index_gallery(
    engine: Engine,
    batches: Iterator[list[Record]],
    *,
    progress: Callable[[int, int], None],
) -> tuple[Gallery, list[Failure]]:
    """Indexes ``batches`` as they are; returns what the index acknowledged and what it could not use.

    ``progress`` is called with the numbers of documents that were indexed and that failed, after each
    request. Raises as ``Engine.index``.
    """
    gallery, failures = Gallery(), list[Failure]()
    hashed = ([record.hashed() for record in batch] for batch in batches)
    # However this ends, what is under way is finished, and the writer's lock let go.
    with closing(engine.index_batches(hashed)) as answered:
        for batch in answered:
            failed = 0
            for indexed in batch:
                record = indexed.record
                if indexed.error is not None:
                    failures.append(_failure(record, indexed.error))
                    failed += 1
                    continue
                side = gallery.photos if record.modality == IMAGE else gallery.captions
                side.setdefault(record.photo_id or record.id, []).append(record.id)
            progress(len(batch) - failed, failed)
    return gallery, failures


def rank_queries(
    engine: Engine,
    batches: Iterator[list[Record]],
    gallery: Gallery,
    queries: Collection[str],
    *,
    directions: Collection[str],
    progress: Callable[[int, int], None],
    rerank_depth: int | None = None,
) -> tuple[dict[str, Retrieval], list[Failure]]:
    """Asks every one of ``queries`` that has a counterpart in the gallery where that stands, by direction.

    Batches pass the query Flow whole, also where not each of their records is a query, so that they are
    encoded as they were for the index. Memory holds the ranks, and neither photos nor scores of more than a
    few batches. With ``rerank_depth`` the reranker of the query Flow orders so many of the best first.
    """
    found: dict[str, list[_Ranked]] = {name: [] for name in directions}
    failures: list[Failure] = []
    # What a reranker compares, of the queries that are under way.
    asked: dict[str, Record] = {}

    def documents() -> Iterator[list[Document]]:
        for batch in batches:
            wanted = {
                record.id: gallery.searched_by(record.modality).get(record.photo_id or record.id)
                for record in batch
                if record.id in queries
            }
            if any(wanted.values()):
                if rerank_depth is not None:
                    asked.update((record.id, record) for record in batch)
                yield [_query(record, wanted.get(record.id)) for record in batch]

    for docs in engine.query_batches("search", documents(), {"top_k": 1, TOGETHER: True}):
        failed = 0
        for doc in docs:
            record = _record(doc)
            if doc.error is not None:
                failures.append(_failure(record, doc.error))
                failed += 1
            elif doc.wanted:
                matches = doc.matches or []
                ranks = [match.rank for match in matches]
                if rerank_depth is not None:
                    ranks = _reranked(engine, doc, asked[doc.id], rerank_depth)
                found[_DIRECTIONS[record.modality]].append(
                    _Ranked(
                        record.id,
                        record.photo_id or record.id,
                        ranks,
                        [match.plain_rank or match.rank for match in matches],
                    )
                )
            asked.pop(doc.id, None)
        progress(len(docs) - failed, failed)
    corrected = bool(engine.workspace.banks_fingerprint)
    return {
        name: _retrieval(rows, sum(map(len, gallery.searched_by(modality).values())), corrected)
        for modality, name in _DIRECTIONS.items()
        if (rows := found.get(name)) is not None
    }, failures


def _reranked(engine: Engine, doc: Document, record: Record, depth: int) -> list[int]:
    """The ranks of what ``doc`` wants after the best ``depth`` were put in order. Raises ModelError."""
    query = Document.of_query("query", vector=doc.embedding, seeks=doc.seeks, corrected=doc.corrected)
    (best,) = engine.run_query("search", [query], {"top_k": depth})
    ids = [match.id for match in best.matches or ()]
    comparing = asking(doc.modality, text=record.text, content=record.content, wanted=ids)
    (answer,) = engine.run_query("rerank", [comparing], {"seeks": doc.seeks})
    if answer.error is not None:
        raise ModelError(f"The reranker failed on {record.uri or record.id}: {answer.error}")
    order = in_order(ids, {match.id: match.cosine for match in answer.matches or ()})
    places = {id: rank for rank, id in enumerate(order, 1)}
    return [places.get(match.id, match.rank) for match in doc.matches or ()]


class _Ranked(NamedTuple):
    """A query, its photo, and the ranks of its counterparts, minus hubness and by cosine alone."""

    id: str
    photo: str
    ranks: list[int]
    plain: list[int]


def _retrieval(rows: list[_Ranked], gallery: int, corrected: bool) -> Retrieval:
    rows.sort()
    ranks, plain = (
        tuple(np.array(sorted(getattr(row, name)), np.int64) for row in rows) for name in ("ranks", "plain")
    )
    return Retrieval(gallery, ranks, tuple(row.photo for row in rows), plain if corrected else None)


def _query(record: Record, wanted: list[str] | None) -> Document:
    return Document(
        record.id,
        record.modality,
        other_modality(record.modality),
        text=record.text,
        content=record.content,
        # Without the bytes: what comes back only needs its source and its photo.
        record=Record(record.id, record.modality, uri=record.uri, photo_id=record.photo_id),
        corrected=True,
        wanted=wanted or None,
    )


def _record(doc: Document) -> Record:
    assert doc.record is not None, "what went in with its record comes out with it"
    return doc.record


def _failure(record: Record, reason: str) -> Failure:
    return Failure(record.uri or record.id, reason)
