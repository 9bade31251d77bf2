"""Short codes of many vectors, in which faiss finds candidates quickly, and the file that stores them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import StoreFormat
from crossmodal.index.embedded.compared import EXTRA
from crossmodal.index.embedded.derived_file import codes_file
from crossmodal.index.embedded.options import SearchOptions, directions_of, subquantizers
from crossmodal.index.embedded.projection import PROJECTED_EXTRA, projection

__all__ = [
    "CELL_ROUNDS",
    "EXACT_RECALL",
    "UNKNOWN_RECALL",
    "Codes",
    "CodesFile",
    "Recall",
    "cells_of",
    "coded_components",
    "probes_of",
    "search_parameters",
    "train_codes",
    "training_size",
]

# faiss's annotations don't know what its Python layer adds and replaces.
_faiss: Any = faiss

# faiss's k-means takes 256 points a centroid, and a 4-bit code has 16 centroids: more changes nothing.
_TRAINED_ON = 16_384

# The points for each cell of an IVF; faiss warns below 39.
_POINTS_PER_CELL = 50

# Of the training of cells.
CELL_ROUNDS = 10

# Vectors that are coded between two looks at whether to go on.
_CODED_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class Recall:
    """The share in 0 to 1 of the ten best that were found, None where unknown, and how it was measured."""

    value: float | None
    measured: str


EXACT_RECALL = Recall(1.0, "every vector is compared")
UNKNOWN_RECALL = Recall(None, "not measured yet")


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The codes of all rows below ``next_row`` that were alive when they were made; never changed.

    ``tier`` is a kind of ``options.SearchOptions`` and ``recipe`` faiss's name for it. ``rows`` uint64 (n,),
    ascending, says whose codes they are. ``distortion`` is the squared error of the codes in relation to the
    squared lengths, over the vectors they were trained on; None for codes that can't be decoded. The first
    ``trained_for`` rows were there at the training.
    """

    tier: str
    recipe: str
    index: Any
    rows: NDArray[np.uint64]
    next_row: int
    trained_for: int
    distortion: float | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def cells(self) -> int:
        """The cells of an IVF, 0 for codes that are not in cells."""
        return int(getattr(_inner(self.index), "nlist", 0))

    def candidates(
        self, queries: NDArray[np.float32], count: int, parameters: Any = None
    ) -> list[NDArray[np.uint64]]:
        """For each row of ``queries`` (m, dimension) the rows whose codes are nearer than the ``count``-th.

        Rows with equal codes are all in or all out, so that the answer depends on query and codes alone.
        """
        scores, labels = self.index.search(queries, count, params=parameters)
        found = []
        for near, places in zip(scores, labels, strict=True):
            if places[-1] >= 0:
                falls = self.index.metric_type == _faiss.METRIC_INNER_PRODUCT
                places = places[near > near[-1] if falls else near < near[-1]]
            found.append(self.rows[places[places >= 0]])
        return found

    def distortion_of(self, vectors: NDArray[np.float32]) -> float | None:
        """The same measure as ``distortion`` for other vectors (n, dimension)."""
        return _distortion(self.index, vectors)

    def extended(
        self,
        rows: NDArray[np.uint64],
        next_row: int,
        parts: Iterable[NDArray[np.float32]],
        *,
        progress: Callable[[float], None] | None = None,
    ) -> Codes:
        """Codes of the same training for the rows here and for ``rows`` (m,), whose vectors come in parts.

        ``progress`` is called with the share done, and ends the work by raising.
        """
        index = _faiss.deserialize_index(_faiss.serialize_index(self.index))
        _add(index, parts, len(rows), progress)
        return replace(self, index=index, rows=np.concatenate([self.rows, rows]), next_row=next_row)

    def fits(self, tier: str, options: SearchOptions, dimension: int) -> bool:
        """Whether these are what ``tier`` and ``options`` ask for."""
        recipe = _recipe(tier, options, self.trained_for, dimension)
        return self.recipe == recipe and self.index.d == dimension and self.tier == tier


