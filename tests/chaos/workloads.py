"""What is killed: each workload goes on for ever and prints a line before each step, and ``done`` after it.

Run as ``python -m tests.chaos.workloads KIND FOLDER SEED``.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from crossmodal.index.embedded.store import EmbeddedStore
from crossmodal.records import IMAGE, MODALITIES, Record
from tests.store_samples import VSE, caption, photo, vector_of

__all__ = ["DIMENSION", "captions_for", "photos_for", "vector_for"]

DIMENSION = 8

# So few that most batches change documents that are there.
_PHOTOS = 120

# Enough for codes.
_CODED = 3200


def photos_for(names: list[str], version: int, size: int) -> list[Record]:
    """The photos of a version, with content that follows from it."""
    return [photo(name, version=version, size=size) for name in dict.fromkeys(names)]


def captions_for(photos: list[Record]) -> list[Record]:
    """A caption a photo, with a word of its version."""
    return [
        caption(f"{each.id}-0", f"the dog of {each.id} in version v{each.tags['version']}") for each in photos
    ]


def vector_for(record: Record) -> np.ndarray:
    """The vector that belongs to a record's id and version."""
    version = (
        record.tags.get("version") if record.modality == IMAGE else (record.text or "v0").rpartition("v")[2]
    )
    return vector_of(record.id, int(version or 0), DIMENSION)


def _say(*words: object) -> None:
    print(*words, flush=True)


def _write(folder: Path, seed: int) -> None:
    """New and changed photos with captions, deletions, and the files of vectors."""
    from crossmodal.index.embedded.search_file import save_vectors

    chance = random.Random(seed)
    version = seed * 1_000_000
    with EmbeddedStore.open_writer(folder, identity=VSE) as store:
        _say("ready")
        while True:
            version += 1
            names = [f"photo{chance.randrange(_PHOTOS)}" for _ in range(chance.choice([1, 2, 8, 32]))]
            action = chance.random()
            if action < 0.15:
                _say("delete", *names)
                store.delete(names, captions=True)
            elif action < 0.25:
                _say("files")
                for modality in MODALITIES:
                    save_vectors(store.vector_source(modality))
            else:
                _say("put", version, *names)
                photos = photos_for(names, version, chance.choice([100, 5_000, 60_000]))
                records = [*photos, *captions_for(photos)]
                store.put(records, np.stack([vector_for(record) for record in records]))
            _say("done")


def _code(folder: Path, seed: int) -> None:
    """Captions, and after each batch the codes and files of their vectors."""
    from crossmodal.index.embedded.options import SearchOptions
    from crossmodal.index.embedded.vector_index import VectorIndex

    chance = random.Random(seed)
    with EmbeddedStore.open_writer(folder, identity=VSE) as store:
        index = VectorIndex(store.vector_source("text"), options=SearchOptions.of("scan"))
        _say("ready")
        version = seed * 1_000_000
        while True:
            version += 1
            names = [f"photo{number}" for number in range(_CODED) if chance.random() < 0.7]
            _say("put", version, *names)
            photos = photos_for(names, version, 10)
            captions = captions_for(photos)
            store.put(captions, np.stack([vector_for(record) for record in captions]))
            _say("done")
            _say("files")
            index.build()
            _say("done")


def _copy(folder: Path, seed: int) -> None:
    """Backups and compacted files of an index that changes between them."""
    from crossmodal.index.embedded.copies import back_up, compact

    chance = random.Random(seed)
    version = seed * 1_000_000
    _say("ready")
    while True:
        version += 1
        names = [f"photo{chance.randrange(_PHOTOS)}" for _ in range(16)]
        _say("put", version, *names)
        photos = photos_for(names, version, 5_000)
        records = [*photos, *captions_for(photos)]
        with EmbeddedStore.open_writer(folder, identity=VSE) as store:
            store.put(records, np.stack([vector_for(record) for record in records]))
        _say("done")
        target = folder.parent / f"{folder.name}-backup-{version}"
        _say("backup", target)
        back_up(folder, target)
        _say("done")
        _say("compact")
        compact(folder)
        _say("done")


def _convert(folder: Path, seed: int) -> None:
    """An index of format 3 becomes one of today's."""
    from crossmodal.index.embedded import conversion

    # Many commits, so that there is something to interrupt.
    conversion._BATCH_DOCUMENTS = 2
    _say("ready")
    _say("convert")
    conversion.convert(folder, lambda state: _say("progress", state.done))
    _say("done")


def _index(folder: Path, seed: int) -> None:
    """Photos and captions through the whole engine; says the id of each that was acknowledged."""
    from crossmodal.data_sets import open_data_set
    from crossmodal.engine.engine import Engine
    from crossmodal.settings import Settings

    data = Path(__file__).parents[2] / "data" / "toy-data"
    settings = Settings(workspace=folder, model="vse")
    with Engine(settings) as engine:
        _say("ready")
        for indexed in engine.index(open_data_set(str(data), data_root=data.parent), size=2):
            _say("have", indexed.modality, indexed.record.id)


WORKLOADS: Mapping[str, Callable[[Path, int], None]] = {
    "write": _write,
    "codes": _code,
    "copies": _copy,
    "conversion": _convert,
    "engine": _index,
}

if __name__ == "__main__":
    WORKLOADS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
