"""Vectors in files and the engine: photos and captions encoded into them, and an index made of them."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from crossmodal.documents import Document
from crossmodal.engine.indexing import Indexed
from crossmodal.engine.opening import chosen_model
from crossmodal.errors import DataError, DataSetError, ModelMismatch
from crossmodal.flow.pipeline import batched_by_modality, run_batches
from crossmodal.flow.runner import LocalFlow
from crossmodal.flow.topology import Topology, flow_file, read_topology
from crossmodal.index.embedded.search_file import save_all_vectors
from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.models import identify_model, require_trust
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import IMAGE, Failure, Record
from crossmodal.settings import Settings
from crossmodal.steps.encoding import unit_vector
from crossmodal.vector_files import Embedded, VectorFiles, VectorWriter, embedded
from crossmodal.workspace import Workspace

__all__ = ["embed_records", "encoding_steps", "index_vectors", "model_to_embed"]

# Documents of one transaction.
_STORED_AT_ONCE = 256


def model_to_embed(settings: Settings) -> Settings:
    """The settings with the model that ``encode_records`` takes: the one asked for, or the default.

    Raises ModelError where its code would have to run and isn't trusted.
    """
    model = chosen_model(settings)
    require_trust(model, trust_remote_code=settings.trust_remote_code, cache=settings.model_cache)
    return replace(settings, model=model, dim=None, centering=None, views=None)


def embed_records(
    settings: Settings, items: Iterable[Record | Failure], folder: Path, format: str
) -> Generator[Indexed | Failure, None, None]:
    """Writes the vectors of photos and captions into ``folder``, and yields what became of each.

    The vectors are those that the index Flow makes, float32 of length 1; no index is read or written. What
    the folder has of an earlier run is unchanged. ``settings`` are those of ``model_to_embed``, ``format`` is
    one of ``settings.FORMATS``. All of it is on disk when the generator ends or is closed. Raises what
    ``items`` and ``VectorWriter`` raise.
    """
    identity = identify_model(str(settings.model), cache=settings.model_cache)
    with closing(VectorWriter(folder, format, identity)) as writer:
        aside: SimpleQueue[Indexed | Failure] = SimpleQueue()
        with LocalFlow(encoding_steps(settings)) as flow:
            new = _unknown(items, writer, aside)
            docs = (
                [Document.of_record(record) for record in batch]
                for batch in batched_by_modality(new, settings.request_size)
            )
            for answered in run_batches(flow, "index", docs):
                yield from _taken(aside)
                for doc in answered:
                    yield _written(doc, writer)
            yield from _taken(aside)


def index_vectors(
    settings: Settings, workspace: Workspace, files: VectorFiles
) -> Generator[Indexed | Failure, None, None]:
    """Brings photos and captions with their vectors into the index, and yields what became of each.

    No model is loaded, only its identity is compared: the one that ``settings`` name, else the one that the
    files name, else the one of the index. What the index has already stays, tags that people gave too, and of
    rows of one id the first one counts. A row with the id of a photo of other content is a failure. Raises
    DataSetError where nothing names the model, ModelMismatch where two do or a vector has another length than
    the model's, StoreLocked, StoreUnwritable.
    """
    identity = _identity(settings, workspace, files)
    workspace.require_writable()
    opened = EmbeddedStore.open_writer(settings.workspace, identity=identity, objects=settings.objects)
    with closing(opened) as store:
        # The files may name the model without its banks.
        store.take_banks_of(identity)
        seen: set[int] = set()
        waiting: list[Embedded] = []
        for item in files:
            if isinstance(item, Failure):
                yield item
                continue
            key = hash((item.record.modality, item.record.id))
            if key in seen:
                continue
            seen.add(key)
            try:
                waiting.append(_checked(item, identity))
            except DataError as error:
                yield Indexed(item.record, error=str(error))
            if len(waiting) == _STORED_AT_ONCE:
                yield from _stored(store, waiting)
                waiting = []
        yield from _stored(store, waiting)
        save_all_vectors(store, settings.shards or 1)


def encoding_steps(settings: Settings) -> Topology:
    """The index Flow up to its encoders: the steps that know of no index."""
    topology = read_topology(flow_file("index"), settings.flow_environment())
    steps = [step for step in topology.steps if "index_path" not in step.uses_with]
    needed = {name for step in steps for name in step.needs}
    ends = tuple(step.name for step in steps if step.name not in needed)
    # What joins the branches of the query Flow has nothing to do with an index either.
    joining = read_topology(flow_file("query"), settings.flow_environment()).last
    return Topology("embed", (*steps, replace(joining, needs=ends)))


def _unknown(
    items: Iterable[Record | Failure], known: Container[Record], aside: SimpleQueue[Indexed | Failure]
) -> Iterator[Record | None]:
    """The records that are not ``known``, and None now and then, so that the others have their answers."""
    for passed, item in enumerate(items, 1):
        if isinstance(item, Failure):
            aside.put(item)
        elif item in known:
            aside.put(Indexed(replace(item, content=None), "unchanged"))
        else:
            yield item
        if passed % _STORED_AT_ONCE == 0:
            yield None


def _taken(aside: SimpleQueue[Indexed | Failure]) -> Iterator[Indexed | Failure]:
    while not aside.empty():
        yield aside.get()


def _written(doc: Document, writer: VectorWriter) -> Indexed:
    assert doc.record is not None, "what went in with its record comes out with it"
    record = replace(doc.record, content=None)
    if doc.error is not None or doc.embedding is None:
        return Indexed(record, error=doc.error or "It could not be encoded.")
    writer.add(record, unit_vector(doc.embedding, dimension=None))
    return Indexed(record, "added", warning=doc.warning)


def _identity(settings: Settings, workspace: Workspace, files: VectorFiles) -> ModelIdentity:
    built_by, identity = workspace.identity(), files.identity
    if any(each is not None for each in (settings.model, settings.dim, settings.centering, settings.views)):
        by_default = [known.name for known in (identity, built_by) if known is not None]
        asked = identify_model(chosen_model(settings, *by_default[:1]), cache=settings.model_cache)
        if identity is not None and identity != asked:
            raise ModelMismatch(f"The vectors in {files.path} were made by {identity}, not by {asked}.")
        identity = asked
    identity = identity or built_by
    if identity is None:
        raise DataSetError(
            f"{files.path} doesn't say which model made its vectors. Name it with -m, so that sentences are "
            "encoded by the same one: crossmodal models lists those that are known."
        )
    if identity.dimension != files.dimension:
        raise ModelMismatch(
            f"The vectors in {files.path} have {files.dimension} dimensions, but {identity.name} makes "
            f"{identity.dimension}. Name the model that made them with -m."
        )
    return identity


def _checked(item: Embedded, identity: ModelIdentity) -> Embedded:
    if (refusal := item.record.beyond_limits()) is not None:
        raise DataError(refusal)
    if item.vector is None:
        return item
    return replace(item, vector=unit_vector(item.vector, dimension=identity.dimension))


def _stored(store: EmbeddedStore, items: Sequence[Embedded]) -> Iterator[Indexed]:
    stored: list[Embedded] = []
    ids = [item.record.id for item in items if item.record.modality == IMAGE]
    known = {record.id: record for record in store.get(ids, IMAGE) if record is not None}
    for item in items:
        there = known.get(item.record.id) if item.record.modality == IMAGE else None
        if there is not None and there.digest is not None and there.digest != item.record.digest:
            error = (
                f"the index has another photo with the id {item.record.id}; give the row another id, or the "
                "column sha256 if it is the same photo"
            )
            yield Indexed(item.record, error=error)
        elif there is not None and there.tags and not item.record.tags:
            stored.append(embedded(replace(item.record, tags=there.tags), item.vector))
        else:
            stored.append(item)
    for with_vector in (True, False):
        part = [item for item in stored if (item.vector is not None) == with_vector]
        if part:
            records = [item.record for item in part]
            vectors = (
                np.stack([item.vector for item in part if item.vector is not None]) if with_vector else None
            )
            for record, outcome in zip(records, store.put(records, vectors), strict=True):
                yield Indexed(record, outcome)