def train_codes(
    tier: str,
    options: SearchOptions,
    sample: NDArray[np.float32],
    rows: NDArray[np.uint64],
    next_row: int,
    parts: Iterable[NDArray[np.float32]],
    *,
    progress: Callable[[float], None] | None = None,
) -> Codes:
    """Codes trained on ``sample`` (m, dimension), for ``rows`` (n,) whose vectors come in ``parts``.

    ``progress`` is called with the share done, and ends the work by raising.
    """
    dimension = sample.shape[1]
    recipe = _recipe(tier, options, len(rows), dimension)
    metric = _faiss.METRIC_L2 if tier == "lsh" else _faiss.METRIC_INNER_PRODUCT
    kept = coded_components(tier, len(rows), dimension)
    index: Any = _faiss.index_factory(kept, recipe, metric)
    if tier in ("ivf", "ivfpq"):
        # faiss's 25 rounds find hardly better cells, and take minutes for a thousand of 512 dimensions.
        index.cp.niter = CELL_ROUNDS
    if tier == "ivfpq":
        # Else faiss warns where there are few vectors; rough codes cost only time.
        index.pq.cp.min_points_per_centroid = 1
    if kept != dimension:
        index = _faiss.IndexPreTransform(index)
        index.prepend_transform(projection(sample, kept - PROJECTED_EXTRA))
    index.train(sample)
    # Over all of it, of which the older vectors come first.
    distortion = _distortion(index, sample[:: -(-len(sample) // _CODED_AT_ONCE)])
    _add(index, parts, len(rows), progress)
    return Codes(tier, recipe, index, rows, next_row, len(rows), distortion)


def training_size(tier: str, options: SearchOptions, count: int) -> int:
    """How many of ``count`` vectors are enough to train on."""
    cells = cells_of(options, count) if tier in ("ivf", "ivfpq") else 0
    return min(count, max(_TRAINED_ON, _POINTS_PER_CELL * cells))


def search_parameters(codes: Codes, options: SearchOptions, widening: int) -> Any:
    """The parameters of a search of ``codes``, with 2**``widening`` times the effort of the first look.

    Each search has an object of its own, as faiss's own settings belong to all searches.
    """
    if codes.cells:
        probes = probes_of(codes, options) << widening
        parameters = _faiss.SearchParametersIVF(nprobe=min(probes, codes.cells))
        if isinstance(codes.index, _faiss.IndexPreTransform):
            parameters = _faiss.SearchParametersPreTransform(index_params=parameters)
        return parameters
    if codes.tier == "hnsw":
        return _faiss.SearchParametersHNSW(efSearch=options.ef << widening)
    return None


def probes_of(codes: Codes, options: SearchOptions) -> int:
    """How many cells of an IVF the first look goes into: an eighth of them where nothing is given."""
    return options.probes or max(1, codes.cells // 8)


def _recipe(tier: str, options: SearchOptions, count: int, dimension: int) -> str:
    """The codes of ``tier`` in the language of faiss's index factory."""
    dimension = coded_components(tier, count, dimension)
    pairs = f"PQ{subquantizers(dimension)}x4fs"
    match tier:
        case "scan" | "coarse":
            return pairs
        case "ivf":
            return f"IVF{cells_of(options, count)},{pairs}"
        case "ivfpq":
            # One byte for four dimensions, as far as they can be divided so; "np" spares the training of an
            # order of the codes that only polysemous search uses, which takes minutes.
            bytes_a_vector = max(number for number in range(1, dimension // 4 + 2) if dimension % number == 0)
            return f"IVF{cells_of(options, count)},PQ{bytes_a_vector}x8np"
        case "hnsw":
            return f"HNSW{options.links},SQ8"
        case "lsh":
            return f"LSH{options.bits or 4 * dimension}r"
    raise ValueError(f"{tier!r} has no codes")


def coded_components(tier: str, count: int, dimension: int) -> int:
    """How many numbers of each vector the codes of ``tier`` are of, for ``count`` rows (count, dimension).

    ``dimension`` is that of what is compared, and of codes that are not of principal directions.
    """
    match tier:
        case "coarse":
            return directions_of(dimension - EXTRA, count) + PROJECTED_EXTRA
        case "ivf":
            return directions_of(dimension - EXTRA) + PROJECTED_EXTRA
    return dimension


def cells_of(options: SearchOptions, count: int) -> int:
    """Cells of an IVF: those given, or the power of two nearest to 2 sqrt(n), each with enough vectors."""
    wanted = options.cells or 2 ** round(math.log2(2 * math.sqrt(max(count, 1))))
    return int(max(1, min(wanted, count // _POINTS_PER_CELL)))


def _add(
    index: Any,
    parts: Iterable[NDArray[np.float32]],
    count: int,
    progress: Callable[[float], None] | None,
) -> None:
    done = 0
    for part in _pieces(parts):
        if progress is not None:
            progress(done / max(count, 1))
        index.add(part)
        done += len(part)


def _pieces(parts: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    for part in parts:
        for start in range(0, len(part), _CODED_AT_ONCE):
            yield np.ascontiguousarray(part[start : start + _CODED_AT_ONCE])


def _distortion(index: Any, vectors: NDArray[np.float32]) -> float | None:
    decoded = _decoded(index, vectors)
    lengths = float(np.einsum("ij,ij->", vectors, vectors, dtype=np.float64))
    if decoded is None or not lengths:
        return None
    errors = decoded - vectors
    return float(np.einsum("ij,ij->", errors, errors, dtype=np.float64)) / lengths


def _inner(index: Any) -> Any:
    """What holds the codes of ``index``."""
    return _faiss.downcast_index(index.index) if isinstance(index, _faiss.IndexPreTransform) else index


def _decoded(index: Any, vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    if isinstance(index, _faiss.IndexPreTransform):
        transform = _faiss.downcast_VectorTransform(index.chain.at(0))
        kept = _decoded(_inner(index), transform.apply(vectors))
        back: NDArray[np.float32] | None = None if kept is None else transform.reverse_transform(kept)
        return back
    if isinstance(index, _faiss.IndexPQFastScan | _faiss.IndexIVFPQFastScan):
        found: NDArray[np.float32] = index.pq.decode(index.pq.compute_codes(vectors))
        return found
    codec = _faiss.downcast_index(index.storage) if isinstance(index, _faiss.IndexHNSW) else index
    if isinstance(codec, _faiss.IndexLSH):
        return None
    decoded: NDArray[np.float32] = codec.sa_decode(codec.sa_encode(vectors))
    return decoded


class CodesFile:
    """The file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = codes_file(path)

    def write(
        self, store_id: str, sequence: int, codes: Codes, recall: Recall, rerank: int, probes: int
    ) -> bool:
        """Replace the file; False if another process is doing so. Raises OSError and leaves the old file.

        ``sequence`` is that of the store's commit that the codes show; ``recall`` was measured with
        ``rerank`` and ``probes``.
        """
        header = {
            "store": store_id,
            "sequence": sequence,
            "next_row": codes.next_row,
            "tier": codes.tier,
            "recipe": codes.recipe,
            "trained_for": codes.trained_for,
            "distortion": codes.distortion,
            "recall": recall.value,
            "recall_measured": recall.measured,
            "rerank": rerank,
            "probes": probes,
        }
        arrays: list[tuple[str, list[NDArray[Any]]]] = [
            ("rows", [codes.rows]),
            ("index", [faiss.serialize_index(codes.index)]),
        ]
        return self._file.write(arrays, header)

    def read(self, store_id: str, sequence: int) -> tuple[Codes, Recall, int, int]:
        """Codes, recall, rerank and probes as they were written, for the store at ``sequence``.

        Raises ``StoreFormat`` (damaged, another version, also of faiss, of another store or of a later
        commit), FileNotFoundError or OSError.
        """
        header: dict[str, Any]
        header, arrays = self._file.read()
        if header["store"] != store_id or header["sequence"] > sequence:
            raise StoreFormat(f"{self.path} is not of this store as it is now")
        try:
            index = faiss.deserialize_index(arrays["index"])
        except RuntimeError as error:
            raise StoreFormat(f"{self.path} holds codes that this version of faiss cannot read") from error
        codes = Codes(
            header["tier"],
            header["recipe"],
            index,
            # Not mapped: every search reads some of them.
            arrays["rows"].copy(),
            header["next_row"],
            header["trained_for"],
            header["distortion"],
        )
        return codes, Recall(header["recall"], header["recall_measured"]), header["rerank"], header["probes"]

    def remove(self) -> None:
        """Delete the file, if it is there. Raises OSError."""
        self.path.unlink(missing_ok=True)
