"""A teacher's vectors, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.models.registry import identify_model, load_image_encoder, load_text_encoder
from crossmodal.training.content_store import ContentStore
from crossmodal.training.resources import Resources

__all__ = ["teacher_images", "teacher_texts"]

# Texts or photos that go through the teacher before their vectors are written.
_BATCH = 256

Vectors = npt.NDArray[np.float16]


def teacher_texts(name: str, texts: Sequence[str], resources: Resources) -> Vectors:
    """The vectors float16 (len(texts), dimension) of the model ``name``.

    Raises ModelError where the teacher cannot be loaded.
    """
    identity = identify_model(name, cache=resources.models)
    store = _store(resources.folder, f"texts-{identity.weights}-{identity.dimension}", identity.dimension)
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in store}
    if missing:
        encoder = load_text_encoder(
            name,
            threads=resources.threads,
            cache=resources.models,
            trust_remote_code=resources.trust_remote_code,
        )
        # Texts of about one length go through together.
        waiting = sorted(missing, key=lambda digest: len(missing[digest]))
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            store.add(batch, encoder.encode([missing[digest] for digest in batch]))
            resources.progress("the teacher's captions", start + len(batch), len(waiting))
    vectors: Vectors = store.rows()
    return vectors[store.numbers(digests)]


def teacher_images(name: str, digests: Sequence[bytes], resources: Resources) -> Vectors:
    """Vectors float16 (len(digests), dimension) of photos; ``resources`` has the teacher's squares of them.

    Raises ModelError where the teacher cannot be loaded.
    """
    identity = identify_model(name, cache=resources.models)
    kind = hashlib.sha256(identity.preprocessing.encode()).hexdigest()[:8]
    store = _store(
        resources.folder, f"photos-{identity.weights}-{kind}-{identity.dimension}", identity.dimension
    )
    missing = [digest for digest in dict.fromkeys(digests) if digest not in store]
    if missing:
        encoder = load_image_encoder(
            name,
            threads=resources.threads,
            cache=resources.models,
            trust_remote_code=resources.trust_remote_code,
        )
        squares = resources.squares[encoder.preprocessing]
        rows = squares.rows()
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            store.add(batch, encoder.encode(rows[squares.numbers(batch)]))
            resources.progress("the teacher's photos", start + len(batch), len(missing))
    vectors: Vectors = store.rows()
    return vectors[store.numbers(digests)]


def _store(folder: Path, name: str, dimension: int) -> ContentStore:
    return ContentStore(folder / "teachers" / name, (dimension,), np.float16)
