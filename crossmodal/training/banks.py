"""The banks of a model of our own, made of photos and captions that it was trained on.

``python -m crossmodal.training.banks clip-mini CONFIG.json`` writes those of a shipped model again, of
what the configuration trains on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from crossmodal.models.hubness import Banks
from crossmodal.models.native.checkpoint import NativeCheckpoint
from crossmodal.models.registry import find_native, load_image_encoder, load_text_encoder
from crossmodal.records import IMAGE, TEXT
from crossmodal.training.config import TrainingConfig
from crossmodal.training.content_store import ContentStore
from crossmodal.training.pairs import Pairs, collect_pairs, input_store
from crossmodal.training.sources import training_records

__all__ = ["centroids", "write_banks"]

Floats = npt.NDArray[np.float32]

# Vectors of each bank: 1 MB in all at 512 dimensions. So many means of near vectors do as well as thousands
# of single ones (docs/training.md).
_BANK = {IMAGE: 600, TEXT: 1500}

# Fewer photos or captions make no banks.
_LEAST = 300

# What the banks are made of, chosen by chance: more changes little, and takes minutes.
_PHOTOS = 4000
_CAPTIONS = 12_000

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

    None, and no file, where there are fewer than 300 photos or captions: banks of so few say more of these
    than of hubness.
    """
    if min(len(pairs.digests), len(pairs.captions)) < _LEAST:
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
        centroids(np.concatenate(vectors), min(len(photos), _BANK[IMAGE])),
        centroids(np.concatenate(sentences), min(len(captions), _BANK[TEXT])),
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


def _main(model: str, path: str) -> None:
    checkpoint = find_native(model)
    if checkpoint is None:
        raise SystemExit(f"{model} is no model of this project.")
    with TemporaryDirectory() as folder:
        inputs = input_store(Path(folder), checkpoint.preprocessing)
        records = training_records(TrainingConfig.load(Path(path)), Path())
        pairs = collect_pairs(records, {checkpoint.preprocessing: inputs})
        banks = write_banks(checkpoint, inputs, pairs, data="those it was trained on")
    print(checkpoint.folder if banks is not None else "There are too few photos or captions.")


if __name__ == "__main__":
    _main(*sys.argv[1:3])
