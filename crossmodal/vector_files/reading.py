"""Files of vectors, whoever made them; their layout is recognised, and checked before they are read."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.errors import DataSetError, ModelError
from crossmodal.extras import extra_for
from crossmodal.models.identity import ModelIdentity
from crossmodal.records import TEXT, Failure
from crossmodal.vector_files.rows import Batch, Embedded, embedded_rows

if TYPE_CHECKING:
    import pyarrow.parquet

__all__ = [
    "CAPTIONS",
    "IMAGE_VECTORS",
    "METADATA",
    "MODEL_KEY",
    "TEXT_VECTORS",
    "VectorFiles",
    "open_vector_files",
]

# The folders of clip-retrieval's layout, and the one in which captions that are rows of their own have it.
IMAGE_VECTORS, TEXT_VECTORS, METADATA, CAPTIONS = "img_emb", "text_emb", "metadata", "captions"

# In the metadata of a Parquet file: the identity of the model, as JSON.
MODEL_KEY = b"crossmodal.model"

# The columns of a Parquet file that may hold vectors, of photos and of captions.
_IMAGE_COLUMNS = ("vector", "embedding", "image_embedding", "img_emb")
_TEXT_COLUMNS = ("text_embedding", "text_emb")

_AT_ONCE = 1024

_NUMBERED = re.compile(r"_(\d+)\.(?:npy|parquet)")


class VectorFiles(ABC):
    """Photos and captions with their vectors, in the order of the files; iterating again reads them again.

    ``identity`` is the model that made them, None where the files don't say, ``dimension`` the length of a
    vector, ``rows`` how many there are. A row that cannot be used is a failure, and the others go on.
    """

    identity: ModelIdentity | None = None
    dimension: int
    rows: int

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Embedded | Failure]:
        for batch in self.batches():
            yield from embedded_rows(batch)

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """The rows with their vectors, some at a time."""


def open_vector_files(path: Path) -> VectorFiles:
    """The vectors at ``path``: a folder with ``img_emb/`` and ``metadata/``, or Parquet, a file or a folder.

    Nothing but headers is read yet. Raises DataSetError where it is none of them, a file is missing or
    damaged, the numbers of rows differ, or no column holds vectors; MissingExtra without pyarrow.
    """
    with extra_for("Reading Parquet"):
        import pyarrow.parquet  # noqa: F401
    if path.is_dir():
        folders = [path, *([path / CAPTIONS] if (path / CAPTIONS).is_dir() else [])]
        with_vectors = [each for each in folders if _vector_folders(each)]
        if with_vectors:
            return _Several(path, [_NpyFolder(each) for each in with_vectors])
        if parts := sorted(path.glob("*.parquet")):
            return _ParquetFiles(path, parts)
    elif path.suffix == ".parquet" and path.is_file():
        return _ParquetFiles(path, [path])
    elif path.suffix == ".npy" and path.is_file():
        raise DataSetError(
            f"{path} holds vectors and doesn't say of what. Give the folder that has them in "
            f"{IMAGE_VECTORS}/ and what they are of in {METADATA}/."
        )
    raise DataSetError(
        f"There are no vectors at {path}. It must be a Parquet file, a folder of Parquet files, or a folder "
        f"with {IMAGE_VECTORS}/{IMAGE_VECTORS}_0.npy and {METADATA}/{METADATA}_0.parquet."
    )


class _Several(VectorFiles):
    """The vectors of photos and those of captions, each in a folder."""

    def __init__(self, path: Path, folders: Sequence[VectorFiles]) -> None:
        super().__init__(path)
        self._folders = folders
        first, *others = folders
        for other in others:
            _require_same(first, other)
        self.identity, self.dimension = first.identity, first.dimension
        self.rows = sum(folder.rows for folder in folders)

    def batches(self) -> Iterator[Batch]:
        for folder in self._folders:
            yield from folder.batches()


class _NpyFolder(VectorFiles):
    """Parts by number: ``img_emb/img_emb_0.npy`` float (n, dimension) and ``metadata/metadata_0.parquet``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._vectors = _vector_folders(path)
        self._metadata = _parts(path / METADATA, "parquet")
        for name in self._vectors:
            self._require_the_same_parts(name)
        if not self._metadata:
            raise DataSetError(
                f"{path / METADATA} has no {METADATA}_0.parquet, which says what the vectors are of."
            )
        self.rows = 0
        dimensions: dict[int, Path] = {}
        for number, described in self._metadata.items():
            rows, model = _rows_and_model(described)
            self.identity = _same_model(self.identity, model, described)
            self.rows += rows
            for name in self._vectors:
                file = self._vectors[name][number]
                vectors = _mapped(file)
                dimensions.setdefault(vectors.shape[1], file)
                if len(vectors) != rows:
                    raise DataSetError(
                        f"{file} has {len(vectors):,} vectors, but {described} has {rows:,} rows; there must "
                        "be one vector for each row."
                    )
        self.dimension = _only_length(path, dimensions)

    def batches(self) -> Iterator[Batch]:
        for number, described in self._metadata.items():
            vectors = {name: _mapped(parts[number]) for name, parts in self._vectors.items()}
            first = 0
            for rows in _read_rows(described):
                place = slice(first, first + len(rows))
                sides: list[Sequence[NDArray[Any] | None]] = [
                    [None] * len(rows) if name not in vectors else list(np.array(vectors[name][place]))
                    for name in (IMAGE_VECTORS, TEXT_VECTORS)
                ]
                yield Batch(str(described), first + 1, rows, *sides)
                first += len(rows)

    def _require_the_same_parts(self, name: str) -> None:
        for number in sorted(self._vectors[name].keys() ^ self._metadata.keys()):
            there = self._vectors[name].get(number) or self._metadata[number]
            missing = (
                f"{METADATA}_{number}.parquet" if number in self._vectors[name] else f"{name}_{number}.npy"
            )
            raise DataSetError(f"There is {there}, but no {missing} that belongs to it.")


