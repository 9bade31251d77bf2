"""The banks of a model of our own, made of photos and captions that it was trained on.

``python -m crossmodal.training.banks clip-mini DATA`` writes those of a shipped model again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from crossmodal.data_sets import open_data_set
from crossmodal.models.hubness import BANK_SIZE, Banks
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.registry import find_native, load_image_encoder, load_text_encoder
from crossmodal.training.content_store import ContentStore
from crossmodal.training.pairs import Pairs, collect_pairs, input_store

__all__ = ["centroids", "write_banks"]

Floats = npt.NDArray[np.float32]

# What the banks are made of, chosen by chance: more changes little, and takes minutes.
_PHOTOS = 1500
_CAPTIONS = 3000

_SEED = 0
_ROUNDS = 8
_BATCH = 32


def write_banks(
    checkpoint: NativeCheckpoint,
    inputs: ContentStore,
    pairs: Pairs,
    *,
    data: str,
    threads: int | None = None,
    cache: Path | None = None,
) -> Banks | None:
    """Writes the banks beside the weights of ``checkpoint``; ``inputs`` holds the photos of ``pairs``.

    None, and no file, where there are fewer than ``BANK_SIZE`` photos or captions: banks of so few say more
    of these than of hubness.
    """
    if min(len(pairs.digests), len(pairs.captions)) < BANK_SIZE:
        return None
    rng = np.random.default_rng(_SEED)
    photos = _some(len(pairs.digests), _PHOTOS, rng)
    captions = [pairs.captions[number] for number in _some(len(pairs.captions), _CAPTIONS, rng)]
    images = load_image_encoder(checkpoint.name, threads=threads, cache=cache)
    texts = load_text_encoder(checkpoint.name, threads=threads, cache=cache)
    rows, numbers = inputs.rows(), inputs.numbers([pairs.digests[number] for number in photos])
    vectors = [images.encode(rows[numbers[at : at + _BATCH]]) for at in range(0, len(numbers), _BATCH)]
    sentences = [texts.encode(captions[at : at + _BATCH]) for at in range(0, len(captions), _BATCH)]
    banks = Banks.of(
        centroids(np.concatenate(vectors), BANK_SIZE),
        centroids(np.concatenate(sentences), BANK_SIZE),
        weights=checkpoint.identity.weights,
        data=f"{len(photos)} photos and {len(captions)} captions of {data}",
    )
    banks.save(checkpoint.folder)
    return banks


def centroids(vectors: Floats, count: int) -> Floats:
    """``count`` unit vectors (count, dimension) that stand for unit ``vectors`` (n, dimension), n >= count.

    Spherical k-means (Dhillon and Modha 2001) from vectors chosen by chance; deterministic.
    """
    chosen = np.random.default_rng(_SEED).choice(len(vectors), count, replace=False)
    found = vectors[chosen].astype(np.float64)
    for _ in range(_ROUNDS):
        nearest = np.argmax(vectors @ found.T, axis=1)
        sums = np.zeros_like(found)
        np.add.at(sums, nearest, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A cell that nothing is in stays where it is.
        found = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), found)
    return found.astype(np.float32)


def _some(count: int, most: int, rng: np.random.Generator) -> Sequence[int]:
    numbers: list[int] = np.sort(rng.choice(count, min(count, most), replace=False)).tolist()
    return numbers


def _main(model: str, data: str) -> None:
    checkpoint = find_native(model)
    if checkpoint is None:
        raise SystemExit(f"{model} is no model of this project.")
    with TemporaryDirectory() as folder:
        inputs = input_store(Path(folder), checkpoint.preprocessing)
        records = open_data_set(data, data_root=Path(), split="train")
        pairs = collect_pairs(records, {checkpoint.preprocessing: inputs})
        banks = write_banks(checkpoint, inputs, pairs, data=f"{Path(data).name}, split train")
    print(checkpoint.folder if banks is not None else "There are too few photos or captions.")


if __name__ == "__main__":
    _main(*sys.argv[1:3])
