"""A teacher's vectors, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossmodal.models.registry import identify_model, load_image_encoder, load_text_encoder
from crossmodal.training.content_store import ContentStore

__all__ = ["teacher_images", "teacher_texts"]

# Texts or photos that go through the teacher before their vectors are written.
_BATCH = 256

Vectors = npt.NDArray[np.float16]
Progress = Callable[[int, int], None]


def teacher_texts(
    name: str,
    texts: Sequence[str],
    *,
    folder: Path,
    models: Path | None,
    threads: int | None,
    progress: Progress = lambda _done, _total: None,
) -> Vectors:
    """The vectors float16 (len(texts), dimension) of the model ``name``, those known from ``folder``.

    ``models`` is the registry's cache. ``progress`` gets texts done and to be done. Raises ModelError where
    the teacher cannot be loaded.
    """
    identity = identify_model(name, cache=models)
    store = ContentStore(
        folder / "teachers" / f"texts-{identity.weights}-{identity.dimension}",
        (identity.dimension,),
        np.float16,
    )
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in store}
    if missing:
        encoder = load_text_encoder(name, threads=threads, cache=models)
        # Texts of about one length go through together.
        waiting = sorted(missing, key=lambda digest: len(missing[digest]))
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            store.add(batch, encoder.encode([missing[digest] for digest in batch]))
            progress(start + len(batch), len(waiting))
    vectors: Vectors = store.rows()
    return vectors[store.numbers(digests)]


def teacher_images(
    name: str,
    squares: ContentStore,
    digests: Sequence[bytes],
    *,
    folder: Path,
    models: Path | None,
    threads: int | None,
    progress: Progress = lambda _done, _total: None,
) -> Vectors:
    """The vectors float16 (len(digests), dimension) of photos; ``squares`` are as the teacher wants them.

    Other arguments and errors as for ``teacher_texts``.
    """
    identity = identify_model(name, cache=models)
    kind = hashlib.sha256(identity.preprocessing.encode()).hexdigest()[:8]
    store = ContentStore(
        folder / "teachers" / f"photos-{identity.weights}-{kind}-{identity.dimension}",
        (identity.dimension,),
        np.float16,
    )
    missing = [digest for digest in dict.fromkeys(digests) if digest not in store]
    if missing:
        encoder = load_image_encoder(name, threads=threads, cache=models)
        rows = squares.rows()
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            store.add(batch, encoder.encode(rows[squares.numbers(batch)]))
            progress(start + len(batch), len(missing))
    vectors: Vectors = store.rows()
    return vectors[store.numbers(digests)]