class _ParquetFiles(VectorFiles):
    """Files with a column of vectors beside those that say what they are of."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        super().__init__(path)
        self._files = files
        self.rows = 0
        lengths: dict[int, Path] = {}
        for file in files:
            with _opened(file) as opened:
                _require_vectors(file, opened)
                self.rows += opened.metadata.num_rows
                self.identity = _same_model(self.identity, _model_of(file, opened), file)
                if (length := self._first_length(opened)) is not None:
                    lengths.setdefault(length, file)
        if not lengths:
            raise DataSetError(f"There are no vectors in {path}: the {self.rows:,} rows have none.")
        self.dimension = _only_length(path, lengths)

    def batches(self) -> Iterator[Batch]:
        for file in self._files:
            first = 1
            with _opened(file) as opened:
                for batch in opened.iter_batches(_AT_ONCE):
                    image = _vectors(batch, _IMAGE_COLUMNS)
                    text = _vectors(batch, _TEXT_COLUMNS)
                    others = [
                        name
                        for name in batch.schema.names
                        if name not in _IMAGE_COLUMNS and name not in _TEXT_COLUMNS
                    ]
                    rows = batch.select(others).to_pylist() if others else [{}] * len(batch)
                    # Where each document is a row, its vector stands in one column, whatever it is.
                    for place, row in enumerate(rows):
                        if row.get("modality") == TEXT and text[place] is None:
                            image[place], text[place] = None, image[place]
                    yield Batch(str(file), first, rows, image, text)
                    first += len(rows)

    def _first_length(self, opened: pyarrow.parquet.ParquetFile) -> int | None:
        for columns in (_IMAGE_COLUMNS, _TEXT_COLUMNS):
            names = [name for name in columns if name in opened.schema_arrow.names]
            for batch in opened.iter_batches(_AT_ONCE, columns=names):
                for vector in _vectors(batch, columns):
                    if vector is not None:
                        return len(vector)
        return None


def _only_length(path: Path, lengths: Mapping[int, Path]) -> int:
    """The length of all vectors, of which ``lengths`` says where each was found first."""
    if len(lengths) > 1:
        said = ", ".join(f"{length} in {file}" for length, file in lengths.items())
        raise DataSetError(f"The vectors in {path} are of different lengths: {said}.")
    (length,) = lengths
    return length


def _require_vectors(file: Path, opened: pyarrow.parquet.ParquetFile) -> None:
    """Raises DataSetError without a column that may hold vectors, and for one that holds something else."""
    from pyarrow import types

    wanted = (*_IMAGE_COLUMNS, *_TEXT_COLUMNS)
    found = [field for field in opened.schema_arrow if field.name in wanted]
    if not found:
        raise DataSetError(
            f"{file} has no column of vectors: none of {', '.join(wanted)}. It has "
            f"{', '.join(opened.schema_arrow.names)}."
        )
    for field in found:
        kind = field.type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if not is_list or not types.is_floating(kind.value_type):
            raise DataSetError(
                f"The column {field.name} of {file} is of the type {kind}; it must be a list of "
                "floating-point numbers."
            )


def _vector_folders(path: Path) -> dict[str, dict[int, Path]]:
    """The parts of each kind of vectors that there are in a folder, by their numbers."""
    found = {name: _parts(path / name, "npy") for name in (IMAGE_VECTORS, TEXT_VECTORS)}
    return {name: parts for name, parts in found.items() if parts}


def _parts(folder: Path, ending: str) -> dict[int, Path]:
    found = {
        int(numbered[1]): file
        for file in folder.glob(f"{folder.name}_*.{ending}")
        if (numbered := _NUMBERED.search(file.name))
    }
    return dict(sorted(found.items()))


def _mapped(file: Path) -> NDArray[Any]:
    try:
        vectors: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataSetError(f"{file} cannot be read as npy ({error}).") from None
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise DataSetError(
            f"{file} holds {vectors.dtype} of the shape {vectors.shape}; it must hold floating-point "
            "numbers, (vectors, dimension)."
        )
    return vectors


@contextmanager
def _opened(file: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            yield opened
    except (OSError, pyarrow.ArrowException) as error:
        raise DataSetError(f"{file} cannot be read as Parquet ({error}).") from None


def _rows_and_model(file: Path) -> tuple[int, ModelIdentity | None]:
    with _opened(file) as opened:
        return opened.metadata.num_rows, _model_of(file, opened)


def _model_of(file: Path, opened: pyarrow.parquet.ParquetFile) -> ModelIdentity | None:
    said: Mapping[bytes, bytes] = opened.schema_arrow.metadata or {}
    if MODEL_KEY not in said:
        return None
    try:
        return ModelIdentity.from_json(json.loads(said[MODEL_KEY]))
    except (ValueError, ModelError):
        raise DataSetError(f"{file} names its model (crossmodal.model) in no form that is known.") from None


def _same_model(known: ModelIdentity | None, model: ModelIdentity | None, file: Path) -> ModelIdentity | None:
    if known is not None and model is not None and model != known:
        raise DataSetError(f"The vectors of {file} were made by {model}, and those before by {known}.")
    return known or model


def _read_rows(file: Path) -> Iterator[list[dict[str, Any]]]:
    with _opened(file) as opened:
        for batch in opened.iter_batches(_AT_ONCE):
            yield batch.to_pylist()


def _vectors(batch: Any, columns: Sequence[str]) -> list[NDArray[Any] | None]:
    """The vectors of a batch, from the first of ``columns`` that it has; None for a row without one."""
    name = next((each for each in columns if each in batch.schema.names), None)
    if name is None:
        return [None] * len(batch)
    return [
        np.asarray(value.values.to_numpy(zero_copy_only=False)) if value.is_valid else None
        for value in batch.column(name)
    ]


def _require_same(first: VectorFiles, other: VectorFiles) -> None:
    if first.dimension != other.dimension:
        raise DataSetError(
            f"The vectors in {first.path} have {first.dimension} dimensions, and those in {other.path} "
            f"{other.dimension}."
        )
    if first.identity != other.identity:
        raise DataSetError(f"The vectors in {first.path} and {other.path} are those of two models.")
