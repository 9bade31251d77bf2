"""The two encoders that every model offers, and how they pass many inputs through a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crossmodal.models.identity import ModelIdentity
from crossmodal.models.preprocessing import ImagePreprocessing

__all__ = [
    "ImageEncoder",
    "LoadOptions",
    "NetworkImageEncoder",
    "NetworkTextEncoder",
    "Runner",
    "TextEncoder",
    "encode_by_length",
    "encode_in_batches",
]

Floats = npt.NDArray[np.float32]
Item = TypeVar("Item")
Rows = Sequence[Sequence[int]]


class ImageEncoder(Protocol):
    """Photos to embeddings."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def preprocessing(self) -> ImagePreprocessing: ...

    @property
    def runtime(self) -> str:
        """The library and precision that compute, such as ``openvino bf16``."""
        ...

    @property
    def concurrency(self) -> int:
        """How many threads can usefully call ``encode`` at once."""
        ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Model inputs uint8 (N, size, size, 3) as ``preprocessing.crop`` makes them, N from 0 on, to
        embeddings float32 (N, dimension) of unit length.

        Safe from any number of threads. The same inputs in the same order give the same bits.
        """
        ...


class TextEncoder(Protocol):
    """Sentences to embeddings."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def runtime(self) -> str:
        """As ``ImageEncoder.runtime``."""
        ...

    @property
    def concurrency(self) -> int:
        """As ``ImageEncoder.concurrency``."""
        ...

    @property
    def independent(self) -> bool:
        """Whether a sentence's embedding has the same bits whatever is encoded together with it."""
        ...

    def encode(self, texts: Sequence[str]) -> Floats:
        """N sentences, N from 0 on, to embeddings float32 (N, dimension) of unit length.

        Safe from any number of threads. The same sentences in the same order give the same bits.
        """
        ...


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How encoders are loaded; ``registry.load_image_encoder`` describes each option."""

    threads: int | None = None
    cache: Path | None = None
    trust_remote_code: bool = False
    runtime: str = "auto"


@dataclass(frozen=True, slots=True)
class Runner:
    """A tower that is ready to compute.

    ``run`` maps up to ``batch`` model inputs to float32 (N, dimension) of any length. ``concurrency`` threads
    can usefully call it at once. ``runtime`` is the name of its form.
    """

    runtime: str
    concurrency: int
    batch: int
    run: Callable[[Any], Floats]


class NetworkImageEncoder:
    """An ``ImageEncoder`` whose tower is a ``Runner``."""

    def __init__(self, identity: ModelIdentity, preprocessing: ImagePreprocessing, runner: Runner) -> None:
        self.identity = identity
        self.preprocessing = preprocessing
        self.runtime = runner.runtime
        self.concurrency = runner.concurrency
        self._runner = runner
        self._threads = _thread_pool(runner, "photos")

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """As ``ImageEncoder.encode`` says."""
        runner = self._runner
        return encode_in_batches(
            pixels, runner.run, self.identity.dimension, batch=runner.batch, threads=self._threads
        )


class NetworkTextEncoder:
    """A ``TextEncoder`` whose tower is a ``Runner``."""

    def __init__(
        self,
        identity: ModelIdentity,
        tokenize: Callable[[Sequence[str]], Rows],
        runner: Runner,
        *,
        unpadded: bool = False,
        independent: bool = False,
    ) -> None:
        """``tokenize`` maps sentences to rows of token numbers; ``unpadded`` as for ``encode_by_length``."""
        self.identity = identity
        self.runtime = runner.runtime
        self.concurrency = runner.concurrency
        self.independent = independent
        self._tokenize = tokenize
        self._runner = runner
        self._unpadded = unpadded
        self._threads = _thread_pool(runner, "sentences")

    def encode(self, texts: Sequence[str]) -> Floats:
        """As ``TextEncoder.encode`` says."""
        runner = self._runner
        return encode_by_length(
            self._tokenize(texts) if texts else [],
            runner.run,
            self.identity.dimension,
            batch=runner.batch,
            threads=self._threads,
            unpadded=self._unpadded,
        )


def encode_in_batches(
    items: Sequence[Item] | npt.NDArray[np.uint8],
    encode: Callable[..., Floats],
    dimension: int,
    *,
    batch: int,
    threads: Executor | None = None,
) -> Floats:
    """``encode`` of ``batch`` items at a time, scaled to unit length: float32 (len(items), dimension).

    With ``threads`` several batches are encoded at once; the batches themselves stay the same.
    """
    slices = [slice(start, start + batch) for start in range(0, len(items), batch)]
    return _encode_slices(items, slices, encode, dimension, threads)


def encode_by_length(
    rows: Rows,
    encode: Callable[[Rows], Floats],
    dimension: int,
    *,
    batch: int,
    threads: Executor | None = None,
    unpadded: bool = False,
) -> Floats:
    """``encode`` of ``batch`` rows of token numbers at a time, at unit length, in the order of ``rows``.

    ``encode`` gets rows sorted by length, so that little of a batch is padding; with ``unpadded`` all rows of
    a batch have one length. Equal rows are encoded once: in a matrix product the last bits of a row depend on
    its position, and equal captions would not tie.
    """
    keys = [tuple(row) for row in rows]
    distinct = sorted(dict.fromkeys(keys), key=len)
    slices: list[slice] = []
    start = 0
    for _, group in groupby(distinct, key=len if unpadded else lambda _: 0):
        end = start + len(list(group))
        slices += [slice(first, min(first + batch, end)) for first in range(start, end, batch)]
        start = end
    vectors = _encode_slices(distinct, slices, encode, dimension, threads)
    place_of = {row: place for place, row in enumerate(distinct)}
    return vectors[[place_of[key] for key in keys]]


def _encode_slices(
    items: Sequence[Item] | npt.NDArray[np.uint8],
    slices: Sequence[slice],
    encode: Callable[..., Floats],
    dimension: int,
    threads: Executor | None,
) -> Floats:
    vectors = np.empty((len(items), dimension), np.float32)

    def fill(part: slice) -> None:
        rows = encode(items[part])
        # In float64, so that the length is 1 to the last bit that float32 has.
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        vectors[part] = rows / lengths

    done: Iterable[Any] = map(fill, slices)
    if threads is not None and len(slices) > 1:
        done = threads.map(fill, slices)
    for _ in done:
        pass
    return vectors


def _thread_pool(runner: Runner, name: str) -> Executor | None:
    return ThreadPoolExecutor(runner.concurrency, name) if runner.concurrency > 1 else None
