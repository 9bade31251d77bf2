"""An index goes over to another model: everything that has a vector gets one of that model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from crossmodal.documents import Document
from crossmodal.engine.opening import chosen_model
from crossmodal.engine.vectors import encoding_steps
from crossmodal.errors import DataError, ObjectsUnavailable, StoreError
from crossmodal.flow.pipeline import batched_by_modality, run_batches
from crossmodal.flow.runner import LocalFlow
from crossmodal.index.embedded.new_vectors import PLACES, NewVectors, Place, Source, put_in_place
from crossmodal.models import identify_model, require_trust
from crossmodal.models.identity import ModelIdentity
from crossmodal.models.registry import native_identity
from crossmodal.records import IMAGE, TEXT, Record
from crossmodal.settings import Settings
from crossmodal.steps.encoding import unit_vector
from crossmodal.workspace import Workspace

__all__ = ["Reencoding", "reencode"]


@dataclass(slots=True)
class Reencoding:
    """How far it is with the vectors of ``model``: documents ``done`` of ``total``, the trash included.

    In the end ``originals`` and ``thumbnails`` say of how many photos of the index which of them was encoded,
    ``captions`` and ``trashed`` how many there were, and ``failures`` what has no vector now, a sentence
    each.
    """

    model: str
    total: int = 0
    done: int = 0
    originals: int = 0
    thumbnails: int = 0
    captions: int = 0
    trashed: int = 0
    failures: list[str] = field(default_factory=list)


def reencode(settings: Settings, progress: Callable[[Reencoding], None]) -> Reencoding | None:
    """Encodes all documents of the index in the workspace again; None where its model is the right one.

    That is the one that ``settings`` name, else, of a model of this project, what its name means today. Tags,
    captions, ids and files stay; searches find what they did until all is done, and who is stopped goes on
    with what is left. A photo is encoded from its stored original or its file, else from its thumbnail, as
    moments of videos are. ``progress`` is called after each batch. Raises StoreMissing, StoreLocked,
    StoreUnwritable, ObjectsUnavailable, ModelError, and StoreError where a model is named that has nothing to
    encode a photo from.
    """
    with Workspace(settings.workspace) as workspace:
        built_by = workspace.require().identity
        target = _target(settings, built_by)
        if target is None or target == built_by:
            return None
        state = Reencoding(target.name)
        workspace.require_writable()
        with NewVectors(settings.workspace, target) as vectors:
            # Vectors of weights that this program doesn't have any more are of no use to anybody.
            if _is_asked(settings) and (lost := vectors.without_source()):
                raise StoreError(
                    f"Photos in {settings.workspace} of which there is neither a file nor a thumbnail, as of "
                    f"those that came with vectors alone: {lost:,}. {target.name} cannot encode them; index "
                    "them from their files or delete them first, with the model of their vectors."
                )
            _encode(settings, target, workspace, vectors, state, progress)
            failed = {place: set(vectors.rows(place)) for place in PLACES}
            sources = vectors.made_of("documents")
            state.trashed = sum(vectors.made_of("trashed").values())
    state.originals, state.thumbnails = sources.get("original", 0), sources.get("thumbnail", 0)
    state.captions = sources.get("text", 0)
    put_in_place(settings.workspace, target, failed)
    return state


def _target(settings: Settings, built_by: ModelIdentity | None) -> ModelIdentity | None:
    if not _is_asked(settings):
        return None if built_by is None else native_identity(built_by.name)
    name = chosen_model(settings, None if built_by is None else built_by.name)
    require_trust(name, trust_remote_code=settings.trust_remote_code, cache=settings.model_cache)
    return identify_model(name, cache=settings.model_cache)


def _is_asked(settings: Settings) -> bool:
    return any(
        each is not None for each in (settings.model, settings.dim, settings.centering, settings.views)
    )


def _encode(
    settings: Settings,
    target: ModelIdentity,
    workspace: Workspace,
    vectors: NewVectors,
    state: Reencoding,
    progress: Callable[[Reencoding], None],
) -> None:
    settings = replace(settings, model=target.name, dim=None, centering=None, views=None)
    errors: dict[tuple[Place, int], str] = {}
    state.done = sum(sum(vectors.made_of(place).values()) for place in PLACES)
    state.total = state.done + sum(len(vectors.rows(place)) for place in PLACES)
    with LocalFlow(encoding_steps(settings)) as flow:
        for place in PLACES:
            # What cannot be made of the original is made of the thumbnail.
            for source in ("original", "thumbnail"):
                records = _records(workspace, vectors, place, source)
                batches = (
                    [Document.of_record(record) for record in batch]
                    for batch in batched_by_modality(records, settings.request_size)
                )
                for docs in run_batches(flow, "index", batches):
                    made: dict[int, bytes] = {}
                    for doc in docs:
                        try:
                            made[int(doc.id)] = _vector(doc, target.dimension)
                        except DataError as error:
                            errors[place, int(doc.id)] = str(error)
                    of: Source = "text" if docs[0].modality == TEXT else source
                    vectors.add(place, made, of)
                    state.done += len(made)
                    progress(state)
            state.failures += [
                f"the {'photo' if each.record.modality == IMAGE else 'caption'} {each.record.id!r}: "
                f"{errors.get((place, each.row), 'its file is gone, and it has no thumbnail')}"
                for each in vectors.waiting(place)
            ]


def _records(workspace: Workspace, vectors: NewVectors, place: Place, source: Source) -> Iterator[Record]:
    """What waits for its vector and has that ``source``, a row as its id; captions at "original"."""
    for each in vectors.waiting(place):
        record = each.record
        if record.modality == TEXT:
            if source == "original":
                yield Record(str(each.row), TEXT, text=record.text)
            continue
        content = record.thumbnail if source == "thumbnail" else record.content
        if place == "documents" and source == "original":
            content = _original(workspace, record.id)
        if content is not None:
            yield Record(str(each.row), IMAGE, content=content)


def _original(workspace: Workspace, photo: str) -> bytes | None:
    """The photo as it was indexed; None where it is gone or damaged, or is a moment of a video."""
    try:
        found = workspace.content(photo)
    except ObjectsUnavailable:
        # It is there, and a thumbnail is no match for it.
        raise
    except (DataError, StoreError):
        return None
    return None if found is None else found[0]


def _vector(doc: Document, dimension: int) -> bytes:
    """The vector that was made of ``doc``; raises DataError where none was."""
    if doc.error is not None:
        raise DataError(doc.error)
    return unit_vector(doc.embedding, dimension=dimension).astype("<f4").tobytes()
